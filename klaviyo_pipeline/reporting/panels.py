"""A chart as data: what is drawn, and the same figures in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from klaviyo_pipeline.reporting.formats import Form
from klaviyo_pipeline.reporting.period import Period

Shape = Literal["bars", "lines"]
BARS: Shape = "bars"
"""Amounts of a day, those above zero stacked upon each other."""
LINES: Shape = "lines"


@dataclass(frozen=True)
class Series:
    """A figure by day, in the order of the panel's days; None where there is none."""

    label: str
    values: Sequence[Decimal | None]


@dataclass(frozen=True)
class Panel:
    """A chart over days, with one to four series of one unit."""

    title: str
    shape: Shape
    days: Sequence[date]
    series: Sequence[Series]
    form: Form

    @property
    def is_empty(self) -> bool:
        return all(value is None for one in self.series for value in one.values)

    def in_words(self) -> str:
        """What a reader who does not see the chart should know: each series' range, and when."""
        sentences = [text for one in self.series if (text := self._sentence(one))]
        return f"{self.title} by day. {' '.join(sentences)}" if sentences else f"{self.title} by day: no figures."

    def _sentence(self, series: Series) -> str:
        known = [(value, day) for value, day in zip(series.values, self.days, strict=True) if value is not None]
        if not known:
            return ""
        (least, least_day), (most, most_day) = min(known), max(known)
        return (
            f"{series.label.capitalize()}: from {self.form(least)} ({Period(least_day, least_day)}) to "
            f"{self.form(most)} ({Period(most_day, most_day)})."
        )
