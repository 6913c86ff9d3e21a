"""What Klaviyo answers when it is asked for a span of a report's days, and for which of the days it is an answer.

A series says in `date_times` which days it shows. A day that is not among them is not simply a day without figures: it
is asked for again, together with the others that were left out. Where Klaviyo leaves it out once more, as it may for
days before the account existed, the values report is asked: only if that has no figures either, there are none. Any
other day stays missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import dagster as dg

from klaviyo_pipeline.klaviyo.conversion import ConversionMetric
from klaviyo_pipeline.klaviyo.errors import BadRequest, CursorExpired
from klaviyo_pipeline.klaviyo.refused_statistics import refused_words
from klaviyo_pipeline.klaviyo.report_rows import added_up
from klaviyo_pipeline.klaviyo.report_types import OTHER_STATISTICS, Report, SeriesReport
from klaviyo_pipeline.klaviyo.reports import LONGEST_SEND, VALUES, body
from klaviyo_pipeline.orchestration.assets.allowed_statistics import given
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session

RETRIES = 2
"""How often a span is asked again when a cursor expires between its pages."""

GAPS_REQUESTED = 3
"""Unbroken runs of left-out days whose values are asked for: each is a request of the daily quota."""


Row = dict[str, Any]


@dataclass(frozen=True)
class ReportResult:
    """What came for a span: every row of its days with a figure, one for each key and day.

    `days` are those that it is an answer for; `left_out` are days that have ended and are not among them. A day that
    is still open and not shown yet is in neither. `refused` are statistics that Klaviyo does not give for the
    conversion metric; they are None in the rows.
    """

    asked_at: datetime
    rows: list[Row]
    days: frozenset[date]
    left_out: frozenset[date] = frozenset()
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ReportFetcher:
    """Asks for spans of one report."""

    context: dg.AssetExecutionContext
    session: Session
    report: Report
    metric: ConversionMetric | None
    _reported: set[str] = field(default_factory=set)

    def answer(self, first: date, last: date) -> ReportResult:
        """The answer for these days, both ends included; another request for what the first one left out."""
        wanted = frozenset(_days(first, last))
        begin = max(first, self.report.first_day or first)
        if last < begin:
            return ReportResult(self.session.now(), [], wanted)
        if not isinstance(self.report, SeriesReport):
            since, until = whole_sends(begin, last, self.session.account.today(self.session.now()))
            return replace(self._ask(self.report, since, until), days=wanted)
        fetched = self._ask(self.report, begin, last)
        answer = replace(fetched, days=(wanted & fetched.days) | frozenset(day for day in wanted if day < begin))
        today = self.session.account.today(fetched.asked_at)
        left_out = frozenset(day for day in wanted - answer.days if day < today)
        return self._retried(answer, left_out) if left_out else answer

    def _retried(self, answer: ReportResult, left_out: frozenset[date]) -> ReportResult:
        first, last = min(left_out), max(left_out)
        self.context.log.warning(
            f"the {self.report.name} report leaves out {named(left_out)}: asked again from {first} to {last}"
        )
        again = self._unless_refused(self.report, first, last) or ReportResult(answer.asked_at, [], frozenset())
        found = left_out & again.days
        empty = self._without_values(left_out - found)
        return replace(
            answer,
            rows=answer.rows + [row for row in again.rows if row["date"] in found],
            days=answer.days | found | empty,
            left_out=left_out - found - empty,
            refused=answer.refused | again.refused,
        )

    def _without_values(self, days: frozenset[date]) -> frozenset[date]:
        """Those of these days that the values report has no figures for."""
        empty = frozenset[date]()
        for gap in _gaps(days)[:GAPS_REQUESTED]:
            answer = self._unless_refused(VALUES[self.report.entity], gap[0], gap[-1])
            if answer is not None and not any(has_figures(row, self.report) for row in answer.rows):
                self.context.log.warning(f"Klaviyo has no figures for {named(frozenset(gap))}")
                empty |= frozenset(gap)
        return empty

    def _unless_refused(self, report: Report, first: date, last: date) -> ReportResult | None:
        """The answer; None where Klaviyo refuses the question."""
        try:
            return self._ask(report, first, last)
        except BadRequest as refused:
            self.context.log.warning(f"Klaviyo refuses to be asked for {first} to {last} alone: {refused}")
            return None

    def _ask(self, report: Report, first: date, last: date) -> ReportResult:
        """The answer with every statistic that Klaviyo gives."""
        metric = self.metric
        if metric is None:
            return self._pages_again(report, body(report, first, last), frozenset())

        def ask(left_out: frozenset[str]) -> ReportResult:
            return self._pages_again(report, body(report, first, last, metric.id, left_out=left_out), left_out)

        unwanted = frozenset() if metric.counts else frozenset(report.about_conversions)
        answer, refused = given(self.session, report, metric.id, ask, unwanted)
        if refused:
            self._tell_refused(refused_words(report, metric.id, refused))
        return replace(answer, refused=refused)

    def _tell_refused(self, words: str) -> None:
        if words in self._reported:
            return
        self._reported.add(words)
        self.context.log.warning(
            f"{words}: they stay empty, and the other statistics are stored. Set KLAVIYO_CONVERSION_METRIC_ID to a "
            "metric that Klaviyo gives them for; for this one, sync asks for them again tomorrow, or with --force."
        )
        self.context.add_asset_metadata({"refused_statistics": "; ".join(sorted(self._reported))})

    def _pages_again(self, report: Report, request: dict[str, object], left_out: frozenset[str]) -> ReportResult:
        """The pages, from the first again when a cursor expires between them."""
        for attempt in range(RETRIES + 1):
            try:
                return self._pages(report, request, left_out)
            except CursorExpired:
                if attempt == RETRIES:
                    raise
        raise AssertionError

    def _pages(self, report: Report, request: dict[str, object], left_out: frozenset[str]) -> ReportResult:
        asked_at: datetime | None = None
        days: frozenset[date] | None = None
        pages = list[list[Row]]()
        # What was not asked for is not kept, should it come all the same.
        nothing = dict.fromkeys(left_out)
        for page in self.session.client.report_pages(report, request):
            asked_at = asked_at or page.observed_at
            # A day that one page leaves out is not known of the groups on that page.
            days = page.days if days is None else days & page.days
            for name in [*page.unknown, *(name for name in page.missing if name not in left_out)]:
                self.context.log.warning(f"the statistic {name} is not as declared; what there is is kept")
            pages.append([row for row in (one | nothing for one in page.rows) if self._is_shown(row)])
        assert asked_at is not None
        assert days is not None
        rows = added_up(report, pages)
        if isinstance(report, SeriesReport):
            rows = [row for row in rows if row["date"] in days]
        return ReportResult(asked_at, rows, days)

    def _is_shown(self, row: Mapping[str, Any]) -> bool:
        """Whether the row says something: a figure, or a level, which is known at zero, too."""
        return has_figures(row, self.report) or any(row[name] is not None for name in self.report.by_use.levels)


def has_figures(row: Mapping[str, Any], report: Report) -> bool:
    """Whether any figure of the row is another than zero."""
    others = row[OTHER_STATISTICS]
    amounts = [*(row[name] for name in report.statistics), *(others.values() if others else ())]
    return any(isinstance(figure, Decimal | int) and figure != 0 for figure in amounts)


def whole_sends(first: date, last: date, today: date) -> tuple[date, date]:
    """The days to ask for, to have all figures of the campaigns whose send began on these."""
    return first - LONGEST_SEND, min(last + LONGEST_SEND, max(last, today))


def named(days: frozenset[date]) -> str:
    """The days, the first few by name."""
    days_text = ", ".join(map(str, sorted(days)[:5]))
    return days_text if len(days) <= 5 else f"{days_text} and {len(days) - 5} more"


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
