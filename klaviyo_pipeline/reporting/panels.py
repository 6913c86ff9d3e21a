"""A chart as data: its series, and a description in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from klaviyo_pipeline.reporting.formats import Formatter
from klaviyo_pipeline.reporting.period import Period

Shape = Literal["bars", "lines"]
BARS: Shape = "bars"
"""A bar for each day. The values of several series are stacked if they are above zero."""
LINES: Shape = "lines"


@dataclass(frozen=True)
class Series:
    """The values of a metric, in the order of the panel's days; None on a day without a value."""

    label: str
    values: Sequence[Decimal | None]


@dataclass(frozen=True)
class Panel:
    """A chart by day, with one to four series in the same unit."""

    title: str
    shape: Shape
    days: Sequence[date]
    series: Sequence[Series]
    formatter: Formatter

    @property
    def is_empty(self) -> bool:
        return all(value is None for one in self.series for value in one.values)

    def in_words(self) -> str:
        """A description for screen readers: the lowest and the highest value of each series, with their days."""
        sentences = [text for one in self.series if (text := self._sentence(one))]
        return f"{self.title} by day. {' '.join(sentences)}" if sentences else f"{self.title} by day: no data."

    def _sentence(self, series: Series) -> str:
        known = [(value, day) for value, day in zip(series.values, self.days, strict=True) if value is not None]
        if not known:
            return ""
        (least, least_day), (most, most_day) = min(known), max(known)
        return (
            f"{series.label.capitalize()}: from {self.formatter(least)} ({Period(least_day, least_day)}) to "
            f"{self.formatter(most)} ({Period(most_day, most_day)})."
        )
