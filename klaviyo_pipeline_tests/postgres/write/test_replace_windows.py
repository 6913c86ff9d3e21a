"""Windows of reports: a day is replaced as a whole, and only by a newer answer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.writer import ConcurrentReplacement, Writer
from klaviyo_pipeline_tests.postgres.store import SLUG, Store, day, days, figures, frame, minute, window

KEY = ("flow_id", "flow_message_id", "send_channel", "date", "conversion_metric_id")
COLUMNS = (*KEY, "delivered", "observed_at", "_window")


def answer(first: int, last: int, asked_at: datetime, **delivered: Sequence[int]) -> tuple[Batch, Load]:
    """An answer of the report for these days: the deliveries of each day, by flow (0: no row)."""
    rows = [
        figures(id, day(first + place), asked_at, figure, _window=place)
        for id, row in delivered.items()
        for place, figure in enumerate(row)
        if figure
    ]
    windows = [window(number) for number in range(first, last + 1)]
    completes = [CompletedWindow(one, asked_at, 0) for one in windows]
    batch = Batch(frame(rows, COLUMNS), completes, days(first, last, asked_at))
    return batch, Load([batch], windows)


def write(store: Store, first: int, last: int, asked_at: datetime, **delivered: Sequence[int]) -> RowCounts:
    """Write an answer as a run does; return the changes."""
    _, load = answer(first, last, asked_at, **delivered)
    writer = Writer(store.engine, store.target("flow_report"), Ledger(SLUG, "flow_report"), load, "run")
    writer.run()
    return writer.total


def stored(store: Store) -> dict[str, list[tuple[int, int]]]:
    """The days (by number) and their deliveries, by flow."""
    by_flow: dict[str, list[tuple[int, int]]] = {}
    for id, date, delivered in store.rows("SELECT flow_id, date, delivered FROM flow_report ORDER BY flow_id, date"):
        by_flow.setdefault(id, []).append(((date - day(0)).days, int(delivered)))
    return by_flow


def test_a_day_is_replaced_as_a_whole(store: Store) -> None:
    write(store, 0, 1, minute(0), a=[1, 2], b=[3, 4])
    assert write(store, 0, 1, minute(1), a=[1, 9], c=[5, 0]) == RowCounts(inserted=1, updated=1, deleted=2)
    assert stored(store) == {"a": [(0, 1), (1, 9)], "c": [(0, 5)]}


def test_other_days_are_not_touched(store: Store) -> None:
    write(store, 0, 2, minute(0), a=[1, 2, 3])
    write(store, 1, 1, minute(1))
    assert stored(store) == {"a": [(0, 1), (2, 3)]}


def test_the_history_of_a_deleted_row_ends_at_the_request_of_the_answer_without_it(store: Store) -> None:
    write(store, 0, 0, minute(0), a=[1], b=[2])
    write(store, 0, 0, minute(1), b=[2])
    write(store, 0, 0, minute(2), a=[7], b=[2])
    query = "SELECT delivered, valid_from, valid_to FROM flow_report_history WHERE flow_id = :id ORDER BY valid_from"
    assert store.rows(query, id="a") == [(1, minute(0), minute(1)), (7, minute(2), None)]
    assert store.rows(query, id="b") == [(2, minute(0), None)]


def test_the_same_answer_again_writes_no_row(store: Store) -> None:
    write(store, 0, 1, minute(0), a=[1, 2])
    before = store.versions("flow_report", "flow_report_superseded")
    assert write(store, 0, 1, minute(1), a=[1, 2]) == RowCounts()
    assert store.versions("flow_report", "flow_report_superseded") == before


def test_an_empty_answer_empties_the_day(store: Store) -> None:
    write(store, 0, 0, minute(0), a=[1], b=[1])
    assert write(store, 0, 0, minute(1)) == RowCounts(deleted=2)
    assert stored(store) == {}


def test_deleted_rows_count_for_their_own_day(store: Store) -> None:
    write(store, 0, 2, minute(0), a=[1, 2, 3], b=[1, 2, 3])
    write(store, 0, 2, minute(1), a=[1, 0, 3], b=[1, 0, 0])
    assert store.ledger("flow_report", "rows_deleted") == [(0,), (2,), (1,)]


def test_an_older_answer_that_is_written_late_changes_nothing(store: Store) -> None:
    write(store, 0, 1, minute(5), a=[1, 2], b=[3, 4])
    before = store.versions("flow_report", "flow_report_superseded", "sync_windows")
    assert write(store, 0, 1, minute(3), a=[9, 9], c=[9, 9]) == RowCounts()
    assert store.versions("flow_report", "flow_report_superseded", "sync_windows") == before


def test_an_older_answer_replaces_only_days_without_a_later_request(store: Store) -> None:
    write(store, 0, 3, minute(0), a=[1, 1, 1, 1], gone=[1, 1, 1, 1])
    write(store, 2, 3, minute(5), a=[5, 5])
    write(store, 0, 3, minute(3), a=[3, 3, 3, 3], late=[3, 3, 3, 3])
    assert stored(store) == {"a": [(0, 3), (1, 3), (2, 5), (3, 5)], "late": [(0, 3), (1, 3)]}
    assert [requested for (requested,) in store.ledger("flow_report", "asked_at")] == [minute(3)] * 2 + [minute(5)] * 2


def test_an_older_answer_around_a_newer_one_is_refused_whole(store: Store) -> None:
    write(store, 1, 1, minute(5), a=[5])
    with pytest.raises(ConcurrentReplacement, match="run this one again"):
        write(store, 0, 2, minute(3), a=[3, 3, 3])
    assert stored(store) == {"a": [(1, 5)]}
    assert store.ledger("flow_report", "window_start") == [(window(1).start,)]


def test_replacing_writers_take_turns_and_the_newer_answer_stays(store: Store) -> None:
    store.merge("flow_report", [figures("old", day(0), minute(0))])
    target = store.target("flow_report")
    batches = [answer(0, 9, minute(number), **{f"f{number}": range(1, 11)}) for number in range(1, 7)]

    def run(load: Load) -> None:
        Writer(store.engine, target, Ledger(SLUG, "flow_report"), load, "run").run()

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(run, load) for _, load in batches[::2] + batches[1::2]]:
            done.result()
    assert stored(store) == {"f6": [(number, number + 1) for number in range(10)]}
    assert {requested for (requested,) in store.ledger("flow_report", "asked_at")} == {minute(6)}


def write_metrics(store: Store, computed_at: datetime, reported_at: datetime | None, *flows: str) -> None:
    """Write the metrics of a day from a report requested at `reported_at`; without a report the day stays open."""
    row = {"date": day(0), "messages": 1, "observed_at": computed_at, "_window": 0}
    completes = [CompletedWindow(window(0), reported_at, 0)] if reported_at else []
    computed = frame([{"flow_id": id, **row} for id in flows], ["flow_id", *row])
    load = Load([Batch(computed, completes, days(0, 0, computed_at))], [window(0)])
    Writer(store.engine, store.target("flow_metrics"), Ledger(SLUG, "flow_metrics"), load, "run").run()


@pytest.mark.parametrize("reported_at", [None, minute(0)], ids=["no report", "an older report"])
def test_metrics_of_an_older_report_do_not_clear_a_day(store: Store, reported_at: datetime | None) -> None:
    """The run began to compute after the request for the newer report, but before that report was written."""
    write_metrics(store, minute(5), minute(1), "a")
    write_metrics(store, minute(3), reported_at)
    assert store.values("SELECT flow_id FROM flow_metrics") == ["a"]


def test_metrics_of_the_same_report_again_replace_the_day(store: Store) -> None:
    write_metrics(store, minute(3), minute(1), "a", "b")
    write_metrics(store, minute(5), minute(1), "b", "c")
    assert store.values("SELECT flow_id FROM flow_metrics ORDER BY 1") == ["b", "c"]
