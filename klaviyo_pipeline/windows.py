"""The sync windows: half-open periods [start, end), one for each Dagster partition.

A daily window is a calendar day in the account's zone (23 to 25 hours long when the clocks change), an hourly window is
an hour of it. A window of a weekly report begins on a Monday, that of a monthly report on the first of a month; the
first one may begin before the account's start date. The open window, which ends in the future, is a partition too, so
that you can sync it at any time.
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
    """A run has no windows."""


@dataclass(frozen=True, order=True)
class Window:
    """One sync window: its start and end (UTC, half-open), and its partition key."""

    start: datetime
    end: datetime
    key: str

    @property
    def first_day(self) -> date:
        """The account's first day of a window that is a day, a week or a month."""
        return date.fromisoformat(self.key)


@dataclass(frozen=True)
class WindowPlan:
    """The windows of one asset."""

    account: Account
    unit: Unit

    @cached_property
    def definition(self) -> dg.TimeWindowPartitionsDefinition:
        """The Dagster partitions of these windows; the last one is the open window."""
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
        """The windows of these partition keys, in order of time."""
        return sorted(self._window(key) for key in keys)

    def of_run(self, context: dg.AssetExecutionContext) -> list[Window]:
        """The windows of a run, at least one. Raises `EmptyRange` if the range ends before it begins."""
        keys = context.partition_keys
        if not keys:
            tags = context.run.tags
            first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
            raise EmptyRange(f"The range of windows {first} to {last} is empty: put the earlier window first.")
        return self.of_keys(keys)

    def between(self, first: date, last: date, now: datetime) -> list[Window]:
        """Every window with a day from `first` to `last`, both inclusive, that has begun by `now`."""
        import dagster as dg

        start = self.first_day(max(first, self.account.start_date))
        span = dg.TimeWindow(self._midnight(start), self._midnight(last + timedelta(days=1)))
        keys = self.definition.get_partition_keys_in_time_window(span) if span.start < span.end else []
        return [window for window in self._consecutive(keys) if window.start <= now]

    def _consecutive(self, keys: Sequence[str]) -> list[Window]:
        """The windows of these consecutive keys.

        Dagster computes each window from its key, which takes seconds for five years of hours. This method computes
        hours by addition instead, and checks the last one.
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
    """The windows of flows, campaigns, forms and segments, which have the account's window size."""
    return WindowPlan(account, "day" if account.sync_window == "daily" else "hour")


def report_windows(account: Account, period: Period = "day") -> WindowPlan:
    """The windows of reports and metrics, whatever the account's window size is."""
    return WindowPlan(account, period)


def asset_windows(account: Account, asset: str) -> WindowPlan:
    """The windows of this asset."""
    return entity_windows(account) if asset in ENTITIES else report_windows(account, period_of(asset))


def contiguous_ranges(windows: Sequence[Window], wanted: Iterable[Window], join_gaps: int = 0) -> list[list[Window]]:
    """Group `windows` (all, in order) into contiguous ranges that contain every wanted window.

    A gap of at most `join_gaps` unwanted windows becomes part of a range: one request that covers a small gap costs
    less than two requests.
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
    """The tags of a Dagster run for these contiguous windows."""
    return {
        "dagster/asset_partition_range_start": windows[0].key,
        "dagster/asset_partition_range_end": windows[-1].key,
    }
