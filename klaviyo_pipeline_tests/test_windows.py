"""The sync windows, including days with a clock change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.windows import Window, WindowPlan, contiguous_ranges, entity_windows, range_tags, report_windows

NOW = datetime(2025, 11, 20, 12, 30, tzinfo=UTC)


def plan(zone: str = "UTC", *, start: date = date(2025, 1, 1), hourly: bool = False) -> WindowPlan:
    return entity_windows(Account(timezone=zone, start_date=start, sync_window="hourly" if hourly else "daily"))


def lengths(plan: WindowPlan, first: date, last: date) -> list[float]:
    """The length of each window of these days, in hours."""
    return [(one.end - one.start) / timedelta(hours=1) for one in plan.between(first, last, NOW)]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", date(2025, 3, 9), 23),
        ("America/New_York", date(2025, 11, 2), 25),
        ("Europe/Berlin", date(2025, 3, 30), 23),
        ("Africa/Cairo", date(2025, 4, 25), 23),  # there is no midnight: the day begins at one
        ("Africa/Cairo", date(2025, 10, 30), 25),
        ("Australia/Lord_Howe", date(2025, 4, 6), 24.5),
        ("Australia/Lord_Howe", date(2025, 10, 5), 23.5),
        ("Atlantic/Azores", date(2025, 10, 26), 25),  # midnight occurs twice
        ("Asia/Kolkata", date(2025, 3, 30), 24),
    ],
)
def test_a_day_with_a_clock_change_has_its_real_length(zone: str, day: date, hours: float) -> None:
    around = lengths(plan(zone), day - timedelta(days=1), day + timedelta(days=1))
    assert around == [24, hours, 24]


@pytest.mark.parametrize(
    "zone", ["UTC", "America/New_York", "Africa/Cairo", "Asia/Kolkata", "Australia/Lord_Howe", "Atlantic/Azores"]
)
def test_days_follow_each_other_without_gap_or_overlap(zone: str) -> None:
    windows = plan(zone).between(date(2025, 1, 1), date(2025, 11, 19), NOW)
    assert len(windows) == 323
    assert all(one.end == other.start for one, other in pairwise(windows))
    assert [window.key for window in windows[:2]] == ["2025-01-01", "2025-01-02"]


@pytest.mark.parametrize(("zone", "hours"), [("America/New_York", [23, 25]), ("UTC", [24, 24])])
def test_a_day_with_a_clock_change_has_one_hourly_window_for_each_real_hour(zone: str, hours: list[int]) -> None:
    cut = plan(zone, hourly=True)
    for day, expected in zip([date(2025, 3, 9), date(2025, 11, 2)], hours, strict=True):
        windows = cut.between(day, day, NOW)
        assert len(windows) == len({window.key for window in windows}) == expected
        assert all(one.end == other.start for one, other in pairwise(windows))
        assert set(lengths(cut, day, day)) == {1}


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Australia/Sydney", "Africa/Casablanca"])
def test_a_year_of_hourly_windows_is_computed_from_the_first_and_the_last(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = entity_windows(Account(start_date=date(2025, 1, 1), timezone=zone, sync_window="hourly"))
    found = []
    find = WindowPlan._window
    monkeypatch.setattr(WindowPlan, "_window", lambda plan, key: found.append(key) or find(plan, key))
    year = plan.between(date(2025, 1, 1), date(2025, 12, 31), datetime(2026, 1, 2, tzinfo=UTC))
    assert found == [year[0].key, year[-1].key]
    assert len(year) == 365 * 24
    assert year == plan.of_keys(window.key for window in year)


def test_windows_are_utc_instants_of_the_accounts_days() -> None:
    [window] = plan("Asia/Kolkata").between(date(2025, 3, 1), date(2025, 3, 1), NOW)
    assert window == Window(
        datetime(2025, 2, 28, 18, 30, tzinfo=UTC), datetime(2025, 3, 1, 18, 30, tzinfo=UTC), "2025-03-01"
    )
    assert window.start.tzinfo is UTC


def test_the_open_window_is_the_last_window() -> None:
    windows = plan().between(date(2025, 11, 19), date(2025, 11, 25), NOW)
    assert [window.key for window in windows] == ["2025-11-19", "2025-11-20"]
    assert windows[-1].end > NOW


def test_the_open_hour_is_a_window_too() -> None:
    windows = plan(hourly=True).between(date(2025, 11, 20), date(2025, 11, 20), NOW)
    assert len(windows) == 13
    assert windows[-1].start == datetime(2025, 11, 20, 12, tzinfo=UTC)


def test_the_open_window_is_a_partition() -> None:
    keys = plan().definition.get_partition_keys(current_time=NOW)
    assert (keys[0], keys[-1]) == ("2025-01-01", "2025-11-20")
    hours = plan(hourly=True).definition.get_partition_keys(current_time=NOW)
    assert (hours[0], hours[-1]) == ("2025-01-01-00:00", "2025-11-20-12:00")


def test_today_is_the_account_s_calendar_day() -> None:
    """Half past noon in UTC is the next day in Kiritimati."""
    keys = plan("Pacific/Kiritimati").definition.get_partition_keys(current_time=NOW)
    assert keys[-1] == "2025-11-21"


def test_no_window_is_before_the_start_date() -> None:
    cut = plan(start=date(2025, 3, 1))
    assert [window.key for window in cut.between(date(2024, 1, 1), date(2025, 3, 2), NOW)] == [
        "2025-03-01",
        "2025-03-02",
    ]
    assert cut.between(date(2024, 1, 1), date(2025, 2, 28), NOW) == []


def test_a_range_that_ends_before_it_begins_is_empty() -> None:
    assert plan().between(date(2025, 3, 2), date(2025, 3, 1), NOW) == []


@pytest.mark.parametrize("hourly", [True, False])
def test_windows_of_keys_are_in_order_of_time(hourly: bool) -> None:
    cut = plan("America/New_York", hourly=hourly)
    windows = cut.between(date(2025, 11, 1), date(2025, 11, 3), NOW)
    assert cut.of_keys(reversed([window.key for window in windows])) == windows


def test_report_windows_are_always_days() -> None:
    account = Account(sync_window="hourly", timezone="Europe/Berlin")
    assert report_windows(account).unit == "day"
    assert entity_windows(account).unit == "hour"


def runs(wanted: str, join_gaps: int = 0) -> list[str]:
    """The ranges of ten days, named a to j, that contain the wanted days."""
    windows = plan().between(date(2025, 1, 1), date(2025, 1, 10), NOW)
    names = dict(zip("abcdefghij", windows, strict=True))
    back = {window: name for name, window in names.items()}
    return [
        "".join(back[one] for one in run)
        for run in contiguous_ranges(windows, (names[name] for name in wanted), join_gaps)
    ]


@pytest.mark.parametrize(
    ("wanted", "join_gaps", "expected"),
    [
        ("", 0, []),
        ("abcdefghij", 0, ["abcdefghij"]),
        ("c", 0, ["c"]),
        ("abdfgj", 0, ["ab", "d", "fg", "j"]),
        ("abdfgj", 1, ["abcdefg", "j"]),
        ("abdfgj", 2, ["abcdefghij"]),
        ("aj", 7, ["a", "j"]),
        ("aj", 8, ["abcdefghij"]),
        ("cd", 9, ["cd"]),  # ranges never extend beyond the first and the last wanted day
        ("gba", 0, ["ab", "g"]),
    ],
)
def test_ranges_join_gaps_and_contain_nothing_outside(wanted: str, join_gaps: int, expected: list[str]) -> None:
    assert runs(wanted, join_gaps) == expected


def test_the_tags_of_a_range_name_its_first_and_last_key() -> None:
    windows = plan().between(date(2025, 1, 1), date(2025, 1, 3), NOW)
    assert range_tags(windows) == {
        "dagster/asset_partition_range_start": "2025-01-01",
        "dagster/asset_partition_range_end": "2025-01-03",
    }
