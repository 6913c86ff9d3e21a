"""Fetches a report by calendar week or month, with Klaviyo's own uniques of each period.

One request covers 52 weeks or eleven months. The first period may have begun before the account's start date, and the
last one may still be open. The values of a period are those of the days from `covered_from` to `covered_to`. Klaviyo
does not document on which day its weeks begin. If the response has other periods than calendar weeks or months, the
values report is requested for each calendar period instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.klaviyo.reports import VALUES
from klaviyo_pipeline.orchestration.assets.report_fetcher import ReportFetcher, ReportResult, Row
from klaviyo_pipeline.windows import Window

COVERED_FROM, COVERED_TO = "covered_from", "covered_to"

Days = tuple[date, date]


@dataclass(frozen=True)
class PeriodFetcher:
    """Fetches contiguous periods of one report."""

    fetcher: ReportFetcher

    def fetch(self, windows: Sequence[Window]) -> ReportResult:
        """The result for these windows. Its rows and days have the first day of the period as their date."""
        account = self.fetcher.session.account
        today = account.today(self.fetcher.session.now())
        covered: dict[date, Days] = {}
        for window in windows:
            first, following = window.first_day, window.end.astimezone(account.zone).date()
            covered[first] = max(first, account.start_date), min(following - timedelta(days=1), today)
        periods = list(covered)
        since, until = covered[periods[0]][0], covered[periods[-1]][1]
        result = self.fetcher.request_days(self.fetcher.report, since, until)
        # Klaviyo may name the first period by the first requested day.
        names = {since: periods[0]} | {period: period for period in periods}
        if result.days - names.keys():
            return self._one_by_one(covered)
        rows = [_covering(row, names[row["date"]], covered) for row in result.rows]
        days = frozenset(names[day] for day in result.days)
        ended = frozenset(period for period in periods if covered[period][1] < today)
        return replace(result, rows=rows, days=days, left_out=ended - days)

    def _one_by_one(self, covered: dict[date, Days]) -> ReportResult:
        """The combined result of separate requests of the values report, one for each period."""
        report = VALUES[self.fetcher.report.entity]
        self.fetcher.context.log.warning(
            f"the {self.fetcher.report.name} report has other periods than calendar weeks or months: requesting the "
            f"{report.name} report for {counted(len(covered), 'period')}, one by one"
        )
        results = {period: self.fetcher.request_days(report, *days) for period, days in covered.items()}
        return ReportResult(
            asked_at=min(result.asked_at for result in results.values()),
            rows=[_covering(row, period, covered) for period, result in results.items() for row in result.rows],
            days=frozenset(covered),
            refused=frozenset[str]().union(*(result.refused for result in results.values())),
        )


def _covering(row: Row, period: date, covered: dict[date, Days]) -> Row:
    first, last = covered[period]
    return {**row, "date": period, COVERED_FROM: first, COVERED_TO: last}
