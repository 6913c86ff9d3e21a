"""The counts behind the reports, per group and local day, as integers: multiples of 1/`UNIT`.

With integers, every way of summing gives exactly the same result: a series adds up to the values report.
`report_results` computes rates and the uniques of a period from the counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

UNIT = 100_000
KINDS = ("flow", "campaign", "form", "segment", "order")

Counts = Mapping[str, int]
CountsOfDay = Callable[[date], Counts]

# The share of a day's counts up to each hour, in thousandths: shops send mostly by day, and a little at night.
_DAY_SHARE = (
    0,
    8,
    14,
    18,
    21,
    25,
    32,
    50,
    90,
    160,
    250,
    330,
    400,
    460,
    520,
    580,
    640,
    700,
    760,
    820,
    870,
    910,
    950,
    980,
    1000,
)


def units(value: float | int | str | Decimal) -> int:
    """`value` as an integer, in 1/`UNIT`."""
    return int((Decimal(str(value)) * UNIT).to_integral_value())


def fractions(*parts: object, count: int) -> list[float]:
    """`count` (at most 8) numbers in [0, 1) that depend only on `parts` and are the same on every machine."""
    digest = hashlib.blake2b(":".join(str(part) for part in parts).encode(), digest_size=8 * count).digest()
    return [int.from_bytes(digest[8 * i : 8 * i + 8], "big") / 2**64 for i in range(count)]


def part_of_day(total: int, from_hour: int, to_hour: int) -> int:
    """The share of a day's count in the hours [from_hour, to_hour); a day's shares add up to `total`."""
    grain = UNIT if total % UNIT == 0 else 1
    whole = total // grain
    return (whole * _DAY_SHARE[to_hour] // 1000 - whole * _DAY_SHARE[from_hour] // 1000) * grain


@dataclass
class CountGroup:
    """The counts of one group by local day. `groupings` identify the group, by Klaviyo's names."""

    groupings: dict[str, str]
    source: CountsOfDay | None = None
    set_by_hand: dict[date, Counts] = field(default_factory=dict)
    _known: dict[date, Counts] = field(default_factory=dict)

    def is_set(self, day: date) -> bool:
        return day in self.set_by_hand

    def counts(self, day: date) -> Counts:
        if day in self.set_by_hand:
            return self.set_by_hand[day]
        if day not in self._known:
            self._known[day] = self.source(day) if self.source else {}
        return self._known[day]

    def last_set(self, day: date) -> date | None:
        """The last day up to `day` whose counts were set by hand."""
        return max((known for known in self.set_by_hand if known <= day), default=None)


@dataclass
class DailyCounts:
    """All groups of an account, by kind of report."""

    groups: dict[str, list[CountGroup]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, kind: str, group: CountGroup) -> None:
        self.groups[kind].append(group)

    def set_day(self, kind: str, groupings: Mapping[str, str], day: date, statistics: Mapping[str, Any]) -> None:
        counts = {name: units(value) for name, value in statistics.items()}
        if "bounced" in counts or "failed" in counts:
            counts.setdefault("bounced_or_failed", counts.get("bounced", 0) + counts.get("failed", 0))
        self._group(kind, groupings).set_by_hand[day] = counts

    def _group(self, kind: str, groupings: Mapping[str, str]) -> CountGroup:
        for group in self.groups[kind]:
            if groupings.items() <= group.groupings.items():
                return group
        group = CountGroup(dict(groupings))
        self.add(kind, group)
        return group
