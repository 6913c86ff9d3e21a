"""The reports about flows, campaigns, forms and segments, as data: the columns of tables and the panels of charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Generic

from klaviyo_pipeline.catalog import CAMPAIGN_METRICS, FLOW_METRICS, FORM_METRICS, SEGMENT_METRICS, MetricsTable
from klaviyo_pipeline.reporting.formats import Formatter, count, money, rate, signed_count, signed_rate
from klaviyo_pipeline.reporting.metric_values import FormUse, Kind, Membership, MetricValues, Sending
from klaviyo_pipeline.reporting.panels import BARS, LINES, Panel, Series, Shape


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, the name of the metric, and its formatter."""

    heading: str
    metric: str
    formatter: Formatter
    of_uniques: bool = False
    """Whether the column is a rate of unique people."""

    def headed(self, *, weighted: bool) -> str:
        """The heading, with a star if daily unique counts were added up for the column."""
        return f"{self.heading}*" if weighted and self.of_uniques else self.heading

    def of(self, values: MetricValues) -> str:
        value: Decimal | None = getattr(values, self.metric)
        return self.formatter(value)


def by_day_of(by_day: Mapping[date, MetricValues], metric: str, days: Sequence[date]) -> list[Decimal | None]:
    """One metric on each of these days; None on a day without metrics."""
    return [getattr(by_day[day], metric) if day in by_day else None for day in days]


@dataclass(frozen=True)
class Plot:
    """The declaration of a chart. `values` maps the name of each metric to its label in the legend."""

    title: str
    shape: Shape
    values: Mapping[str, str]
    formatter: Formatter

    def panel(self, by_day: Mapping[date, MetricValues], days: Sequence[date]) -> Panel:
        """The chart of these days. A day without metrics is a gap."""
        series = [Series(label, by_day_of(by_day, metric, days)) for metric, label in self.values.items()]
        return Panel(self.title, self.shape, days, series, self.formatter)


@dataclass(frozen=True)
class Subject(Generic[Kind]):
    """The report about one metrics table: a ranking of the objects, and charts by day."""

    table: MetricsTable
    kind: type[Kind]
    ranked: str
    """The order of the objects, in words."""
    rank: str
    """The metric that orders the objects, highest first."""
    columns: tuple[Column, ...]
    plots: tuple[Plot, ...]
    sends_daily: bool = False
    """Whether a message is sent on several days, so that the sum of its daily unique counts counts people twice."""

    @property
    def name_column(self) -> str:
        return self._repeating("name")

    @property
    def status_column(self) -> str | None:
        return self._repeating("status") if "status" in self.table.named.values() else None

    def _repeating(self, column: str) -> str:
        return next(name for name, source in self.table.named.items() if source == column)


REVENUE = Column("Revenue", "conversion_value", money)
SENDING_COLUMNS = (
    REVENUE,
    Column("Recipients", "recipients", count),
    Column("Open rate", "open_rate", rate, of_uniques=True),
    Column("Click rate", "click_rate", rate, of_uniques=True),
    Column("Conversion rate", "conversion_rate", rate, of_uniques=True),
)
SENDING_PLOTS = (
    Plot("Revenue", BARS, {"conversion_value": "revenue"}, money),
    Plot("Recipients", BARS, {"recipients": "recipients"}, count),
    Plot("Rates", LINES, {"open_rate": "open rate", "click_rate": "click rate"}, rate),
    Plot("Conversion rate", LINES, {"conversion_rate": "conversion rate"}, rate),
)

FLOWS = Subject(
    FLOW_METRICS, Sending, "by revenue", "conversion_value", SENDING_COLUMNS, SENDING_PLOTS, sends_daily=True
)
CAMPAIGNS = Subject(CAMPAIGN_METRICS, Sending, "by revenue", "conversion_value", SENDING_COLUMNS, SENDING_PLOTS)
FORMS = Subject(
    FORM_METRICS,
    FormUse,
    "by submits",
    "submits",
    (
        Column("Views", "viewed_form", count),
        Column("Submits", "submits", count),
        Column("Submit rate", "submit_rate", rate),
        Column("Closes", "closed_form", count),
    ),
    (
        Plot("Form views", BARS, {"viewed_form": "views"}, count),
        Plot("Form submits", BARS, {"submits": "submits"}, count),
    ),
)
SEGMENTS = Subject(
    SEGMENT_METRICS,
    Membership,
    "by growth",
    "net_members_changed",
    (
        Column("Members", "total_members", count),
        Column("Change", "net_members_changed", signed_count),
        Column("Growth", "growth_rate", signed_rate),
        Column("Joined", "members_added", count),
        Column("Left", "members_removed", count),
    ),
    (
        Plot("Joined and left", BARS, {"members_added": "joined", "members_left": "left"}, signed_count),
        Plot("Net change", LINES, {"net_members_changed": "net change"}, signed_count),
    ),
)
SUBJECTS: Mapping[str, Subject[Any]] = {
    FLOW_METRICS.name: FLOWS,
    CAMPAIGN_METRICS.name: CAMPAIGNS,
    FORM_METRICS.name: FORMS,
    SEGMENT_METRICS.name: SEGMENTS,
}
