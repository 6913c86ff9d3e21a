"""The list of everything that is synced, as data. Assets, checks, jobs, commands and docs are built from it.

`docs/extend.md` shows how to add an entity: a declaration, a line here, and a migration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS, FLOWS, FORMS, SEGMENTS, Listing
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.report_types import Report, SeriesReport
from klaviyo_pipeline.klaviyo.reports import (
    CAMPAIGN_VALUES,
    DAILY_CHUNK_DAYS,
    FLOW_SERIES,
    FLOW_SERIES_MONTHLY,
    FLOW_SERIES_WEEKLY,
    FORM_SERIES,
    LONGEST_SEND,
    PERIODS_PER_REQUEST,
    SEGMENT_SERIES,
    VALUES_CHUNK_DAYS,
)
from klaviyo_pipeline.klaviyo.tags import TAGS

Period = Literal["day", "week", "month"]
"""The length of a window of a report or metrics table. Weeks begin on Monday."""

_PERIODS: Mapping[str, Period] = {"daily": "day", "weekly": "week", "monthly": "month"}


@dataclass(frozen=True)
class ReportAsset:
    """A report asset as data: its table, Klaviyo's report, and the entity of its rows."""

    name: str
    report: Report
    listing: Listing

    @property
    def period(self) -> Period:
        """The length of its windows."""
        return _PERIODS[self.report.interval] if isinstance(self.report, SeriesReport) else "day"

    @property
    def windows_per_request(self) -> int:
        """The most windows in one request."""
        if not isinstance(self.report, SeriesReport):
            return VALUES_CHUNK_DAYS - 2 * LONGEST_SEND.days
        return DAILY_CHUNK_DAYS if self.period == "day" else PERIODS_PER_REQUEST[self.report.interval]


@dataclass(frozen=True)
class MetricsTable:
    """A metrics table as data: the report it aggregates, the key of its rows, and the entity with more columns.

    `named` maps each column that is copied from the entity's latest state to the entity's column.
    """

    name: str
    report: str
    key: str
    entity: str
    named: Mapping[str, str]


def census_name(listing: Listing) -> str:
    """The name of the census asset: the entity's own name if the entity has no windows."""
    return listing.entity if listing.time_field is None else f"{listing.entity}_census"


_LISTINGS = (
    FLOWS,
    CAMPAIGNS,
    FORMS,
    SEGMENTS,
)


ENTITIES: dict[str, Listing] = {listing.entity: listing for listing in _LISTINGS}
"""The entities that are synced by window, by asset, in display order."""


CENSUSES: dict[str, Listing] = {census_name(listing): listing for listing in (*ENTITIES.values(), TAGS)}
"""The assets without windows, by asset: each is a full listing. The listing of the tags is one of them."""


ENTITY_CENSUSES: dict[str, Listing] = {
    name: listing for name, listing in CENSUSES.items() if listing.entity in ENTITIES
}
"""The censuses of the entities, by asset."""


EVERY_CENSUS = "census"
"""The name for all entity censuses on the command line."""


FLOW_REPORT = ReportAsset("flow_report", FLOW_SERIES, FLOWS)
CAMPAIGN_REPORT = ReportAsset("campaign_report", CAMPAIGN_VALUES, CAMPAIGNS)
FORM_REPORT = ReportAsset("form_report", FORM_SERIES, FORMS)
SEGMENT_REPORT = ReportAsset("segment_report", SEGMENT_SERIES, SEGMENTS)
FLOW_REPORT_WEEKLY = ReportAsset("flow_report_weekly", FLOW_SERIES_WEEKLY, FLOWS)
FLOW_REPORT_MONTHLY = ReportAsset("flow_report_monthly", FLOW_SERIES_MONTHLY, FLOWS)
REPORTS = {
    spec.name: spec
    for spec in (
        FLOW_REPORT,
        CAMPAIGN_REPORT,
        FORM_REPORT,
        SEGMENT_REPORT,
        FLOW_REPORT_WEEKLY,
        FLOW_REPORT_MONTHLY,
    )
}
"""The reports, by asset."""


FLOW_METRICS = MetricsTable(
    "flow_metrics",
    "flow_report",
    "flow_id",
    "flows",
    {"flow_name": "name", "flow_status": "status", "trigger_type": "trigger_type"},
)
CAMPAIGN_METRICS = MetricsTable(
    "campaign_metrics",
    "campaign_report",
    "campaign_id",
    "campaigns",
    {"campaign_name": "name", "campaign_status": "status", "channel": "channel"},
)
FORM_METRICS = MetricsTable(
    "form_metrics", "form_report", "form_id", "forms", {"form_name": "name", "form_status": "status"}
)
SEGMENT_METRICS = MetricsTable(
    "segment_metrics",
    "segment_report",
    "segment_id",
    "segments",
    {"segment_name": "name", "is_active": "is_active"},
)
FLOW_METRICS_WEEKLY = replace(FLOW_METRICS, name="flow_metrics_weekly", report="flow_report_weekly")
FLOW_METRICS_MONTHLY = replace(FLOW_METRICS, name="flow_metrics_monthly", report="flow_report_monthly")
METRICS = {
    table.name: table
    for table in (
        FLOW_METRICS,
        CAMPAIGN_METRICS,
        FORM_METRICS,
        SEGMENT_METRICS,
        FLOW_METRICS_WEEKLY,
        FLOW_METRICS_MONTHLY,
    )
}
"""The metrics tables, by asset. Each is computed from a report."""


CONVERSIONS_DAILY = "conversions_daily"
"""The conversions by the day of the order, from metric aggregates."""


FIGURES = (*REPORTS, *METRICS, CONVERSIONS_DAILY)
"""The assets with values by period: the reports, the metrics tables and the conversions."""


def period_of(asset: str) -> Period:
    """The length of the windows of an asset of `FIGURES`."""
    report = METRICS[asset].report if asset in METRICS else asset
    return REPORTS[report].period if report in REPORTS else "day"


def period_column(asset: str) -> str:
    """The column with the first day of a row's period, in the table of an asset of `FIGURES`."""
    return "date" if period_of(asset) == "day" else "period_start"


def figures_by(period: Period) -> tuple[str, ...]:
    """The assets of `FIGURES` with windows of this length: they have the same partitions."""
    return tuple(asset for asset in FIGURES if period_of(asset) == period)


ENDPOINTS: dict[str, Endpoint] = rates.ENDPOINTS | {
    endpoint.name: endpoint for listing in _LISTINGS for endpoint in (listing.list_endpoint, listing.get_endpoint)
}
"""Every API operation that the client calls, by name."""
