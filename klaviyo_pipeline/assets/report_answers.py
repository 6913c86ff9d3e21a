"""What Klaviyo answers when it is asked for a span of a report's days, and for which of the days it is an answer.

A series says in `date_times` which days it shows. A day that is not among them is not simply a day without figures: it
is asked for again, together with the others that were left out. Where Klaviyo leaves it out once more, as it may for
days before the account existed, the values report is asked: only if that has no figures either, there are none. Any
other day stays missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import dagster as dg

from klaviyo_pipeline.klaviyo.conversion import ConversionMetric
from klaviyo_pipeline.klaviyo.errors import BadRequest, CursorExpired
from klaviyo_pipeline.klaviyo.report_rows import added_up
from klaviyo_pipeline.klaviyo.report_types import OTHER_STATISTICS, Report, SeriesReport
from klaviyo_pipeline.klaviyo.reports import VALUES, body
from klaviyo_pipeline.resources import Session

ASK_AGAIN = 2
"""How often a span is asked again when a cursor expires between its pages."""

GAPS_ASKED = 3
"""Unbroken runs of left-out days whose values are asked for: each is a request of the daily quota."""

LONGEST_SEND = timedelta(days=14)
"""How long a campaign's send may go on: throttled and local-time sends take days, not weeks. A send that is cancelled
and begun again has figures from before its send time, too."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came for a span: every row of its days with a figure, one for each key and day.

    `days` are those that it is an answer for; `left_out` are days that have ended and are not among them. A day that
    is still open and not shown yet is in neither.
    """

    asked_at: datetime
    requests: int
    rows: list[Row]
    days: frozenset[date]
    left_out: frozenset[date] = frozenset()


@dataclass(frozen=True)
class Asking:
    """Asks for spans of one report."""

    context: dg.AssetExecutionContext
    session: Session
    report: Report
    metric: ConversionMetric | None

    def answer(self, first: date, last: date) -> Answer:
        """The answer for these days, both ends included; another request for what the first one left out."""
        wanted = frozenset(_days(first, last))
        begin = max(first, self.report.first_day or first)
        if last < begin:
            return Answer(self.session.now(), 0, [], wanted)
        if not isinstance(self.report, SeriesReport):
            since, until = whole_sends(begin, last, self.session.account.today(self.session.now()))
            return replace(self._ask(self.report, since, until), days=wanted)
        shown = self._ask(self.report, begin, last)
        answer = replace(shown, days=(wanted & shown.days) | frozenset(day for day in wanted if day < begin))
        today = self.session.account.today(shown.asked_at)
        left_out = frozenset(day for day in wanted - answer.days if day < today)
        return self._asked_again(answer, left_out) if left_out else answer

    def _asked_again(self, answer: Answer, left_out: frozenset[date]) -> Answer:
        first, last = min(left_out), max(left_out)
        self.context.log.warning(
            f"the {self.report.name} report leaves out {named(left_out)}: asked again from {first} to {last}"
        )
        again = self._unless_refused(self.report, first, last)
        found = left_out & again.days
        empty, requests = self._without_figures(left_out - found)
        return replace(
            answer,
            requests=answer.requests + again.requests + requests,
            rows=answer.rows + [row for row in again.rows if row["date"] in found],
            days=answer.days | found | empty,
            left_out=left_out - found - empty,
        )

    def _without_figures(self, days: frozenset[date]) -> tuple[frozenset[date], int]:
        """Those of these days that the values report has no figures for, and the requests that it took to know."""
        empty, requests = frozenset[date](), 0
        for gap in _gaps(days)[:GAPS_ASKED]:
            answer = self._unless_refused(VALUES[self.report.entity], gap[0], gap[-1])
            requests += answer.requests
            if answer.requests and not any(has_figures(row, self.report) for row in answer.rows):
                self.context.log.warning(f"Klaviyo has no figures for {named(frozenset(gap))}")
                empty |= frozenset(gap)
        return empty, requests

    def _unless_refused(self, report: Report, first: date, last: date) -> Answer:
        """The answer; one of no requests where Klaviyo refuses the question."""
        try:
            return self._ask(report, first, last)
        except BadRequest as refused:
            self.context.log.warning(f"Klaviyo refuses to be asked for {first} to {last} alone: {refused}")
            return Answer(self.session.now(), 0, [], frozenset())

    def _ask(self, report: Report, first: date, last: date) -> Answer:
        metric_id = self.metric.id if self.metric is not None else None
        request = body(report, first, last, metric_id)
        for attempt in range(ASK_AGAIN + 1):
            try:
                return self._pages(report, request)
            except CursorExpired:
                if attempt == ASK_AGAIN:
                    raise
        raise AssertionError

    def _pages(self, report: Report, request: dict[str, object]) -> Answer:
        asked_at: datetime | None = None
        days: frozenset[date] | None = None
        requests, pages = 0, list[list[Row]]()
        for page in self.session.client.report_pages(report, request):
            asked_at = asked_at or page.observed_at
            # A day that one page leaves out is not known of the groups on that page.
            days = page.days if days is None else days & page.days
            requests += page.requests
            for name in [*page.unknown, *page.missing]:
                self.context.log.warning(f"the statistic {name} is not as declared; what there is is kept")
            pages.append([row for row in map(self._countable, page.rows) if self._is_shown(row)])
        assert asked_at is not None
        assert days is not None
        rows = added_up(report, pages)
        if isinstance(report, SeriesReport):
            rows = [row for row in rows if row["date"] in days]
        return Answer(asked_at, requests, rows, days)

    def _countable(self, row: Row) -> Row:
        """The row without figures about conversions where the metric asked with is none of conversions."""
        if self.metric is None or self.metric.counts:
            return row
        return row | dict.fromkeys(self.report.about_conversions)

    def _is_shown(self, row: Mapping[str, Any]) -> bool:
        """Whether the row says something: a figure, or a level, which is known at zero, too."""
        return has_figures(row, self.report) or any(row[name] is not None for name in self.report.by_use.levels)


def has_figures(row: Mapping[str, Any], report: Report) -> bool:
    """Whether any figure of the row is another than zero."""
    others = row[OTHER_STATISTICS]
    figures = [*(row[name] for name in report.statistics), *(others.values() if others else ())]
    return any(isinstance(figure, Decimal | int) and figure != 0 for figure in figures)


def whole_sends(first: date, last: date, today: date) -> tuple[date, date]:
    """The days to ask for, to have all figures of the campaigns whose send began on these."""
    return first - LONGEST_SEND, min(last + LONGEST_SEND, max(last, today))


def named(days: frozenset[date]) -> str:
    """The days, the first few by name."""
    told = ", ".join(map(str, sorted(days)[:5]))
    return told if len(days) <= 5 else f"{told} and {len(days) - 5} more"


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _gaps(days: frozenset[date]) -> list[list[date]]:
    """The days as unbroken runs, in order."""
    gaps: list[list[date]] = []
    for day in sorted(days):
        if gaps and day - gaps[-1][-1] == timedelta(days=1):
            gaps[-1].append(day)
        else:
            gaps.append([day])
    return gaps
