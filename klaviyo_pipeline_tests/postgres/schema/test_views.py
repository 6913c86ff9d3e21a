"""The views `expected_windows` and `sync_status`.

They read the database's clock, which does not advance within a transaction: each test is one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from klaviyo_pipeline.config.settings import Account, SyncWindow
from klaviyo_pipeline.postgres.account_binding import bind_schema
from klaviyo_pipeline.postgres.ledger import Ledger, SyncedWindow
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.windows import Window, WindowPlan, entity_windows
from klaviyo_pipeline_tests.postgres.store import NOON, SLUG, Store

DAYS = 5
"""The number of ended windows in the accounts of these tests."""


@dataclass(frozen=True)
class Moment:
    """One transaction, with the clock at `now`."""

    connection: sa.Connection
    now: datetime

    def account(self, **settings: Any) -> Account:
        """Bind the schema to an account whose start date is `DAYS` days ago."""
        account = Account(slug=SLUG, **{"start_date": self.now.date() - timedelta(days=DAYS), **settings})
        bind_schema(self.connection, account, account_id="A", timezone="UTC", currency=None, verified_at=self.now)
        return account

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute(sa.text(query))]

    def window(self, number: int) -> Window:
        """The n-th day of the account; number `DAYS` is still open."""
        start = datetime.combine(self.now.date() - timedelta(days=DAYS - number), datetime.min.time(), tzinfo=UTC)
        return Window(start, start + timedelta(days=1), start.date().isoformat())

    def sync(self, *numbers: int, asked_at: datetime | None = None) -> None:
        """Record these days as synced, each requested a minute after its end."""
        for number in numbers:
            window = self.window(number)
            requested = asked_at or window.end + timedelta(minutes=1)
            one = SyncedWindow(window, requested, requested, 0, 1, RowCounts())
            Ledger(SLUG, "flows").record_synced(self.connection, [one], run_id="run")

    def fail(self, *numbers: int, error: str = "no answer") -> None:
        windows = [self.window(number) for number in numbers]
        Ledger(SLUG, "flows").record_failed(self.connection, windows, run_id="bad", started_at=NOON, error=error)

    def status(self, *columns: str, entity: str = "flows") -> tuple[Any, ...]:
        [row] = self.rows(f"SELECT {', '.join(columns)} FROM sync_status WHERE entity = '{entity}'")
        return row


@pytest.fixture
def moment(store: Store) -> Iterator[Moment]:
    with store.engine.begin() as connection:
        connection.execute(sa.text(f'SET LOCAL search_path TO "{SLUG}"'))
        connection.execute(sa.text("SET LOCAL TIME ZONE 'Asia/Tokyo'"))  # the session's zone must not matter
        yield Moment(connection, connection.execute(sa.text("SELECT now()")).scalar_one().astimezone(UTC))


def expected(moment: Moment, entity: str) -> list[tuple[datetime, datetime]]:
    query = f"SELECT window_start, window_end FROM expected_windows WHERE entity = '{entity}' ORDER BY 1"
    return [(start.astimezone(UTC), end.astimezone(UTC)) for start, end in moment.rows(query)]


def planned(plan: WindowPlan, now: datetime) -> list[tuple[datetime, datetime]]:
    account = plan.account
    windows = plan.between(account.start_date, account.today(now), now)
    return [(window.start, window.end) for window in windows if window.end <= now]


ZONES = [
    ("UTC", 2025),
    ("America/New_York", 2024),
    ("Asia/Kolkata", 2025),
    ("Africa/Cairo", 2023),  # the clocks change at midnight: a day begins at 1:00
    ("America/Sao_Paulo", 2017),  # the same, until 2019
    ("Australia/Lord_Howe", 2024),  # the clocks change by half an hour
    ("Atlantic/Azores", 2024),  # one day has two midnights
    ("America/Havana", 2024),  # the same
]


@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_the_expected_days_are_the_partitions_that_have_ended(moment: Moment, zone: str, year: int) -> None:
    account = moment.account(timezone=zone, start_date=date(year, 1, 1))
    windows = expected(moment, "flows")
    assert windows == planned(entity_windows(account), moment.now)
    assert windows == expected(moment, "flow_report")
    assert expected(moment, "flow_report_weekly") == planned(WindowPlan(account, "week"), moment.now)
    assert expected(moment, "flow_metrics_monthly") == planned(WindowPlan(account, "month"), moment.now)
    assert {end - start for start, end in windows} <= {timedelta(hours=hours) for hours in (23, 23.5, 24, 24.5, 25)}


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "Africa/Cairo"])
def test_the_expected_hours_are_the_partitions_that_have_ended(moment: Moment, zone: str) -> None:
    account = moment.account(timezone=zone, start_date=date(moment.now.year - 1, 9, 1), sync_window="hourly")
    assert expected(moment, "flows") == planned(entity_windows(account), moment.now)
    assert expected(moment, "flow_report") == planned(WindowPlan(account, "day"), moment.now)


@pytest.mark.parametrize("sync_window", ["daily", "hourly"])
def test_an_account_that_starts_today_expects_no_day_yet(moment: Moment, sync_window: SyncWindow) -> None:
    moment.account(start_date=moment.now.date(), sync_window=sync_window)
    assert expected(moment, "flow_report") == []
    assert len(expected(moment, "flows")) == (moment.now.hour if sync_window == "hourly" else 0)


def test_before_any_account_is_known_nothing_is_expected(moment: Moment) -> None:
    assert moment.rows("SELECT * FROM expected_windows") == []
    assert moment.status("status", "windows_missing") == ("never synced", 0)


def test_every_asset_has_one_row_entities_first(moment: Moment) -> None:
    moment.account()
    entities = [entity for (entity,) in moment.rows("SELECT entity FROM sync_status")]
    assert entities[:6] == ["flows", "campaigns", "forms", "segments", "flow_report", "flow_metrics"]
    assert sorted(entities) == sorted(entity for (entity,) in moment.rows("SELECT entity FROM assets WHERE is_on"))


COUNTS = ("status", "windows_synced", "windows_failed", "windows_missing")


def test_never_synced(moment: Moment) -> None:
    moment.account()
    assert moment.status(*COUNTS) == ("never synced", 0, 0, DAYS)
    assert moment.status("last_synced_at", "synced_through", "last_error") == (None, None, None)


def test_synced_when_every_ended_window_is(moment: Moment) -> None:
    moment.account()
    moment.sync(*range(DAYS))
    assert moment.status(*COUNTS) == ("synced", DAYS, 0, 0)
    assert moment.status("synced_through") == (moment.window(DAYS - 1).end,)


def test_synced_through_ends_at_the_request_of_the_open_window(moment: Moment) -> None:
    moment.account()
    moment.sync(*range(DAYS))
    moment.sync(DAYS, asked_at=moment.now)
    assert moment.status(*COUNTS) == ("synced", DAYS + 1, 0, 0)
    assert moment.status("synced_through") == (moment.now,)


def test_behind_when_an_ended_window_is_missing(moment: Moment) -> None:
    moment.account()
    moment.sync(0, 1)
    assert moment.status(*COUNTS) == ("behind", 2, 0, DAYS - 2)
    assert moment.status("synced_through") == (moment.window(1).end,)


def test_synced_through_stops_at_a_gap(moment: Moment) -> None:
    moment.account()
    moment.sync(0, 1, 3, 4)
    assert moment.status(*COUNTS) == ("behind", 4, 0, 1)
    assert moment.status("synced_through") == (moment.window(1).end,)


def test_synced_through_counts_from_the_earliest_synced_window(moment: Moment) -> None:
    moment.account()
    moment.sync(2, 3)
    assert moment.status("status", "synced_through") == ("behind", moment.window(3).end)


def test_a_window_requested_before_its_end_counts_as_missing_once_it_has_ended(moment: Moment) -> None:
    moment.account()
    moment.sync(0, 1, 3, 4)
    noon = moment.window(2).start + timedelta(hours=12)
    moment.sync(2, asked_at=noon)
    assert moment.status(*COUNTS) == ("behind", DAYS, 0, 1)
    assert moment.status("synced_through") == (noon,)


def test_failed_when_a_window_was_never_synced_and_failed(moment: Moment) -> None:
    moment.account()
    moment.sync(0, 2, 3, 4)
    moment.fail(1, error="quota spent")
    assert moment.status(*COUNTS, "last_error") == ("failed", 4, 1, 0, "quota spent")
    assert moment.status("synced_through") == (moment.window(0).end,)


def test_a_failed_attempt_at_a_synced_window_changes_only_the_last_error(moment: Moment) -> None:
    moment.account()
    moment.sync(*range(DAYS))
    before = moment.status(*COUNTS, "synced_through", "last_synced_at")
    moment.fail(1, error="no answer")
    assert moment.status(*COUNTS, "synced_through", "last_synced_at") == before
    assert moment.status("last_error") == ("no answer",)


def test_failed_windows_before_a_later_start_date_do_not_count(moment: Moment) -> None:
    moment.account()
    moment.sync(3, 4)
    moment.fail(0, 1, 2)
    for first, counts in ((1, ("failed", 2, 2, 0)), (3, ("synced", 2, 0, 0))):
        start = moment.window(first).start.date()
        moment.connection.execute(sa.text("UPDATE account SET start_date = :start"), {"start": start})
        assert moment.status(*COUNTS) == counts
    assert moment.status("last_error") == (None,)


def test_rows_count_objects_that_exist(moment: Moment) -> None:
    rows = "('here', '{}', NULL, now()), ('gone', '{}', now(), now())"
    moment.connection.execute(sa.text(f"INSERT INTO flows (id, raw, deleted_at, observed_at) VALUES {rows}"))
    assert moment.status("row_count") == (1,)


def test_entities_do_not_mix(moment: Moment) -> None:
    moment.account()
    moment.sync(*range(DAYS))
    assert moment.status("status", entity="campaigns") == ("never synced",)


@pytest.mark.parametrize("view", ["sync_status", "window_states", "report_days"])
def test_a_view_is_not_compiled_in_a_schema_that_was_never_analyzed(moment: Moment, view: str) -> None:
    moment.account(start_date=date(2021, 1, 1))
    [plan] = moment.rows(f"EXPLAIN (FORMAT json) SELECT * FROM {view}")[0]
    [limit] = moment.rows("SELECT setting::float FROM pg_settings WHERE name = 'jit_above_cost'")[0]
    assert plan[0]["Plan"]["Total Cost"] < limit / 10
