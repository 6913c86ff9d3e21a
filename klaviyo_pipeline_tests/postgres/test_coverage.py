"""`days_covered`: a day that was never requested does not look like a day with nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.postgres.account_binding import bind_schema
from klaviyo_pipeline_tests.postgres.store import FIRST_DAY, NOON, SLUG, Store, day, minute, synced, window

SHOP = Account(slug=SLUG, start_date=FIRST_DAY)


def covered(store: Store, asset: str, first: int, last: int) -> list[tuple[int, str, bool]]:
    """Number, state and coverage of the days from `day(first)` to `day(last)`."""
    query = "SELECT date - CAST(:start AS date), state, is_covered FROM days_covered(:asset, :first, :last)"
    return store.rows(query, start=FIRST_DAY, asset=asset, first=day(first), last=day(last))  # type: ignore[return-value]


@pytest.fixture
def claimed(store: Store) -> Store:
    with store.engine.begin() as connection:
        bind_schema(connection, SHOP, account_id="A", timezone="UTC", currency=None, verified_at=NOON)
    return store


def test_each_day_reports_whether_it_was_synced_and_whether_it_was_over(claimed: Store) -> None:
    ended = window(1).end + timedelta(minutes=1)
    claimed.record(
        "flow_metrics", synced(0, ended, rows=0), synced(1, ended), synced(2, window(2).end - timedelta(hours=1))
    )
    claimed.record_failed("flow_metrics", 3)
    claimed.record("flows", synced(4, window(4).end + timedelta(minutes=1)))
    assert covered(claimed, "flow_metrics", -1, 4) == [
        (-1, "missing", False),
        (0, "synced", True),
        (1, "synced", True),
        (2, "open", False),
        (3, "failed", False),
        (4, "missing", False),
    ]


def test_a_day_in_hours_is_covered_once_every_hour_of_it_is(claimed: Store) -> None:
    hourly = replace(SHOP, sync_window="hourly")
    with claimed.engine.begin() as connection:
        bind_schema(connection, hourly, account_id="A", timezone="UTC", currency=None, verified_at=minute(1))
    claimed.run(
        "INSERT INTO sync_windows (entity, window_start, window_end, status, asked_at) "
        "SELECT entity, window_start, window_end, 'synced', window_end + interval '1 minute' FROM expected_windows "
        "WHERE entity = 'forms' AND window_start <> '2025-03-02 07:00+00'"
    )
    assert covered(claimed, "forms", 0, 2) == [(0, "synced", True), (1, "missing", False), (2, "synced", True)]
    today = claimed.value("SELECT is_covered FROM days_covered('forms', current_date, current_date)")
    assert today is False, "its last hours are to come"


def test_days_are_those_of_the_accounts_zone(store: Store) -> None:
    account = replace(SHOP, timezone="Pacific/Auckland")
    with store.engine.begin() as connection:
        bind_schema(connection, account, account_id="A", timezone="UTC", currency=None, verified_at=NOON)
    store.run(
        "INSERT INTO sync_windows (entity, window_start, window_end, status, asked_at) SELECT entity, window_start, "
        "window_end, 'synced', window_end + interval '1 minute' FROM expected_windows WHERE entity = 'flow_report' "
        "AND window_start = timestamp '2025-03-02' AT TIME ZONE 'Pacific/Auckland'"
    )
    assert covered(store, "flow_report", 0, 2) == [(0, "missing", False), (1, "synced", True), (2, "missing", False)]


def test_an_asset_that_does_not_exist_is_not_taken_for_one_that_was_never_synced(claimed: Store) -> None:
    assert covered(claimed, "flow_metric", 0, 0) == [(0, "unknown asset", False)]


def test_before_the_first_sync_nothing_is_covered(store: Store) -> None:
    assert covered(store, "flows", 0, 1) == [(0, "missing", False), (1, "missing", False)]
