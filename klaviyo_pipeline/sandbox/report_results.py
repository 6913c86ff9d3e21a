"""Computes the statistics of a report from the counts of groups and days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from klaviyo_pipeline.sandbox.daily_counts import UNIT, CountGroup, Counts, part_of_day
from klaviyo_pipeline.sandbox.filter_matching import Criterion
from klaviyo_pipeline.sandbox.report_requests import ReportRequest
from klaviyo_pipeline.sandbox.sandbox_account import Metric, SandboxAccount
from klaviyo_pipeline.sandbox.statistics import COUNTS, RATES, UNIQUES
from klaviyo_pipeline.sandbox.timeframes import Span

Dimensions = Mapping[str, str | None]


@dataclass(frozen=True)
class ResultGroup:
    """The count groups that share one combination of `group_by` values."""

    key: tuple[str | None, ...]
    members: tuple[CountGroup, ...]


def result_groups(groups: Iterable[tuple[CountGroup, list[Dimensions]]], request: ReportRequest) -> list[ResultGroup]:
    """The groups that match the filter, one for each combination of values, in the order of the values."""
    found: dict[tuple[str | None, ...], list[CountGroup]] = {}
    for group, lines in groups:
        for line in lines:
            key = tuple(line.get(name) for name in request.group_by)
            members = found.setdefault(key, [])
            if group not in members and _passes(request.criteria, lines, line):
                members.append(group)
    return [
        ResultGroup(key, tuple(members))
        for key, members in sorted(found.items(), key=lambda item: sort_key(item[0]))
        if members
    ]


def sort_key(key: tuple[str | None, ...]) -> tuple[tuple[bool, str], ...]:
    return tuple((value is None, value or "") for value in key)


def _passes(criteria: Iterable[Criterion], lines: list[Dimensions], line: Dimensions) -> bool:
    for criterion in criteria:
        if criterion.operator == "contains-all":
            if not set(criterion.values) <= {other.get(criterion.field) for other in lines}:
                return False
        elif line.get(criterion.field) not in criterion.values:
            return False
    return True


class Counter:
    """Sums the counts of groups over periods for one `kind` of report and conversion `metric`, up to `today`."""

    def __init__(self, account: SandboxAccount, kind: str, metric: Metric | None, today: date) -> None:
        self._groups = account.figures.groups[kind]
        self._kind = kind
        self._metric = metric
        self._today = today

    def statistics(self, group: ResultGroup, span: Span, names: Iterable[str]) -> dict[str, float]:
        counts = self.counts(group, span)
        return {name: self._statistic(name, counts) for name in names}

    def counts(self, group: ResultGroup, span: Span) -> dict[str, int]:
        """The counts of the period, in 1/`UNIT`.

        The uniques of several days are fewer than the sum of the uniques of each day.
        """
        total = dict.fromkeys(COUNTS[self._kind], 0)
        for member in group.members:
            for name, value in self._member_counts(member, span).items():
                total[name] += value
        return total

    def _member_counts(self, member: CountGroup, span: Span) -> dict[str, int]:
        days = [part for part in span.days() if part[0] <= self._today]
        daily: dict[str, list[int]] = {name: [] for name in COUNTS[self._kind]}
        for day, from_hour, to_hour in days:
            for name, value in converted(member, day, self._metric).items():
                daily[name].append(part_of_day(value, from_hour, to_hour))
        counts = {name: period_uniques(values) if name in UNIQUES else sum(values) for name, values in daily.items()}
        if "total_members" in counts:
            counts["total_members"] = _level(member, days[-1][0]) if days else 0
        return counts

    def _statistic(self, name: str, counts: Mapping[str, int]) -> float:
        if name == "net_members_changed":
            return (counts["members_added"] - counts["members_removed"]) / UNIT
        rate = RATES[self._kind].get(name)
        if rate is None:
            return counts[name] / UNIT
        dividend, divisor = (counts[part] for part in rate)
        return dividend / divisor if divisor else 0.0


def converted(member: CountGroup, day: date, metric: Metric | None) -> Counts:
    """The counts of a day for this conversion metric. Counts that were set by hand apply to every metric."""
    counts = member.counts(day)
    if metric is None or member.is_set(day) or not counts:
        return counts
    value = counts["conversion_value"] if metric.carries_value else 0
    conversions = counts["conversions"] * metric.per_order
    return {**counts, "conversions": conversions, "conversion_value": value}


def period_uniques(daily: list[int]) -> int:
    """The uniques of a period: people who are active on several days count once, so each day adds a little less."""
    active = sum(1 for value in daily if value)
    if active <= 1:
        return sum(daily)
    shrunk = sum(daily) * max(600, 1000 - 15 * (active - 1)) // 1000
    return max(max(daily), shrunk // UNIT * UNIT)


def _level(member: CountGroup, day: date) -> int:
    last = member.last_set(day)
    by_hand = member.set_by_hand[last].get("total_members", 0) if last is not None else None
    if by_hand is not None and (last == day or member.source is None):
        return by_hand
    return member.counts(day).get("total_members", 0)
