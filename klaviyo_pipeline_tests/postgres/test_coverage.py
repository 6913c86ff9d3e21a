"""`days_covered`: a day that was never requested differs from a day without rows."""

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
def bound(store: Store) -> Store:
    with store.engine.begin() as connection:
        bind_schema(connection, SHOP, account_id="A", timezone="UTC", currency=None, verified_at=NOON)
    return store


def test_each_day_has_its_state_and_only_a_synced_day_is_covered(bound: Store) -> None:
    ended = window(1).end + timedelta(minutes=1)
    bound.record(
        "flow_metrics", synced(0, ended, rows=0), synced(1, ended), synced(2, window(2).end - timedelta(hours=1))
    )
    bound.record_failed("flow_metrics", 3)
    bound.record("flows", synced(4, window(4).end + timedelta(minutes=1)))
    assert covered(bound, "flow_metrics", -1, 4) == [
        (-1, "missing", False),
        (0, "synced", True),
        (1, "synced", True),
        (2, "open", False),
        (3, "failed", False),
        (4, "missing", False),
    ]


def test_a_day_in_hours_is_covered_once_every_hour_of_it_is(bound: Store) -> None:
    hourly = replace(SHOP, sync_window="hourly")
    with bound.engine.begin() as connection:
        bind_schema(connection, hourly, account_id="A", timezone="UTC", currency=None, verified_at=minute(1))
    bound.run(
        "INSERT INTO sync_windows (entity, window_start, window_end, status, asked_at) "
        "SELECT entity, window_start, window_end, 'synced', window_end + interval '1 minute' FROM expected_windows "
        "WHERE entity = 'forms' AND window_start <> '2025-03-02 07:00+00'"
    )
    assert covered(bound, "forms", 0, 2) == [(0, "synced", True), (1, "missing", False), (2, "synced", True)]
    today = bound.value("SELECT is_covered FROM days_covered('forms', current_date, current_date)")
    assert today is False, "its last hours have not ended"


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


def test_an_unknown_asset_is_not_reported_as_never_synced(bound: Store) -> None:
    assert covered(bound, "flow_metric", 0, 0) == [(0, "unknown asset", False)]


def test_a_monthly_asset_in_the_first_month_of_the_account_is_missing_and_not_unknown(store: Store) -> None:
    yesterday = store.value("SELECT current_date - 1")
    with store.engine.begin() as connection:
        account = replace(SHOP, start_date=yesterday)
        bind_schema(connection, account, account_id="A", timezone="UTC", currency=None, verified_at=NOON)
    states = "SELECT DISTINCT state FROM days_covered('flow_report_monthly', current_date, current_date)"
    assert store.rows(states) == [("missing",)]


def test_before_the_first_sync_nothing_is_covered(store: Store) -> None:
    assert covered(store, "flows", 0, 1) == [(0, "missing", False), (1, "missing", False)]
