"""Which statistics Klaviyo refuses for a conversion metric.

A metric "does not support querying for values data": the report is refused as a whole (400) then, and given with the
same metric where the request names fewer statistics. Which of them bring the refusal about is not told, so it is
found out: with the value left out, with all about conversions left out, and by halves where neither helps.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from klaviyo_pipeline.klaviyo.errors import ConversionMetricIneligible
from klaviyo_pipeline.klaviyo.report_types import Report

MOST_REQUESTS = 8
"""Requests for one answer, the refused ones included: a report allows two a minute and 225 a day."""

Given = TypeVar("Given")
Ask = Callable[[frozenset[str]], Given]
"""Asks for a report without these statistics; raises `ConversionMetricIneligible` where Klaviyo refuses the metric."""


def most_statistics(report: Report, left_out: frozenset[str], ask: Ask[Given]) -> tuple[Given, frozenset[str]]:
    """The answer with as many statistics as Klaviyo gives, and those that it lacks; `left_out` are not asked for.

    Raises `ConversionMetricIneligible` where the metric gives no figures at all.
    """
    try:
        return ask(left_out), left_out
    except ConversionMetricIneligible:
        wanted = [name for name in report.statistics if name not in left_out]
        search = _Search(report, ask, MOST_REQUESTS - 1)
        search.run(wanted)
        if search.given is None:
            raise
        return search.given[0], frozenset(report.statistics) - search.accepted


def refused_words(report: Report, metric_id: str | None, statistics: frozenset[str]) -> str:
    """What Klaviyo refuses, in the order of the report's declaration."""
    if statistics >= frozenset(report.statistics):
        return f"Klaviyo gives no figures of the {report.name} report for the conversion metric {metric_id}"
    names = [name for name in report.statistics if name in statistics]
    return f"Klaviyo refuses {', '.join(names)} of the {report.name} report for the conversion metric {metric_id}"


@dataclass
class _Search(Generic[Given]):
    """Asks for more and more statistics, and keeps the answer with the most of them."""

    report: Report
    ask: Ask[Given]
    requests_left: int
    accepted: frozenset[str] = frozenset()
    given: tuple[Given] | None = None

    def run(self, wanted: Sequence[str]) -> None:
        """Find what is given of the statistics, which are refused together."""
        value = [name for name in wanted if name in self.report.about_value]
        others = [name for name in wanted if name not in value]
        if value and self._is_given(others):
            return
        conversions = [name for name in others if name in self.report.about_conversions]
        plain = [name for name in others if name not in conversions]
        if conversions and self._is_given(plain):
            self._add_halves(conversions)
        elif self._is_given(plain[:1]):
            self._add_halves(plain[1:])
            if not self._is_given(conversions):
                self._add_halves(conversions)

    def _is_given(self, names: Iterable[str]) -> bool:
        """Whether Klaviyo gives these together with all that it gave so far."""
        if self.requests_left == 0:
            return False
        self.requests_left -= 1
        together = self.accepted | frozenset(names)
        try:
            self.given = (self.ask(frozenset(self.report.statistics) - together),)
        except ConversionMetricIneligible:
            return False
        self.accepted = together
        return True

    def _add_halves(self, names: Sequence[str]) -> None:
        """Take what is given of these, of which it is known that not all are."""
        middle = len(names) // 2
        if middle == 0:
            return
        first, second = names[:middle], names[middle:]
        first_is_given = self._is_given(first)
        # Both halves before either is parted: where requests run out, little is missing.
        second_is_given = not first_is_given and self._is_given(second)
        for half, is_given in ((first, first_is_given), (second, second_is_given)):
            if not is_given:
                self._add_halves(half)
