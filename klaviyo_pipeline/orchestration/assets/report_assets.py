"""The factory of the report assets: Klaviyo's own values by day, week or month.

One request covers up to 59 days of a daily series report, 52 weeks or eleven months of a weekly or monthly series
report, or a year of a values report. One transaction replaces each range of days that the response covers without a
gap. Rows whose counts are all zero are not stored, because whether Klaviyo returns them depends on the requested days.
A level of zero, such as a segment without members, is stored. The ledger records which days were requested.

Campaigns have no series report, only a values report, which counts all values of a campaign by the day of the send. The
values are stored under the day on which the send began. A send may take days, so the request also covers two weeks
before and after the chunk. Campaigns whose send began outside of the chunk belong to another chunk. Values without a
known day are stored in `campaign_report_undated`; each breakdown of campaigns has such a table too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from math import ceil
from typing import Any

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.catalog import ReportAsset, period_column
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.klaviyo.conversion import ConversionMetric
from klaviyo_pipeline.klaviyo.errors import ConversionMetricIneligible
from klaviyo_pipeline.klaviyo.report_types import GROUPS, OTHER_STATISTICS, SeriesReport
from klaviyo_pipeline.klaviyo.reports import VALUES
from klaviyo_pipeline.orchestration.assets.account_asset import windowed_asset
from klaviyo_pipeline.orchestration.assets.asset_metadata import latest_objects
from klaviyo_pipeline.orchestration.assets.frames import table_frame
from klaviyo_pipeline.orchestration.assets.lookup import Lookup
from klaviyo_pipeline.orchestration.assets.metric_loads import (
    chosen_metric,
    load_by_metric,
    refused_metrics,
    requested_metrics,
)
from klaviyo_pipeline.orchestration.assets.period_fetcher import COVERED_FROM, COVERED_TO, PeriodFetcher
from klaviyo_pipeline.orchestration.assets.report_fetcher import (
    ReportFetcher,
    ReportResult,
    has_values,
    whole_sends,
)
from klaviyo_pipeline.orchestration.assets.resumed_runs import windows_left
from klaviyo_pipeline.orchestration.resources.account_resources import AccountAccess
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.planning.durations import time_left
from klaviyo_pipeline.postgres.account_binding import remember_conversion_metric
from klaviyo_pipeline.postgres.engine import in_transaction
from klaviyo_pipeline.postgres.first_metric import make_first
from klaviyo_pipeline.postgres.ledger import ReportContext
from klaviyo_pipeline.postgres.write.campaign_days import CampaignDays
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.merge import ReplaceRange
from klaviyo_pipeline.postgres.write.staging import WINDOW
from klaviyo_pipeline.windows import Window, contiguous_ranges, report_windows

MOST_METRICS = 3
"""One run tries at most this many conversion metrics for a report: each takes requests of the daily quota."""


class DaysLeftOut(RuntimeError):
    """Klaviyo's responses lack days that were requested."""


def report_asset(account: Account, spec: ReportAsset) -> dg.AssetsDefinition:
    """One report of one account, by day, week or month."""
    plan = report_windows(account, spec.period)

    @windowed_asset(
        account,
        spec.name,
        plan,
        column=period_column(spec.name),
        kinds={"klaviyo", "postgres"},
        pool=f"{account.slug}_api",
        deps=latest_objects(account, spec.listing),
        description=(
            f"Klaviyo's {spec.report.name} report: every statistic by {', '.join(spec.report.keys)} and {spec.period}, "
            f"as Klaviyo returns it. Values of recent {spec.period}s can still change, so schedules sync them again."
        ),
    )
    def report(context: dg.AssetExecutionContext, access: AccountAccess) -> Load:
        metric_ids = requested_metrics(context, account, has_metric=spec.report.needs_conversion_metric)
        windows = windows_left(context, access, account, spec.name, plan, metric_ids)

        def read(session: Session, further: ConversionMetric | None) -> Iterator[Batch]:
            if further is not None:
                context.log.info(f"conversion metric {further.id}")
                return _Reading(context, session, spec, windows, further, is_further=True).batches()
            return _read(context, session, spec, windows)

        return load_by_metric(context, access, account, spec.name, windows, metric_ids, read)

    return report


def _read(
    context: dg.AssetExecutionContext, session: Session, spec: ReportAsset, windows: Sequence[Window]
) -> Iterator[Batch]:
    """The report's batches. If Klaviyo refuses the report for a metric that no setting names, another one is tried."""
    if not spec.report.needs_conversion_metric:
        yield from _Reading(context, session, spec, windows, None).batches()
        return
    override = session.account.first_conversion_metric
    for metrics_left in reversed(range(MOST_METRICS)):
        metric = chosen_metric(session, spec)
        context.log.info(f"conversion metric {metric.id}: {metric.how}")
        context.add_asset_metadata({"conversion_metric": f"{metric.id} ({metric.how})"})
        if override or not refused_metrics(session, spec):
            in_transaction(
                session.engine, partial(remember_conversion_metric, schema=session.account.slug, metric_id=metric.id)
            )
        try:
            # Klaviyo refuses a metric at the first request, before anything is written.
            yield from _Reading(context, session, spec, windows, metric).batches()
            return
        except ConversionMetricIneligible as refused:
            if override or not metrics_left:
                raise
            context.log.warning(f"conversion metric {metric.id} cannot be used, trying another one: {refused}")


@dataclass(frozen=True)
class _Reading:
    """Reads one report for contiguous windows."""

    context: dg.AssetExecutionContext
    session: Session
    spec: ReportAsset
    windows: Sequence[Window]
    metric: ConversionMetric | None
    is_further: bool = False
    """Whether this is a further conversion metric, which the metrics tables do not use."""
    without_day: set[str] = field(default_factory=set)
    """The ids of campaigns with values but without a send time."""

    @property
    def metric_id(self) -> str | None:
        return self.metric.id if self.metric is not None else None

    def batches(self) -> Iterator[Batch]:
        """The batches of all chunks: one batch for each range of days in a response.

        Raises `DaysLeftOut` at the end if responses lack days.
        """
        fetcher = ReportFetcher(self.context, self.session, self.spec.report, self.metric)
        recorded = 0
        left_out = frozenset[date]()
        for first in range(0, len(self.windows), self.spec.windows_per_request):
            chunk = self.windows[first : first + self.spec.windows_per_request]
            if self.spec.period == "day":
                result = fetcher.fetch(chunk[0].first_day, chunk[-1].first_day)
            else:
                result = PeriodFetcher(fetcher).fetch(chunk)
            left_out |= result.left_out
            sent = self.session.count.sent_to(*self._endpoints)
            yield from self._batches(chunk, result, sent - recorded)
            recorded = sent if result.days else recorded
            self._log_progress(chunk, len(result.rows), done=first + len(chunk))
        if left_out:
            raise DaysLeftOut(
                f"Klaviyo's {self.spec.report.name} report lacks {some(sorted(left_out))}. These days stay missing; "
                "the other days are stored. Sync again later. If the account did not exist on these days, set a later "
                "KLAVIYO_START_DATE."
            )

    def _log_progress(self, chunk: Sequence[Window], rows: int, done: int) -> None:
        total = len(self.windows)
        requests = ceil((total - done) / self.spec.windows_per_request)
        left = time_left(self.spec.report.endpoint, requests, self.session.account.rate_scale)
        self.context.log.info(
            f"{chunk[0].key} to {chunk[-1].key}, {counted(rows, 'row')}: {done} of "
            f"{counted(total, self.spec.period)}{left}"
        )

    @property
    def _endpoints(self) -> set[str]:
        return {self.spec.report.endpoint.name, VALUES[self.spec.report.entity].endpoint.name}

    def _batches(self, chunk: Sequence[Window], result: ReportResult, requests: int) -> Iterator[Batch]:
        """A batch for each contiguous range of windows that the result covers. Only their rows are replaced."""
        self._fetch_missing([row[self.spec.report.keys[0]] for row in result.rows])
        dated = list(self._dated(self._since_creation(result.rows)))
        for covered in contiguous_ranges(chunk, [window for window in chunk if window.first_day in result.days]):
            days = {window.first_day: self.windows.index(window) for window in covered}
            requested = {"conversion_metric_id": self.metric_id, "observed_at": result.asked_at}
            column = period_column(self.spec.name)
            rows = [{**row, column: day, **requested, WINDOW: days[day]} for row, day in dated if day in days]
            completes = [
                CompletedWindow(window, result.asked_at, requests if place == 0 else 0)
                for place, window in enumerate(covered)
            ]
            requests = 0
            undated = [{**row, **requested} for row, day in dated if day is None]
            reach = whole_sends(chunk[0].first_day, chunk[-1].first_day, self.session.account.today(result.asked_at))
            whole = ReplaceRange("date", *reach, result.asked_at, conversion_metric_id=self.metric_id)
            yield Batch(
                table_frame(rows, frame_columns(self.spec)),
                completes,
                ReplaceRange(column, min(days), max(days), result.asked_at, days, self.metric_id),
                ReportContext(
                    self.metric_id,
                    self.session.identity.timezone,
                    self.session.identity.currency,
                    sorted(result.refused),
                ),
                prepare=partial(self._prepare, undated, whole),
            )

    def _prepare(self, undated: Sequence[Mapping[str, Any]], chunk: ReplaceRange, connection: sa.Connection) -> None:
        """Prepare the tables before the rows of a chunk are replaced.

        Make the metric the report's first one, move rows of campaigns whose send day has changed, and store the rows
        without a day.
        """
        if self.metric_id is not None and not self.is_further:
            make_first(connection, self.session.account.slug, self.spec.name, self.metric_id)
        if isinstance(self.spec.report, SeriesReport):
            return
        moved = self._campaign_days.settle(connection)
        if moved:
            self.context.log.warning(
                f"values moved to another day, because the send day of these campaigns has changed: {', '.join(moved)}"
            )
        self._campaign_days.keep_undated(connection, undated, chunk)

    @property
    def _campaign_days(self) -> CampaignDays:
        return CampaignDays(self.session.account.slug, self.session.account.timezone, self.spec.name)

    def _fetch_missing(self, ids: Sequence[str]) -> None:
        """Fetch objects of the report that the entity's table lacks, so that the metrics have their names."""
        stored, missed = Lookup(self.session, self.spec.listing).fill(sorted({id for id in ids if id}))
        if stored or missed:
            self.context.log.info(
                f"looked up missing {self.spec.listing.entity}: {stored} stored, {missed} not found (404)"
            )

    def _dated(self, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], date | None]]:
        """Each row with its day: the day of the series, or the day on which the campaign's send began."""
        if isinstance(self.spec.report, SeriesReport):
            yield from ((row, row["date"]) for row in rows)
            return
        key = self.spec.report.keys[0]
        with self.session.engine.connect() as connection:
            dated = list(zip(rows, self._campaign_days.of(connection, rows), strict=True))
        for id in sorted({row[key] for row, day in dated if day is None} - self.without_day):
            name = f"campaign {id}" if id else "a group without a campaign id"
            self.context.log.warning(
                f"{name} has values but no send time; the values are stored in {self._campaign_days.undated}"
            )
            self.without_day.add(id)
        self.context.add_asset_metadata({"campaigns_without_day": sorted(self.without_day)})
        yield from dated

    def _since_creation(self, rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Drop rows of zeros on days before their object was created.

        Klaviyo includes these rows or not, depending on which days are requested.
        """
        if not self.spec.report.by_use.levels:
            return rows
        key = self.spec.report.keys[0]
        created = Lookup(self.session, self.spec.listing).repository.moments(
            "created_at", list({row[key] for row in rows})
        )
        days = {id: self.session.account.today(moment) for id, moment in created.items()}
        return [
            row for row in rows if row["date"] >= days.get(row[key], row["date"]) or has_values(row, self.spec.report)
        ]


def frame_columns(spec: ReportAsset) -> tuple[str, ...]:
    """The columns of a frame with rows of this report."""
    metric = ("conversion_metric_id",) if spec.report.needs_conversion_metric else ()
    covered = () if spec.period == "day" else (COVERED_FROM, COVERED_TO)
    return (
        *spec.report.keys,
        period_column(spec.name),
        *covered,
        *spec.report.statistics,
        OTHER_STATISTICS,
        GROUPS,
        *metric,
        "observed_at",
        WINDOW,
    )
