"""Fetches days of a report, and determines which of the days the response covers.

A series report lists its days in `date_times`. A requested day that is not in this list may still have values, so all
missing days are requested once more. Klaviyo may leave them out again, for example if the account did not exist yet.
The values report is then requested for each range of these days, for a few ranges at most. If it has no values for a
range, the days of the range count as days without values. The days of all other ranges stay missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from klaviyo_pipeline.config.accounts import in_terms_of
from klaviyo_pipeline.config.wording import some
from klaviyo_pipeline.klaviyo.conversion import ConversionMetric
from klaviyo_pipeline.klaviyo.errors import BadRequest, CursorExpired
from klaviyo_pipeline.klaviyo.refused_statistics import refused_words
from klaviyo_pipeline.klaviyo.report_rows import added_up
from klaviyo_pipeline.klaviyo.report_types import OTHER_STATISTICS, Report, SeriesReport
from klaviyo_pipeline.klaviyo.reports import LONGEST_SEND, VALUES, body
from klaviyo_pipeline.orchestration.assets.allowed_statistics import fetch_allowed
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.reporting.period import Period, spans

RETRIES = 2
"""How often a report is requested again when a cursor expires between its pages."""

GAPS_REQUESTED = 3
"""The values report is requested for at most this many ranges of left-out days: each costs a request of its quota."""


Row = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class ReportResult:
    """The rows with values: one for each key and day of a series report, one for each key of a values report.

    `days` are the days that the result covers. `left_out` are the days that have ended but are not covered. A day that
    has not ended may be in neither. `refused` are the statistics that Klaviyo refuses for the conversion metric; they
    are None in the rows.
    """

    asked_at: datetime
    rows: list[Row]
    days: frozenset[date]
    left_out: frozenset[date] = frozenset()
    refused: frozenset[str] = frozenset()


class Notices(Protocol):
    """Receives notices about a response: the context of a run, or an object in its place."""

    @property
    def log(self) -> logging.Logger:
        """The log of the run."""
        ...

    def add_asset_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Add a notice to the materialization."""
        ...


@dataclass(frozen=True)
class ReportFetcher:
    """Fetches days of one report."""

    context: Notices
    session: Session
    report: Report
    metric: ConversionMetric | None
    _reported: set[str] = field(default_factory=set)

    def fetch(self, first: date, last: date) -> ReportResult:
        """The result for the days from `first` to `last`, both included. Left-out days are requested again."""
        wanted = frozenset(Period(first, last).days)
        begin = max(first, self.report.first_day or first)
        if last < begin:
            return ReportResult(self.session.now(), [], wanted)
        if not isinstance(self.report, SeriesReport):
            since, until = whole_sends(begin, last, self.session.account.today(self.session.now()))
            return replace(self.request_days(self.report, since, until), days=wanted)
        response = self.request_days(self.report, begin, last)
        result = replace(response, days=(wanted & response.days) | frozenset(day for day in wanted if day < begin))
        today = self.session.account.today(response.asked_at)
        left_out = frozenset(day for day in wanted - result.days if day < today)
        return self._retried(result, left_out) if left_out else result

    def _retried(self, result: ReportResult, left_out: frozenset[date]) -> ReportResult:
        first, last = min(left_out), max(left_out)
        self.context.log.warning(
            f"the {self.report.name} report lacks {some(sorted(left_out))}: requesting {first} to {last} again"
        )
        again = self._unless_rejected(self.report, first, last) or ReportResult(result.asked_at, [], frozenset())
        found = left_out & again.days
        empty = self._days_without_values(left_out - found)
        return replace(
            result,
            rows=result.rows + [row for row in again.rows if row["date"] in found],
            days=result.days | found | empty,
            left_out=left_out - found - empty,
            refused=result.refused | again.refused,
        )

    def _days_without_values(self, days: frozenset[date]) -> frozenset[date]:
        """Those of `days` for which the values report has no values."""
        empty = frozenset[date]()
        for gap in spans(days)[:GAPS_REQUESTED]:
            result = self._unless_rejected(VALUES[self.report.entity], gap.first, gap.last)
            if result is not None and not any(has_values(row, self.report) for row in result.rows):
                self.context.log.warning(f"Klaviyo has no values for {some(gap.days)}")
                empty |= frozenset(gap.days)
        return empty

    def _unless_rejected(self, report: Report, first: date, last: date) -> ReportResult | None:
        """The result of `request_days`; None if Klaviyo rejects the request."""
        try:
            return self.request_days(report, first, last)
        except BadRequest as rejected:
            self.context.log.warning(f"Klaviyo rejects the request for {first} to {last}: {rejected}")
            return None

    def request_days(self, report: Report, first: date, last: date) -> ReportResult:
        """Request these days with every statistic that Klaviyo allows. The result covers the days in the response."""
        metric = self.metric
        if metric is None:
            request = body(report, first, last)
            return from_first_page(lambda: self._pages(report, request, frozenset()))

        def fetch(left_out: frozenset[str]) -> ReportResult:
            request = body(report, first, last, metric.id, left_out=left_out)
            return from_first_page(lambda: self._pages(report, request, left_out))

        unwanted = frozenset() if metric.counts else frozenset(report.about_conversions)
        result, refused = fetch_allowed(self.session, report, metric.id, fetch, unwanted)
        if refused:
            self._warn_refused(refused_words(report, metric.id, refused))
        return replace(result, refused=refused)

    def _warn_refused(self, words: str) -> None:
        if words in self._reported:
            return
        self._reported.add(words)
        warning = (
            f"{words}. These statistics are stored as NULL, the others as returned. Set KLAVIYO_CONVERSION_METRIC_ID "
            "to a metric for which Klaviyo returns them. If you keep the metric, a sync requests these statistics "
            "again after 20 hours, or at once with --force."
        )
        self.context.log.warning(in_terms_of(self.session.account, warning))
        self.context.add_asset_metadata({"refused_statistics": "; ".join(sorted(self._reported))})

    def _pages(self, report: Report, request: dict[str, object], left_out: frozenset[str]) -> ReportResult:
        """Requests every page and combines them. The statistics in `left_out` are None in the result."""
        asked_at: datetime | None = None
        days: frozenset[date] | None = None
        pages = list[list[Row]]()
        # Values of statistics that were not requested are dropped.
        nothing = dict.fromkeys(left_out)
        for page in self.session.client.report_pages(report, request, self.session.account.zone):
            asked_at = asked_at or page.observed_at
            # A day counts only if every page has it, because each page contains different groups.
            days = page.days if days is None else days & page.days
            for name in page.unknown:
                self.context.log.warning(f"the statistic {name} is not declared: kept in {OTHER_STATISTICS}")
            for name in page.missing:
                if name not in left_out:
                    self.context.log.warning(f"the response lacks the statistic {name}: stored as NULL")
            pages.append([row for row in (one | nothing for one in page.rows) if self._is_stored(row)])
        assert asked_at is not None
        assert days is not None
        rows = added_up(report, pages)
        if isinstance(report, SeriesReport):
            rows = [row for row in rows if row["date"] in days]
        return ReportResult(asked_at, rows, days)

    def _is_stored(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has values. A level of zero is a value too."""
        return has_values(row, self.report) or any(row[name] is not None for name in self.report.by_use.levels)


def from_first_page(read: Callable[[], Result]) -> Result:
    """The result of `read`, which is called again, from the first page, if a cursor expires between its pages."""
    for _ in range(RETRIES):
        with suppress(CursorExpired):
            return read()
    return read()


def has_values(row: Mapping[str, Any], report: Report) -> bool:
    """Whether any statistic of the row is not zero."""
    others = row[OTHER_STATISTICS]
    values = [*(row[name] for name in report.statistics), *(others.values() if others else ())]
    return any(isinstance(value, Decimal | int) and value != 0 for value in values)


def whole_sends(first: date, last: date, today: date) -> tuple[date, date]:
    """The first and the last day of a request for all values of campaigns whose send began from `first` to `last`."""
    return first - LONGEST_SEND, min(last + LONGEST_SEND, max(last, today))
