"""The asset of the conversions by the day of the order, from Klaviyo's metric aggregates.

One query covers up to 90 days. Each range of days that the response contains is replaced in one transaction. The
response names the flow and the message of each conversion, but not the campaign, which is looked up in Postgres.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.catalog import CONVERSIONS_DAILY, FLOW_REPORT
from klaviyo_pipeline.config.accounts import in_terms_of
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.klaviyo.aggregates import DAYS_PER_REQUEST, MEASUREMENTS
from klaviyo_pipeline.klaviyo.conversion import ConversionMetric
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS
from klaviyo_pipeline.klaviyo.rates import QUERY_METRIC_AGGREGATES
from klaviyo_pipeline.klaviyo.report_rows import sum_known
from klaviyo_pipeline.orchestration.assets.account_asset import windowed_asset
from klaviyo_pipeline.orchestration.assets.asset_metadata import latest_objects
from klaviyo_pipeline.orchestration.assets.frames import table_frame
from klaviyo_pipeline.orchestration.assets.metric_loads import chosen_metric, load_by_metric, requested_metrics
from klaviyo_pipeline.orchestration.assets.report_assets import DaysLeftOut
from klaviyo_pipeline.orchestration.assets.report_fetcher import from_first_page
from klaviyo_pipeline.orchestration.assets.resumed_runs import windows_left
from klaviyo_pipeline.orchestration.resources.account_resources import AccountAccess
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.postgres.first_metric import make_first
from klaviyo_pipeline.postgres.ledger import ReportContext
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.merge import ReplaceRange
from klaviyo_pipeline.postgres.write.staging import WINDOW
from klaviyo_pipeline.windows import Window, contiguous_ranges, report_windows

KEYS = ("conversion_metric_id", "flow_id", "campaign_id", "message_id", "send_channel", "date")
COLUMNS = (*KEYS, *MEASUREMENTS, "observed_at", WINDOW)

Row = Mapping[str, Any]


def conversions_asset(account: Account) -> dg.AssetsDefinition:
    """The conversions of one account by the day of the order."""
    plan = report_windows(account)

    @windowed_asset(
        account,
        CONVERSIONS_DAILY,
        plan,
        column="date",
        kinds={"klaviyo", "postgres"},
        pool=f"{account.slug}_api",
        deps=latest_objects(account, CAMPAIGNS),
        description=(
            "Conversions by the day of the order: count, people and value by flow, campaign, message and channel. They "
            "include conversions that Klaviyo attributes to no message. Klaviyo attributes some orders late, so "
            "schedules sync the trailing days again."
        ),
    )
    def conversions(context: dg.AssetExecutionContext, access: AccountAccess) -> Load:
        metric_ids = requested_metrics(context, account)
        windows = windows_left(context, access, account, CONVERSIONS_DAILY, plan, metric_ids)

        def read(session: Session, further: ConversionMetric | None) -> Iterator[Batch]:
            metric = further or chosen_metric(session, FLOW_REPORT)
            context.log.info(f"conversion metric {metric.id}: {metric.how}")
            if further is None:
                context.add_asset_metadata({"conversion_metric": f"{metric.id} ({metric.how})"})
            return _Reading(context, session, windows, metric, is_further=further is not None).batches()

        return load_by_metric(context, access, account, CONVERSIONS_DAILY, windows, metric_ids, read)

    return conversions


@dataclass(frozen=True)
class _Reading:
    """Reads the conversions of contiguous windows."""

    context: dg.AssetExecutionContext
    session: Session
    windows: Sequence[Window]
    metric: ConversionMetric
    is_further: bool

    def batches(self) -> Iterator[Batch]:
        """The batches of all windows: one batch for each range of days in a response.

        Raises `DaysLeftOut` at the end if responses lack days that have ended.
        """
        left_out = list[date]()
        for first in range(0, len(self.windows), DAYS_PER_REQUEST):
            chunk = self.windows[first : first + DAYS_PER_REQUEST]
            sent = self.session.count.sent_to(QUERY_METRIC_AGGREGATES.name)
            asked_at = self.session.now()
            found, left_out_here = from_first_page(partial(self._pages, chunk)) if self.metric.counts else ((), set())
            requests = self.session.count.sent_to(QUERY_METRIC_AGGREGATES.name) - sent
            rows = self._with_campaigns(found)
            for covered in contiguous_ranges(chunk, [one for one in chunk if one.first_day not in left_out_here]):
                yield self._batch(covered, rows, asked_at, requests)
                requests = 0
            left_out += sorted(left_out_here)
            self.context.log.info(f"{chunk[0].key} to {chunk[-1].key}: {counted(len(rows), 'row')}")
        if left_out:
            raise DaysLeftOut(
                f"Klaviyo's metric aggregates lack {some(left_out)}. These days stay missing, the others are stored."
                " Sync again later."
            )

    def _batch(self, covered: Sequence[Window], rows: Sequence[Row], asked_at: datetime, requests: int) -> Batch:
        days = {window.first_day: self.windows.index(window) for window in covered}
        common = {"conversion_metric_id": self.metric.id, "observed_at": asked_at}
        of_these = [{**row, **common, WINDOW: days[row["date"]]} for row in rows if row["date"] in days]
        return Batch(
            table_frame(of_these, COLUMNS),
            [CompletedWindow(window, asked_at, 0 if place else requests) for place, window in enumerate(covered)],
            ReplaceRange("date", min(days), max(days), asked_at, days, self.metric.id),
            ReportContext(self.metric.id, self.session.identity.timezone, self.session.identity.currency),
            prepare=None if self.is_further else self._make_first,
        )

    def _make_first(self, connection: sa.Connection) -> None:
        make_first(connection, self.session.account.slug, CONVERSIONS_DAILY, self.metric.id)

    def _pages(self, chunk: Sequence[Window]) -> tuple[Sequence[Row], Set[date]]:
        """The rows of these days from all pages, and the days that have ended and that a page lacks.

        If a later page repeats a group, its values replace the earlier ones.
        """
        account, now = self.session.account, self.session.now()
        wanted, today = {window.first_day for window in chunk}, account.today(now)
        rows: dict[tuple[Any, date], Row] = {}
        left_out = set[date]()
        for page in self.session.client.aggregates(self.metric.id, min(wanted), max(wanted), account.zone, now):
            left_out |= {day for day in wanted - page.days if day < today}
            rows |= {(row["group"], row["date"]): row for row in page.rows if row["date"] in wanted}
        return list(rows.values()), left_out

    def _with_campaigns(self, rows: Sequence[Row]) -> list[Row]:
        """Add the campaign of each message that belongs to no flow, and sum rows that then have the same key."""
        with self.session.engine.connect() as connection:
            campaigns = campaigns_of_messages(connection, self.session.account.slug)
        unknown, days = set[str](), set[date]()
        by_key: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in rows:
            message = row["message_id"]
            campaign = "" if row["flow_id"] else campaigns.get(message, "")
            if message and not row["flow_id"] and not campaign:
                unknown.add(message)
                days.add(row["date"])
            full = {**row, "campaign_id": campaign}
            key = tuple(full[name] for name in KEYS if name != "conversion_metric_id")
            by_key[key] = _sum(by_key[key], full) if key in by_key else full
        if unknown:
            warning = (
                f"no flow or campaign was found for {counted(len(unknown), 'message')} with conversions: "
                f"{some(sorted(unknown))}. The campaign_id of these conversions is empty. Run `klaviyo-pipeline sync "
                f"campaigns_census conversions_daily --from {min(days)} --to {max(days)} --force`."
            )
            self.context.log.warning(in_terms_of(self.session.account, warning))
        return list(by_key.values())


def _sum(one: dict[str, Any], other: Row) -> dict[str, Any]:
    return {**one, **{name: sum_known((one[name], other[name])) for name in MEASUREMENTS}}


def campaigns_of_messages(connection: sa.Connection, schema: str) -> dict[str, str]:
    """The campaign id by message id. Klaviyo may return a campaign id as a message id, so campaign ids are keys too."""

    def pairs(table: str, message: str, campaign: str) -> sa.Select[Any]:
        names = dict.fromkeys((message, campaign))
        known = sa.table(table, *(sa.column(name, sa.Text) for name in names), schema=schema)
        return sa.select(known.c[message].label("message"), known.c[campaign].label("campaign")).where(
            known.c[message] != ""
        )

    queries = (
        pairs("campaigns", "id", "id"),
        pairs("campaign_report", "campaign_message_id", "campaign_id").distinct(),
        pairs("campaign_messages", "id", "campaign_id"),
    )
    found: dict[str, str] = {}
    for query in queries:
        found.update({message: campaign for message, campaign in connection.execute(query) if campaign})
    return found
