"""The list of everything that is synced, as data. Assets, checks, jobs, commands and docs are built from it.

`docs/extend.md` shows how to add an entity: a declaration, a line here, and a migration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS, FLOWS, FORMS, SEGMENTS, Listing
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.report_types import Report, SeriesReport
from klaviyo_pipeline.klaviyo.reports import (
    CAMPAIGN_VALUES,
    DAILY_CHUNK_DAYS,
    FLOW_SERIES,
    FORM_SERIES,
    LONGEST_SEND,
    SEGMENT_SERIES,
    VALUES_CHUNK_DAYS,
)
from klaviyo_pipeline.klaviyo.tags import TAGS


@dataclass(frozen=True)
class ReportAsset:
    """A report asset as data: its table, Klaviyo's report, and the entity of its rows."""

    name: str
    report: Report
    listing: Listing

    @property
    def days_per_request(self) -> int:
        """The number of windows in one request."""
        return DAILY_CHUNK_DAYS if isinstance(self.report, SeriesReport) else VALUES_CHUNK_DAYS - 2 * LONGEST_SEND.days


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
REPORTS = {spec.name: spec for spec in (FLOW_REPORT, CAMPAIGN_REPORT, FORM_REPORT, SEGMENT_REPORT)}
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
METRICS = {table.name: table for table in (FLOW_METRICS, CAMPAIGN_METRICS, FORM_METRICS, SEGMENT_METRICS)}
"""The metrics tables, by asset. Each is computed from a report."""


CONVERSIONS_DAILY = "conversions_daily"
"""The conversions by the day of the order, from metric aggregates."""


DAILY_ASSETS = (*REPORTS, *METRICS, CONVERSIONS_DAILY)
"""The assets that are always partitioned by day: the reports, the metrics tables and the conversions."""


ENDPOINTS: dict[str, Endpoint] = rates.ENDPOINTS | {
    endpoint.name: endpoint for listing in _LISTINGS for endpoint in (listing.list_endpoint, listing.get_endpoint)
}
"""Every API operation that the client calls, by name."""
