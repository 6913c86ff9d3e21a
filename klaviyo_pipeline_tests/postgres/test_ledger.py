"""The ledger: what a window's row says after each kind of attempt."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from klaviyo_pipeline.postgres.ledger import ERROR_LENGTH, Ledger
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline_tests.postgres.store import SLUG, Store, minute, synced, window


def done(store: Store, metric: str | None = None, entity: str = "flows") -> dict[datetime, datetime]:
    with store.engine.connect() as connection:
        return Ledger(SLUG, entity).done(connection, conversion_metric_id=metric)


def test_a_synced_window_reports_what_came(store: Store) -> None:
    store.record("flows", synced(0, minute(1), 10, 3, RowCounts(4, 2, 1)), run_id="first run")
    counts = ("rows_fetched", "rows_inserted", "rows_updated", "rows_unchanged", "rows_deleted", "requests", "attempts")
    assert store.ledger("flows", "status", *counts) == [("synced", 10, 4, 2, 4, 1, 3, 1)]
    assert store.ledger("flows", "window_start", "window_end", "asked_at", "run_id", "error") == [
        (window(0).start, window(0).end, minute(1), "first run", None)
    ]


def test_requested_and_nothing_there_is_a_row(store: Store) -> None:
    store.record("flows", synced(0, minute(1)))
    assert store.ledger("flows", "status", "rows_fetched") == [("synced", 0)]


def test_each_entity_has_windows_of_its_own(store: Store) -> None:
    store.record("flows", synced(0, minute(1)))
    store.record_failed("campaigns", 0)
    assert store.rows("SELECT entity, status FROM sync_windows ORDER BY 1") == [
        ("campaigns", "failed"),
        ("flows", "synced"),
    ]


def test_a_failed_attempt_leaves_the_reason_and_nothing_else(store: Store) -> None:
    store.record_failed("flows", 0, error="no answer")
    names = ("status", "error", "attempts", "asked_at", "rows_fetched", "run_id")
    assert store.ledger("flows", *names) == [("failed", "no answer", 1, None, 0, "bad run")]
    assert done(store) == {}


def test_a_failed_attempt_never_takes_synced_away(store: Store) -> None:
    store.record("flows", synced(0, minute(1), 5), run_id="good run")
    kept = ("status", "asked_at", "rows_fetched", "run_id", "started_at", "finished_at")
    before = store.ledger("flows", *kept)
    store.record_failed("flows", 0, error="no answer")
    assert store.ledger("flows", *kept) == before
    assert store.ledger("flows", "error", "attempts") == [("no answer", 2)]


def test_a_synced_attempt_clears_the_error_and_counts_every_attempt(store: Store) -> None:
    store.record_failed("flows", 0)
    store.record_failed("flows", 0)
    store.record("flows", synced(0, minute(1)), run_id="good run")
    assert store.ledger("flows", "status", "error", "attempts", "run_id") == [("synced", None, 3, "good run")]


def test_a_failure_after_a_failure_reports_the_later_reason_and_run(store: Store) -> None:
    store.record_failed("flows", 0, error="first", run_id="one")
    store.record_failed("flows", 0, error="second", run_id="two")
    assert store.ledger("flows", "error", "run_id", "attempts") == [("second", "two", 2)]


def test_a_long_reason_is_cut(store: Store) -> None:
    store.record_failed("flows", 0, error="x" * 100_000)
    assert store.ledger("flows", "length(error)") == [(ERROR_LENGTH,)]


@pytest.mark.parametrize("order", [(1, 5), (5, 1)], ids=["in order", "the later first"])
def test_of_two_attempts_the_one_that_requested_later_stands(store: Store, order: tuple[int, int]) -> None:
    for requested in order:
        store.record("flows", synced(0, minute(requested), rows=requested), run_id=f"run {requested}")
    assert store.ledger("flows", "asked_at", "rows_fetched", "run_id") == [(minute(5), 5, "run 5")]


@pytest.mark.parametrize(
    ("after_end", "is_done"),
    [
        (timedelta(hours=-1), False),
        (timedelta(0), False),
        (timedelta(seconds=4, microseconds=999_999), False),
        (timedelta(seconds=5), True),
        (timedelta(days=9), True),
    ],
)
def test_a_window_is_done_when_it_was_requested_five_seconds_after_its_end(
    store: Store, after_end: timedelta, is_done: bool
) -> None:
    asked_at = window(0).end + after_end
    store.record("flows", synced(0, asked_at))
    assert done(store) == ({window(0).start: asked_at} if is_done else {})


def test_a_window_requested_with_another_conversion_metric_is_missing(store: Store) -> None:
    late = window(9).end
    store.record("flow_report", synced(0, late), metric="old")
    store.record("flow_report", synced(1, late), metric="new")
    store.record("flow_report", synced(2, late))
    assert set(done(store, "new", "flow_report")) == {window(1).start}
    assert len(done(store, None, "flow_report")) == 3


def test_windows_are_recorded_together_or_not_at_all(store: Store) -> None:
    broken = synced(1, minute(1), rows=2**80)
    with pytest.raises(Exception, match="out of range"):
        store.record("flows", synced(0, minute(1)), broken)
    assert store.ledger("flows", "status") == []


def test_the_synced_windows_of_a_span_are_reported_with_the_moment_they_were_requested(store: Store) -> None:
    for number in (0, 1, 3):
        store.record("flows", synced(number, minute(number)))
    store.record_failed("flows", 2)
    with store.engine.connect() as connection:
        requested = Ledger(SLUG, "flows").requested(connection, [window(number) for number in (1, 2, 3)])
    assert requested == {window(1).start: minute(1), window(3).start: minute(3)}
