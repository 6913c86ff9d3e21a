"""The sync windows: half-open periods [start, end), one for each Dagster partition.

A daily window is a calendar day in the account's time zone, which has 23 to 25 hours when the clocks change. An hourly
window is one hour. A window of a weekly report begins on a Monday, and a window of a monthly report on the first day of
a month. The first of these windows may begin before the account's start date. The open window, which ends in the
future, is a partition too, so that you can sync it at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from klaviyo_pipeline.catalog import ENTITIES, Period, period_of
from klaviyo_pipeline.config.settings import Account

if TYPE_CHECKING:
    import dagster as dg

HOUR = timedelta(hours=1)

Unit = Literal["hour"] | Period


class EmptyRange(ValueError):
    """The range of partitions of a run contains no window."""


@dataclass(frozen=True, order=True)
class Window:
    """One sync window: its start and end (UTC, half-open), and its partition key."""

    start: datetime
    end: datetime
    key: str

    @property
    def first_day(self) -> date:
        """The first day, in the account's zone, of a window that is a day, a week or a month long."""
        return date.fromisoformat(self.key)


@dataclass(frozen=True)
class WindowPlan:
    """Divides an account's time into windows of one length."""

    account: Account
    unit: Unit

    @cached_property
    def definition(self) -> dg.TimeWindowPartitionsDefinition:
        """The Dagster partitions of the windows. The last partition is the open window."""
        import dagster as dg

        first, zone = self.first_day(self.account.start_date).isoformat(), self.account.timezone
        if self.unit == "hour":
            return dg.HourlyPartitionsDefinition(f"{first}-00:00", timezone=zone, end_offset=1)
        if self.unit == "week":
            return dg.WeeklyPartitionsDefinition(first, timezone=zone, end_offset=1, day_offset=1)
        if self.unit == "month":
            return dg.MonthlyPartitionsDefinition(first, timezone=zone, end_offset=1)
        return dg.DailyPartitionsDefinition(first, timezone=zone, end_offset=1)

    def first_day(self, day: date) -> date:
        """The first day of the window that contains this day."""
        if self.unit == "week":
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self.unit == "month" else day

    def of_keys(self, keys: Iterable[str]) -> list[Window]:
        """The windows with these partition keys, in order of time."""
        return sorted(self._window(key) for key in keys)

    def of_run(self, context: dg.AssetExecutionContext) -> list[Window]:
        """The windows of a run, in order of time. Raises `EmptyRange` if its range ends before it begins."""
        keys = context.partition_keys
        if not keys:
            tags = context.run.tags
            first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
            raise EmptyRange(f"The range of windows {first} to {last} is empty: put the earlier window first.")
        return self.of_keys(keys)

    def between(self, first: date, last: date, now: datetime) -> list[Window]:
        """Every window in the days from `first` to `last`, both inclusive, that has begun by `now`.

        A week or a month is included as a whole if it contains one of these days.
        """
        import dagster as dg

        start = self.first_day(max(first, self.account.start_date))
        span = dg.TimeWindow(self._midnight(start), self._midnight(last + timedelta(days=1)))
        keys = self.definition.get_partition_keys_in_time_window(span) if span.start < span.end else []
        return [window for window in self._consecutive(keys) if window.start <= now]

    def _consecutive(self, keys: Sequence[str]) -> list[Window]:
        """The windows with these consecutive keys.

        Dagster needs seconds to compute five years of hourly windows from their keys. This method computes only the
        first hourly window from its key, and the later ones by addition. If the last one does not match its key, all
        are computed from their keys.
        """
        if self.unit != "hour" or not keys:
            return self.of_keys(keys)
        begun = self._window(keys[0]).start
        windows = [Window(begun + HOUR * n, begun + HOUR * (n + 1), key) for n, key in enumerate(keys)]
        return windows if windows[-1] == self._window(keys[-1]) else self.of_keys(keys)

    def _window(self, key: str) -> Window:
        span = self.definition.time_window_for_partition_key(key)
        return Window(span.start.astimezone(UTC), span.end.astimezone(UTC), key)

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), tzinfo=self.account.zone)


def entity_windows(account: Account) -> WindowPlan:
    """The windows of the account's entities, which have the length in its settings: a day or an hour."""
    return WindowPlan(account, "day" if account.sync_window == "daily" else "hour")


def report_windows(account: Account, period: Period = "day") -> WindowPlan:
    """The windows of reports, metrics and conversions, which do not depend on the length in the settings."""
    return WindowPlan(account, period)


def asset_windows(account: Account, asset: str) -> WindowPlan:
    """The windows of the asset with this name."""
    return entity_windows(account) if asset in ENTITIES else report_windows(account, period_of(asset))


def contiguous_ranges(windows: Sequence[Window], wanted: Iterable[Window], join_gaps: int = 0) -> list[list[Window]]:
    """Group the wanted windows into contiguous ranges. `windows` are all windows, in order of time.

    If at most `join_gaps` unwanted windows lie between two wanted ones, the range includes them: one request for a
    longer range costs less than two requests.
    """
    marked = set(wanted)
    ranges: list[list[Window]] = []
    gap: list[Window] = []
    for window in windows:
        if window in marked:
            if ranges and len(gap) <= join_gaps:
                ranges[-1].extend([*gap, window])
            else:
                ranges.append([window])
            gap = []
        else:
            gap.append(window)
    return ranges


def range_tags(windows: Sequence[Window]) -> dict[str, str]:
    """The tags with which a Dagster run covers these contiguous windows."""
    return {
        "dagster/asset_partition_range_start": windows[0].key,
        "dagster/asset_partition_range_end": windows[-1].key,
    }
