"""Finds the statistics that Klaviyo rejects for a conversion metric.

If a metric "does not support querying for values data", Klaviyo rejects the whole report (400). It accepts the same
metric if the request contains fewer statistics. The error does not name the rejected statistics, so this module
searches for them. It first leaves out the statistics about the value of conversions. If Klaviyo still rejects the
report, the module leaves out all statistics about conversions, and then all statistics but one. Once a request is
accepted, it adds the others back in halves, except the statistics about the value.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from klaviyo_pipeline.klaviyo.errors import ConversionMetricIneligible
from klaviyo_pipeline.klaviyo.report_types import Report

MOST_REQUESTS = 8
"""The most requests for one answer, including rejected ones. A report allows 2 requests a minute and 225 a day."""

Given = TypeVar("Given")
Ask = Callable[[frozenset[str]], Given]
"""Requests a report without the given statistics. Raises `ConversionMetricIneligible` if Klaviyo rejects the metric."""


def most_statistics(report: Report, left_out: frozenset[str], ask: Ask[Given]) -> tuple[Given, frozenset[str]]:
    """The answer with the most statistics that `MOST_REQUESTS` requests find, and the statistics that it lacks.

    The statistics in `left_out` are never requested. Raises `ConversionMetricIneligible` if Klaviyo rejects every
    request.
    """
    try:
        return ask(left_out), left_out
    except ConversionMetricIneligible:
        wanted = [name for name in report.statistics if name not in left_out]
        search = _Search(report, ask, MOST_REQUESTS - 1)
        search.run(wanted)
        if search.answer is None:
            raise
        return search.answer[0], frozenset(report.statistics) - search.accepted


def refused_words(report: Report, metric_id: str | None, statistics: frozenset[str]) -> str:
    """A message that names the rejected statistics, in the order of the report's declaration."""
    if statistics >= frozenset(report.statistics):
        return f"Klaviyo returns no statistics in the {report.name} report for the conversion metric {metric_id}"
    names = [name for name in report.statistics if name in statistics]
    return f"Klaviyo rejects {', '.join(names)} in the {report.name} report for the conversion metric {metric_id}"


@dataclass
class _Search(Generic[Given]):
    """Finds the statistics that Klaviyo accepts.

    It leaves out statistics until a request is accepted, then adds the others in halves. `answer` is that of the last
    accepted request; it has all `accepted` statistics.
    """

    report: Report
    ask: Ask[Given]
    requests_left: int
    accepted: frozenset[str] = frozenset()
    answer: tuple[Given] | None = None

    def run(self, wanted: Sequence[str]) -> None:
        """Finds which of these statistics Klaviyo accepts, after it has rejected a request for all of them."""
        value = [name for name in wanted if name in self.report.about_value]
        others = [name for name in wanted if name not in value]
        if value and self._is_accepted(others):
            return
        conversions = [name for name in others if name in self.report.about_conversions]
        plain = [name for name in others if name not in conversions]
        if conversions and self._is_accepted(plain):
            self._add_halves(conversions)
        elif self._is_accepted(plain[:1]):
            self._add_halves(plain[1:])
            if conversions and not self._is_accepted(conversions):
                self._add_halves(conversions)

    def _is_accepted(self, names: Iterable[str]) -> bool:
        """Whether Klaviyo accepts these statistics together with those accepted so far.

        False if no requests are left.
        """
        if self.requests_left == 0:
            return False
        self.requests_left -= 1
        together = self.accepted | frozenset(names)
        try:
            self.answer = (self.ask(frozenset(self.report.statistics) - together),)
        except ConversionMetricIneligible:
            return False
        self.accepted = together
        return True

    def _add_halves(self, names: Sequence[str]) -> None:
        """Adds the statistics in `names` that Klaviyo accepts, after it has rejected all of them together."""
        middle = len(names) // 2
        if middle == 0:
            return
        first, second = names[:middle], names[middle:]
        first_is_accepted = self._is_accepted(first)
        # Both halves are tried before either is split, so that fewer statistics are missing if the requests run out.
        second_is_accepted = not first_is_accepted and self._is_accepted(second)
        for half, is_accepted in ((first, first_is_accepted), (second, second_is_accepted)):
            if not is_accepted:
                self._add_halves(half)
