"""The report assets, from one factory: Klaviyo's own figures by day, as asked.

One request covers up to 59 days of a series, or a year of values, however many windows the run has; its days are
replaced as a whole, in one transaction. Days on which nothing has a figure are not stored: whether an answer lists
them depends on the span that was asked, and the ledger already says that the day was asked.

Campaigns have no series (the API offers values alone). Their figures count by the day of the send, so a campaign's
values stand on the day that its send began. A send may go on for days: the request reaches past the span's ends to
have all of it, and campaigns whose send began outside of the span are left to the span in which it did. Figures whose
day is not known stand in `campaign_report_undated`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from math import ceil
from typing import Any

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.catalog import ReportAsset
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.signatures import cache_signature
from klaviyo_pipeline.klaviyo.conversion import ConversionMetric, find_conversion_metric
from klaviyo_pipeline.klaviyo.errors import ConversionMetricIneligible
from klaviyo_pipeline.klaviyo.report_types import GROUPS, OTHER_STATISTICS, SeriesReport
from klaviyo_pipeline.klaviyo.reports import (
    VALUES,
)
from klaviyo_pipeline.orchestration.assets.frames import table_frame
from klaviyo_pipeline.orchestration.assets.lookup import Lookup
from klaviyo_pipeline.orchestration.assets.report_fetcher import (
    ReportFetcher,
    ReportResult,
    has_figures,
    named,
    whole_sends,
)
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource, Session
from klaviyo_pipeline.planning.durations import time_left
from klaviyo_pipeline.postgres.account_binding import remember_conversion_metric
from klaviyo_pipeline.postgres.ledger import ReportContext
from klaviyo_pipeline.postgres.refusals import refusals_of
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.postgres.write.campaign_days import UNDATED, CampaignDays
from klaviyo_pipeline.postgres.write.io_manager import PARTITION_EXPR, REPLACE_WINDOWS, report_partitions
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.merge import ReplaceRange
from klaviyo_pipeline.postgres.write.staging import WINDOW
from klaviyo_pipeline.windows import Window, contiguous_ranges, report_windows

MOST_METRICS = 3
"""Metrics that a report is asked with in one run: those that give nothing cost requests of the daily quota."""


class DaysLeftOut(RuntimeError):
    """Klaviyo's answers lack days that were asked for."""


class WrongTimezone(RuntimeError):
    """The windows are not days of the account: a report would count figures under the wrong day."""


def report_asset(account: Account, spec: ReportAsset) -> dg.AssetsDefinition:
    """One report of one account, by day."""
    plan = report_windows(account)

    @dg.asset(
        name=spec.name,
        key_prefix=account.slug,
        group_name=account.slug,
        partitions_def=plan.definition,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="postgres",
        kinds={"klaviyo", "postgres"},
        pool=f"{account.slug}_api",
        deps=[
            # The rows' objects, whenever they last changed: no window of theirs in particular.
            dg.AssetDep([account.slug, spec.listing.entity], partition_mapping=dg.LastPartitionMapping())
        ],
        metadata={
            PARTITION_EXPR: "date",
            REPLACE_WINDOWS: True,
            "dagster/table_name": f"{account.slug}.{spec.name}",
        },
        description=(
            f"Klaviyo's {spec.report.name} report: every statistic by {', '.join(spec.report.keys)} and day, as "
            "Klaviyo states it. Figures may change for days, so the trailing days are asked again."
        ),
    )
    @cache_signature
    def report(context: dg.AssetExecutionContext, klaviyo: KlaviyoResource, warehouse: Warehouse) -> Load:
        windows = plan.of_run(context)

        def batches() -> Iterator[Batch]:
            with klaviyo.session(account, warehouse, context.run.run_id) as session:
                if not session.zone_is_right:
                    raise WrongTimezone(session.zone_remedy)
                yield from _read(context, session, spec, windows)
                context.add_asset_metadata(session.count.metadata())

        return Load(batches=batches(), windows=windows, on_synced=report_partitions(context))

    return report


def _read(
    context: dg.AssetExecutionContext, session: Session, spec: ReportAsset, windows: Sequence[Window]
) -> Iterator[Batch]:
    """The report's batches; a metric that Klaviyo gives no figures at all for is passed over for the next one."""
    if not spec.report.needs_conversion_metric:
        yield from _Reading(context, session, spec, windows, None).batches()
        return
    override = session.account.conversion_metric_id
    for metrics_left in reversed(range(MOST_METRICS)):
        metric = chosen_metric(session, spec)
        context.log.info(f"conversion metric {metric.id}: {metric.how}")
        context.add_asset_metadata({"conversion_metric": f"{metric.id} ({metric.how})"})
        if override or not _without_values(session, spec):
            with session.engine.begin() as connection:
                remember_conversion_metric(connection, session.account.slug, metric.id)
        try:
            # The first request tells whether the metric will do: nothing has been written by then.
            yield from _Reading(context, session, spec, windows, metric).batches()
            return
        except ConversionMetricIneligible as refused:
            if override or not metrics_left:
                raise
            context.log.warning(f"the conversion metric {metric.id} is passed over: {refused}")


def chosen_metric(session: Session, spec: ReportAsset) -> ConversionMetric:
    """The conversion metric that the account's reports are asked with; another one where this report has no figures at
    all for it."""
    passed_over = _without_values(session, spec)
    return find_conversion_metric(session.client, session.account.conversion_metric_id, passed_over)


def _without_values(session: Session, spec: ReportAsset) -> frozenset[str]:
    """The metrics that Klaviyo gives no figure of this report for."""
    with session.engine.connect() as connection:
        in_table = refusals_of(connection, session.account.slug, spec.report.name)
    return frozenset(one.metric_id for one in in_table if one.statistics >= frozenset(spec.report.statistics))


@dataclass(frozen=True)
class _Reading:
    """The reading of one report over contiguous windows."""

    context: dg.AssetExecutionContext
    session: Session
    spec: ReportAsset
    windows: Sequence[Window]
    metric: ConversionMetric | None
    without_day: set[str] = field(default_factory=set)
    """Campaigns that have figures and no send time."""

    @property
    def metric_id(self) -> str | None:
        return self.metric.id if self.metric is not None else None

    def batches(self) -> Iterator[Batch]:
        """The batches of each request's span: one, unless the answer leaves days out. Raises `DaysLeftOut` at the end
        for those."""
        api_checks = ReportFetcher(self.context, self.session, self.spec.report, self.metric)
        counted = 0
        left_out = frozenset[date]()
        for first in range(0, len(self.windows), self.spec.days_per_request):
            chunk = self.windows[first : first + self.spec.days_per_request]
            answer = api_checks.answer(_day(chunk[0]), _day(chunk[-1]))
            left_out |= answer.left_out
            sent = self.session.count.sent_to(*self._endpoints)
            yield from self._batches(chunk, answer, sent - counted)
            counted = sent if answer.days else counted
            self._log_progress(chunk, len(answer.rows), done=first + len(chunk))
        if left_out:
            raise DaysLeftOut(
                f"Klaviyo's {self.spec.report.name} report leaves out {named(left_out)}, asked again too; they "
                "stay missing, and the other days are stored. Run again later; if the account is younger than these "
                "days, set KLAVIYO_START_DATE."
            )

    def _log_progress(self, chunk: Sequence[Window], rows: int, done: int) -> None:
        of = len(self.windows)
        requests = ceil((of - done) / self.spec.days_per_request)
        left = time_left(self.spec.report.endpoint, requests, self.session.account.rate_scale)
        self.context.log.info(f"{chunk[0].key} to {chunk[-1].key}, {rows:,} rows: {done} of {of} days{left}")

    @property
    def _endpoints(self) -> set[str]:
        return {self.spec.report.endpoint.name, VALUES[self.spec.report.entity].endpoint.name}

    def _batches(self, chunk: Sequence[Window], answer: ReportResult, requests: int) -> Iterator[Batch]:
        """A batch for each unbroken run of days that the answer is for: only these are replaced."""
        self._fill([row[self.spec.report.keys[0]] for row in answer.rows])
        dated = list(self._dated(self._born(answer.rows)))
        for run in contiguous_ranges(chunk, [window for window in chunk if _day(window) in answer.days]):
            days = {_day(window): self.windows.index(window) for window in run}
            requested = {"conversion_metric_id": self.metric_id, "observed_at": answer.asked_at}
            rows = [{**row, "date": day, **requested, WINDOW: days[day]} for row, day in dated if day in days]
            completes = [
                CompletedWindow(window, answer.asked_at, requests if place == 0 else 0)
                for place, window in enumerate(run)
            ]
            requests = 0
            prepare = None
            if not isinstance(self.spec.report, SeriesReport):
                undated = [{**row, **requested} for row, day in dated if day is None]
                reach = whole_sends(_day(chunk[0]), _day(chunk[-1]), self.session.account.today(answer.asked_at))
                prepare = partial(self._settle, undated, ReplaceRange("date", *reach, answer.asked_at))
            yield Batch(
                table_frame(rows, frame_columns(self.spec)),
                completes,
                ReplaceRange("date", min(days), max(days), answer.asked_at, days),
                ReportContext(
                    self.metric_id,
                    self.session.identity.timezone,
                    self.session.identity.currency,
                    sorted(answer.refused),
                ),
                prepare=prepare,
            )

    def _settle(self, undated: Sequence[Mapping[str, Any]], chunk: ReplaceRange, connection: sa.Connection) -> None:
        """Have every figure of a campaign stand once, before the figures of a span are replaced."""
        moved = self._campaign_days.settle(connection)
        if moved:
            self.context.log.warning(
                f"the send day of {len(moved)} campaigns has changed, and their figures are moved: {', '.join(moved)}"
            )
        self._campaign_days.keep_undated(connection, undated, chunk)

    @property
    def _campaign_days(self) -> CampaignDays:
        return CampaignDays(self.session.account.slug, self.session.account.timezone)

    def _fill(self, ids: Sequence[str]) -> None:
        """Bring the objects that the report names and the table lacks, so that the metrics know their names."""
        stored, missed = Lookup(self.session, self.spec.listing).fill(sorted({id for id in ids if id}))
        if stored or missed:
            self.context.log.info(
                f"{stored} {self.spec.listing.entity} were looked up and stored, {missed} Klaviyo has no more"
            )

    def _dated(self, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], date | None]]:
        """Each row with its day: the series' own, or the day that the campaign's send began."""
        if isinstance(self.spec.report, SeriesReport):
            yield from ((row, row["date"]) for row in rows)
            return
        key = self.spec.report.keys[0]
        with self.session.engine.connect() as connection:
            sent = self._campaign_days.sent(connection)
        for id in sorted({row[key] for row in rows if sent.of(row) is None} - self.without_day):
            name = f"campaign {id}" if id else "a group without a campaign id"
            self.context.log.warning(f"{name} has figures but no send time; they stand in {UNDATED}")
            self.without_day.add(id)
        self.context.add_asset_metadata({"campaigns_without_day": sorted(self.without_day)})
        for row in rows:
            yield row, sent.of(row)

    def _born(self, rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """The rows but for levels of zero on days before their object was made: which of these an answer lists
        depends on the span that was asked.
        """
        if not self.spec.report.by_use.levels:
            return rows
        key = self.spec.report.keys[0]
        made = Lookup(self.session, self.spec.listing).repository.moments(
            "created_at", list({row[key] for row in rows})
        )
        days = {id: self.session.account.today(moment) for id, moment in made.items()}
        return [
            row for row in rows if row["date"] >= days.get(row[key], row["date"]) or has_figures(row, self.spec.report)
        ]


def _day(window: Window) -> date:
    return date.fromisoformat(window.key)


def frame_columns(spec: ReportAsset) -> tuple[str, ...]:
    """What a frame of this report holds."""
    metric = ("conversion_metric_id",) if spec.report.needs_conversion_metric else ()
    return (
        *spec.report.keys,
        "date",
        *spec.report.statistics,
        OTHER_STATISTICS,
        GROUPS,
        *metric,
        "observed_at",
        WINDOW,
    )
