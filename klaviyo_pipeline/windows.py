"""The sync windows: half-open spans [start, end) of time, one for each Dagster partition.

A daily window is a calendar day in the account's zone (23 to 25 hours long where the clocks change), an hourly
one an hour of it. The open window, whose end lies ahead, is a partition too, so that it can be synced at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property

import dagster as dg

from klaviyo_pipeline.config.settings import Account

HOUR = timedelta(hours=1)


class EmptyRange(ValueError):
    """A run is for no window."""


@dataclass(frozen=True, order=True)
class Window:
    """One sync window: UTC instants, half-open, and the key of its partition."""

    start: datetime
    end: datetime
    key: str


@dataclass(frozen=True)
class WindowPlan:
    """The windows of one asset: how the account's time is cut.

    `daily` holds for reports whatever the account's window is: a report's days are days of the account.
    """

    account: Account
    daily: bool

    @cached_property
    def definition(self) -> dg.TimeWindowPartitionsDefinition:
        """Dagster's partitions for these windows; the last one is the open window."""
        first = self.account.start_date.isoformat()
        if self.daily:
            return dg.DailyPartitionsDefinition(first, timezone=self.account.timezone, end_offset=1)
        return dg.HourlyPartitionsDefinition(f"{first}-00:00", timezone=self.account.timezone, end_offset=1)

    def of_keys(self, keys: Iterable[str]) -> list[Window]:
        """The windows of these partition keys, in order of time."""
        return sorted(self._window(key) for key in keys)

    def of_run(self, context: dg.AssetExecutionContext) -> list[Window]:
        """The windows of a run, at least one. Raises `EmptyRange` for a range that ends before it begins."""
        keys = context.partition_keys
        if not keys:
            tags = context.run.tags
            first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
            raise EmptyRange(f"The range of windows {first} to {last} is empty: write the earlier one first.")
        return self.of_keys(keys)

    def between(self, first: date, last: date, now: datetime) -> list[Window]:
        """Every window of the days from `first` to `last`, both inclusive, that has begun by `now`."""
        start = max(first, self.account.start_date)
        span = dg.TimeWindow(self._midnight(start), self._midnight(last + timedelta(days=1)))
        keys = self.definition.get_partition_keys_in_time_window(span) if span.start < span.end else []
        return [window for window in self._in_turn(keys) if window.start <= now]

    def _in_turn(self, keys: Sequence[str]) -> list[Window]:
        """The windows of these keys, which follow one another.

        Dagster finds each window anew from its key, which for five years of hours takes seconds; but every hour
        begins where the one before ends. The last one tells whether that held.
        """
        if self.daily or not keys:
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
    """How flows, campaigns, forms and segments are cut: by the account's own window."""
    return WindowPlan(account, daily=account.sync_window == "daily")


def report_windows(account: Account) -> WindowPlan:
    """How reports and metrics are cut: by day."""
    return WindowPlan(account, daily=True)


def contiguous_ranges(windows: Sequence[Window], wanted: Iterable[Window], join_gaps: int = 0) -> list[list[Window]]:
    """Cut `windows` (all, in order) into contiguous runs that hold every wanted one.

    Gaps of at most `join_gaps` unwanted windows are bridged: one request over a small gap costs less than two.
    """
    marked = set(wanted)
    runs: list[list[Window]] = []
    gap: list[Window] = []
    for window in windows:
        if window in marked:
            if runs and len(gap) <= join_gaps:
                runs[-1].extend([*gap, window])
            else:
                runs.append([window])
            gap = []
        else:
            gap.append(window)
    return runs


def range_tags(windows: Sequence[Window]) -> dict[str, str]:
    """The tags that make one Dagster run out of these contiguous windows."""
    return {
        "dagster/asset_partition_range_start": windows[0].key,
        "dagster/asset_partition_range_end": windows[-1].key,
    }
