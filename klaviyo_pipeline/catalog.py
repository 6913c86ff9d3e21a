"""Everything that is synced, as data. The assets, checks, jobs, commands and documents are built from these lists.

`docs/extend.md` shows how to add an entity: declare it, add a line to this module, and write a migration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, TypeVar

from klaviyo_pipeline.config.settings import Account, SettingsError
from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.breakdowns import (
    CAMPAIGN_BY_AUDIENCE,
    CAMPAIGN_BY_VARIATION,
    FLOW_BY_VARIATION,
    FORM_BY_VERSION,
)
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
from klaviyo_pipeline.klaviyo.small_listings import FORM_VERSIONS, LISTS, METRIC_OBJECTS, TEMPLATES
from klaviyo_pipeline.klaviyo.tags import TAGS

Kind = TypeVar("Kind")

Period = Literal["day", "week", "month"]
"""The length of the windows of a report or metrics table. Weeks begin on Monday."""

_PERIODS: Mapping[str, Period] = {"daily": "day", "weekly": "week", "monthly": "month"}


@dataclass(frozen=True)
class ReportAsset:
    """A report asset: the name of its table, Klaviyo's report, and the entity that its rows belong to."""

    name: str
    report: Report
    listing: Listing

    @property
    def period(self) -> Period:
        """The length of its windows."""
        return _PERIODS[self.report.interval] if isinstance(self.report, SeriesReport) else "day"

    @property
    def windows_per_request(self) -> int:
        """The highest number of windows that one request can cover."""
        if not isinstance(self.report, SeriesReport):
            return VALUES_CHUNK_DAYS - 2 * LONGEST_SEND.days
        return DAILY_CHUNK_DAYS if self.period == "day" else PERIODS_PER_REQUEST[self.report.interval]


@dataclass(frozen=True)
class MetricsTable:
    """A metrics table: its name, the report that it aggregates, and the entity that its rows belong to.

    `key` is the column with the object's id. `named` has the columns that repeat the latest state of the object, each
    with the column of the entity's table from which it is copied.
    """

    name: str
    report: str
    key: str
    entity: str
    named: Mapping[str, str]


def census_name(listing: Listing) -> str:
    """The name of an entity's census asset. If the entity has no windows, this is the name of the entity itself."""
    return f"{listing.entity}_census" if listing.has_windows else listing.entity


_LISTINGS = (
    FLOWS,
    CAMPAIGNS,
    FORMS,
    SEGMENTS,
    LISTS,
    TEMPLATES,
)


ENTITIES: dict[str, Listing] = {listing.entity: listing for listing in _LISTINGS}
"""The entities with windows, by asset name, in display order."""


LISTED_IN_FULL: dict[str, Listing] = {listing.entity: listing for listing in (METRIC_OBJECTS, FORM_VERSIONS)}
"""The entities without windows, by asset name. They can only be listed in full."""


OBJECTS: dict[str, Listing] = ENTITIES | LISTED_IN_FULL
"""All entities, by asset name. Each has a table, a history, and lookups by id."""


CENSUSES: dict[str, Listing] = {census_name(listing): listing for listing in (*OBJECTS.values(), TAGS)}
"""The assets that are full listings, by name: the censuses, the entities without windows, and the tags."""


ENTITY_CENSUSES: dict[str, Listing] = {
    name: listing for name, listing in CENSUSES.items() if listing.entity in ENTITIES
}
"""The censuses of the entities with windows, by asset name."""


def object_columns() -> dict[str, set[str]]:
    """The columns that a sync fills in each table of objects, by the table's name."""
    columns = {listing.entity: {column.name for column in listing.columns} for listing in CENSUSES.values()}
    kinds = [kind for listing in CENSUSES.values() for kind in listing.children]
    while kinds:
        kind = kinds.pop()
        columns.setdefault(kind.table, set()).update(column.name for column in kind.columns)
        kinds += kind.children
    return columns


EVERY_CENSUS = "census"
"""The word that stands for the censuses of all entities with windows on the command line."""


FLOW_REPORT = ReportAsset("flow_report", FLOW_SERIES, FLOWS)
CAMPAIGN_REPORT = ReportAsset("campaign_report", CAMPAIGN_VALUES, CAMPAIGNS)
FORM_REPORT = ReportAsset("form_report", FORM_SERIES, FORMS)
SEGMENT_REPORT = ReportAsset("segment_report", SEGMENT_SERIES, SEGMENTS)
FLOW_REPORT_WEEKLY = ReportAsset("flow_report_weekly", FLOW_SERIES_WEEKLY, FLOWS)
FLOW_REPORT_MONTHLY = ReportAsset("flow_report_monthly", FLOW_SERIES_MONTHLY, FLOWS)
BREAKDOWNS = {
    spec.name: spec
    for spec in (
        ReportAsset("flow_report_by_variation", FLOW_BY_VARIATION, FLOWS),
        ReportAsset("campaign_report_by_variation", CAMPAIGN_BY_VARIATION, CAMPAIGNS),
        ReportAsset("campaign_report_by_audience", CAMPAIGN_BY_AUDIENCE, CAMPAIGNS),
        ReportAsset("form_report_by_version", FORM_BY_VERSION, FORMS),
    )
}
"""The reports that divide the values of another report by variation, audience or form version, by asset name.

No metrics tables are computed from them.
"""


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
} | BREAKDOWNS
"""All reports, by asset name."""


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
"""The metrics tables, by asset name. Each is computed from a report."""


@dataclass(frozen=True)
class ExactMetrics:
    """Metrics of any range of days, from Klaviyo's values report.

    `table` is their table, and `metrics` is the table of daily metrics with the same statistics. The values are
    requested with the conversion metric of the asset `report`, if it has one.
    """

    table: str
    metrics: MetricsTable
    report: ReportAsset


EXACT_METRICS = {
    exact.metrics.entity: exact
    for exact in (
        ExactMetrics("flow_metrics_exact", FLOW_METRICS, FLOW_REPORT),
        ExactMetrics("campaign_metrics_exact", CAMPAIGN_METRICS, CAMPAIGN_REPORT),
        ExactMetrics("form_metrics_exact", FORM_METRICS, FORM_REPORT),
    )
}
"""The exact metrics, by entity."""


CONVERSIONS_DAILY = "conversions_daily"
"""The asset with the conversions by the day of the order, from Klaviyo's metric aggregates."""


def has_conversion_metric(asset: str) -> bool:
    """Whether an asset is requested with a conversion metric, as some reports and the conversions are."""
    return asset == CONVERSIONS_DAILY or (asset in REPORTS and REPORTS[asset].report.needs_conversion_metric)


FIGURES = (*REPORTS, *METRICS, CONVERSIONS_DAILY)
"""The assets with values by period: the reports, the metrics tables and the conversions."""


def period_of(asset: str) -> Period:
    """The length of the windows of an asset in `FIGURES`."""
    report = METRICS[asset].report if asset in METRICS else asset
    return REPORTS[report].period if report in REPORTS else "day"


def period_column(asset: str) -> str:
    """The column with the first day of a row's window, in the table of an asset in `FIGURES`."""
    return "date" if period_of(asset) == "day" else "period_start"


def figures_by(period: Period) -> tuple[str, ...]:
    """The assets in `FIGURES` with windows of this length. They have the same partitions."""
    return tuple(asset for asset in FIGURES if period_of(asset) == period)


ENDPOINTS: dict[str, Endpoint] = rates.ENDPOINTS | {
    endpoint.name: endpoint
    for listing in OBJECTS.values()
    for endpoint in (listing.list_endpoint, listing.get_endpoint)
}
"""Every endpoint of the API that the client calls, by name."""


ASSETS = tuple(dict.fromkeys((*ENTITIES, *CENSUSES, *FIGURES)))
"""Every asset that is synced, in display order."""

DEFAULT = "default"
"""The word in `KLAVIYO_ASSETS` that stands for all assets that are on by default."""

OFF_BY_DEFAULT = frozenset({"lists", "lists_census", "templates", "templates_census", *BREAKDOWNS})
"""The assets that are off unless `KLAVIYO_ASSETS` names them.

Lists and templates need additional scopes of the key. The breakdowns use up requests of the reports' daily quota.
"""


@cache
def switched_on(named: tuple[str, ...]) -> frozenset[str]:
    """The assets that the names in `KLAVIYO_ASSETS` stand for. The name of an entity also stands for its census.

    Raises `SettingsError` if a name is unknown, if there is no name, or if metrics are named without their report.
    """
    if unknown := [name for name in named if name not in (DEFAULT, *ASSETS)]:
        raise SettingsError(
            f"KLAVIYO_ASSETS: there is no asset {unknown[0]!r}; choose from {', '.join((DEFAULT, *ASSETS))}."
        )
    if not named:
        raise SettingsError(f"KLAVIYO_ASSETS names no asset; choose from {', '.join((DEFAULT, *ASSETS))}.")
    on = {name for name in ASSETS if name in named}
    on |= {census_name(listing) for name, listing in ENTITIES.items() if name in named}
    if DEFAULT in named:
        on |= {name for name in ASSETS if name not in OFF_BY_DEFAULT}
    for table in METRICS.values():
        if table.name in on and table.report not in on:
            raise SettingsError(
                f"KLAVIYO_ASSETS: {table.name} is computed from {table.report}, so add {table.report} too."
            )
    return frozenset(on)


def with_metrics(report: str, account: Account) -> str:
    """The names of a report and of the account's metrics that are computed from it, as arguments of `sync`."""
    return " ".join((report, *(name for name, table in of_account(METRICS, account).items() if table.report == report)))


def as_chosen(listing: Listing, account: Account) -> Listing:
    """The listing with the attributes that the account stores. Templates have HTML only if the settings say so."""
    return replace(listing, attributes=()) if listing is TEMPLATES and account.template_html else listing


def of_account(kinds: Mapping[str, Kind], account: Account) -> dict[str, Kind]:
    """The entries of a catalog such as `REPORTS` that the account has. Raises `SettingsError` as `switched_on` does."""
    on = switched_on(account.assets)
    return {name: kind for name, kind in kinds.items() if name in on}
