"""The merge: which rows are written, and which are not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.channels import CHANNELS
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.write.merge import merge
from klaviyo_pipeline_tests.postgres.store import Store, campaign, day, figures, flow, frame, minute

FLOWS = ("flows", "flows_superseded")


def names(store: Store) -> list[tuple[Any, ...]]:
    return store.rows("SELECT id, name FROM flows ORDER BY id")


def test_a_first_load_inserts_every_row_and_starts_its_history(store: Store) -> None:
    assert store.merge("flows", [flow("a", minute(0)), flow("b", minute(1))]) == RowCounts(inserted=2)
    assert names(store) == [("a", "Welcome"), ("b", "Welcome")]
    assert store.rows("SELECT id, valid_from, valid_to FROM flows_history ORDER BY id") == [
        ("a", minute(0), None),
        ("b", minute(1), None),
    ]


def test_unchanged_rows_are_not_written_at_all(store: Store) -> None:
    store.merge("flows", [flow(f"f{n}", minute(0)) for n in range(50)])
    before = store.versions(*FLOWS)
    assert store.merge("flows", [flow(f"f{n}", minute(5)) for n in range(50)]) == RowCounts()
    assert store.versions(*FLOWS) == before
    assert set(store.values("SELECT xmax::text FROM flows")) == {"0"}, "a row was locked"


def wal_of(store: Store, rows: Sequence[dict[str, Any]]) -> int:
    """Bytes of write-ahead log that this merge writes, including its commit."""
    target, given = store.target("flows"), frame(rows)
    position = sa.text("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    with store.engine.connect() as watcher:
        before = watcher.execute(position).scalar_one()
        with store.engine.begin() as connection:
            merge(connection, target, given)
        return int(watcher.execute(position).scalar_one() - before)


def test_an_unchanged_load_writes_almost_no_write_ahead_log(store: Store) -> None:
    rows = [flow(f"f{n:05}", minute(0), raw={"text": f"{n}" * 300}) for n in range(5_000)]
    first = wal_of(store, rows)
    # The first read of new pages may set hint bits; the next load is the usual case.
    store.rows("SELECT count(*) FROM flows")
    again = wal_of(store, [{**row, "observed_at": minute(5)} for row in rows])
    assert again < first / 100


def test_only_the_rows_that_differ_are_written(store: Store) -> None:
    store.merge("flows", [flow(id, minute(0)) for id in "abc"])
    before = dict(store.rows("SELECT id, ctid::text FROM flows"))
    row_counts = store.merge("flows", [flow("a", minute(1)), flow("b", minute(1), "Goodbye"), flow("d", minute(1))])
    assert row_counts == RowCounts(inserted=1, updated=1)
    after = dict(store.rows("SELECT id, ctid::text FROM flows"))
    assert (after["a"], after["c"]) == (before["a"], before["c"])
    assert names(store) == [("a", "Welcome"), ("b", "Goodbye"), ("c", "Welcome"), ("d", "Welcome")]


@pytest.mark.parametrize("observed", [minute(-1), minute(0)], ids=["earlier", "the same time"])
def test_an_observation_that_is_not_later_replaces_nothing(store: Store, observed: Any) -> None:
    store.merge("flows", [flow("a", minute(0), "New")])
    before = store.versions(*FLOWS)
    assert store.merge("flows", [flow("a", observed, "Old")]) == RowCounts()
    assert store.versions(*FLOWS) == before


def test_a_row_has_the_time_of_the_first_observation_of_its_state(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0))])
    store.merge("flows", [flow("a", minute(1))])
    assert store.value("SELECT observed_at FROM flows") == minute(0)
    store.merge("flows", [flow("a", minute(2), "Other")])
    assert store.value("SELECT observed_at FROM flows") == minute(2)


def test_observations_in_any_order_leave_the_latest(store: Store) -> None:
    states = [flow("a", minute(n), f"name {n}") for n in range(4)]
    for number, order in enumerate(permutations(states)):
        id = f"flow {number}"
        for state in order:
            store.merge("flows", [{**state, "id": id}])
    assert set(store.values("SELECT name FROM flows")) == {"name 3"}
    assert set(store.values("SELECT name FROM flows_history WHERE valid_to IS NULL")) == {"name 3"}


def test_of_duplicates_in_a_batch_the_latest_observation_wins_then_the_later_row(store: Store) -> None:
    rows = [
        flow("a", minute(2), "latest"),
        flow("a", minute(1), "earlier"),
        flow("b", minute(1), "first"),
        flow("b", minute(1), "second"),
    ]
    assert store.merge("flows", rows) == RowCounts(inserted=2)
    assert names(store) == [("a", "latest"), ("b", "second")]
    assert store.value("SELECT count(*) FROM flows_history") == 2


def test_rows_that_are_not_in_a_batch_stay(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0))])
    assert store.merge("flows", frame([], ["id", "name", "raw", "observed_at"])) == RowCounts()
    assert names(store) == [("a", "Welcome")]


def test_columns_that_a_frame_leaves_out_keep_their_values(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), trigger_type="Metric")])
    store.merge("flows", [{"id": "a", "name": "Renamed", "raw": {}, "observed_at": minute(1)}])
    assert store.rows("SELECT name, trigger_type, status FROM flows") == [("Renamed", "Metric", "live")]


def test_a_column_that_the_table_lacks_is_refused_by_name(store: Store) -> None:
    with pytest.raises(ValueError, match=r"flows has unknown columns \['colour'\]"):
        store.merge("flows", [flow("a", minute(0), colour="blue")])


def test_a_frame_without_the_key_is_refused(store: Store) -> None:
    with pytest.raises(
        ValueError, match=r"lacks the key columns \['conversion_metric_id', 'date', 'flow_message_id', 'send_chan"
    ):
        store.merge("flow_report", [{"flow_id": "a", "observed_at": minute(0)}])


def test_a_generated_column_cannot_be_written(store: Store) -> None:
    with pytest.raises(ValueError, match=r"unknown columns \['open_rate'\]"):
        store.merge(
            "flow_metrics", [{"flow_id": "a", "date": day(0), "messages": 1, "observed_at": minute(0), "open_rate": 1}]
        )


def test_a_row_that_fails_rolls_the_whole_batch_back_history_included(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0))])
    before = store.versions(*FLOWS)
    with pytest.raises(sa.exc.IntegrityError):
        store.merge("flows", [flow("a", minute(1), "Changed"), flow("b", minute(1)), flow("c", minute(1), raw=None)])
    assert store.versions(*FLOWS) == before


def test_changes_are_counted_for_each_window(store: Store) -> None:
    store.merge("flows", [flow("old", minute(0)), flow("same", minute(0))])
    rows = [
        flow("new", minute(1), _window=0),
        flow("old", minute(1), "Changed", _window=2),
        flow("same", minute(1), _window=2),
        flow("newer", minute(1), _window=2),
    ]
    assert store.counts_by_window("flows", rows) == {0: RowCounts(inserted=1), 2: RowCounts(inserted=1, updated=1)}


def test_a_key_of_several_columns_distinguishes_rows(store: Store) -> None:
    rows = [
        figures("a", day(0), minute(0), 1),
        figures("a", day(1), minute(0), 2),
        figures("a", day(0), minute(0), 3, send_channel="sms"),
        figures("a", day(0), minute(0), 4, flow_message_id="M2"),
    ]
    assert store.merge("flow_report", rows) == RowCounts(inserted=4)
    assert store.merge("flow_report", [figures("a", day(1), minute(1), 5)]) == RowCounts(updated=1)
    assert sorted(store.values("SELECT delivered FROM flow_report")) == [1, 3, 4, 5]


COLUMN_PRECEDENCE = {"channel": CHANNELS}


@pytest.mark.parametrize("order", list(permutations(["email", "sms", "mobile_push"])))
def test_a_campaign_in_several_channel_listings_takes_the_preferred_one(store: Store, order: Sequence[str]) -> None:
    listed = [campaign("one batch", minute(n), channel) for n, channel in enumerate(order)]
    store.merge("campaigns", listed, precedence=COLUMN_PRECEDENCE)
    for row in listed:
        store.merge("campaigns", [{**row, "id": "batch by batch"}], precedence=COLUMN_PRECEDENCE)
    assert store.rows("SELECT id, channel FROM campaigns ORDER BY id") == [
        ("batch by batch", "email"),
        ("one batch", "email"),
    ]


@pytest.mark.parametrize("order", list(permutations(["email", "sms", "mobile_push"])))
def test_the_preferred_channel_wins_also_when_its_page_is_written_late(store: Store, order: Sequence[str]) -> None:
    seen = {"email": minute(0), "sms": minute(1), "mobile_push": minute(2)}
    for channel in order:
        store.merge("campaigns", [campaign("a", seen[channel], channel)], precedence=COLUMN_PRECEDENCE)
    assert store.value("SELECT channel FROM campaigns") == "email"
    assert store.value("SELECT channel FROM campaigns_history WHERE valid_to IS NULL") == "email"


def test_a_campaign_that_changed_keeps_its_preferred_channel(store: Store) -> None:
    store.merge("campaigns", [campaign("a", minute(0), "email")], precedence=COLUMN_PRECEDENCE)
    assert (
        store.merge("campaigns", [campaign("a", minute(1), "sms", "Renamed")], precedence=COLUMN_PRECEDENCE).updated
        == 1
    )
    assert store.rows("SELECT name, channel FROM campaigns") == [("Renamed", "email")]


def test_repeated_listings_of_every_channel_write_nothing(store: Store) -> None:
    listed = [campaign("a", minute(n), channel) for n, channel in enumerate(CHANNELS)]
    for row in listed:
        store.merge("campaigns", [row], precedence=COLUMN_PRECEDENCE)
    before = store.versions("campaigns", "campaigns_superseded")
    for row in reversed(listed):
        store.merge("campaigns", [{**row, "observed_at": minute(9)}], precedence=COLUMN_PRECEDENCE)
    assert store.versions("campaigns", "campaigns_superseded") == before
