"""What is reported about flows, campaigns, forms and segments, as data: columns of tables, panels of charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Generic

from klaviyo_pipeline.catalog import CAMPAIGN_METRICS, FLOW_METRICS, FORM_METRICS, SEGMENT_METRICS, MetricsTable
from klaviyo_pipeline.reporting.formats import Form, count, money, rate, signed_count, signed_rate
from klaviyo_pipeline.reporting.metric_values import FormUse, Kind, Membership, MetricValues, Sending
from klaviyo_pipeline.reporting.panels import BARS, LINES, Panel, Series, Shape


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, the figure's name, and how it is written."""

    heading: str
    figure: str
    form: Form

    def of(self, values: MetricValues) -> str:
        value: Decimal | None = getattr(values, self.figure)
        return self.form(value)


def by_day_of(by_day: Mapping[date, MetricValues], figure: str, days: Sequence[date]) -> list[Decimal | None]:
    """One figure on each of these days; None on a day without."""
    return [getattr(by_day[day], figure) if day in by_day else None for day in days]


@dataclass(frozen=True)
class Plot:
    """A panel by the names of its figures, each with its label in the legend."""

    title: str
    shape: Shape
    values: Mapping[str, str]
    form: Form

    def panel(self, by_day: Mapping[date, MetricValues], days: Sequence[date]) -> Panel:
        """The panel of these days; a day without figures is a gap."""
        series = [Series(label, by_day_of(by_day, figure, days)) for figure, label in self.values.items()]
        return Panel(self.title, self.shape, days, series, self.form)


@dataclass(frozen=True)
class Subject(Generic[Kind]):
    """One metrics table as a report shows it: the objects by rank, and their figures by day."""

    table: MetricsTable
    kind: type[Kind]
    ranked: str
    """How the objects are ranked, in words."""
    rank: str
    """The figure they are ranked by, highest first."""
    columns: tuple[Column, ...]
    plots: tuple[Plot, ...]

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
    Column("Open rate*", "open_rate", rate),
    Column("Click rate*", "click_rate", rate),
    Column("Conversion rate*", "conversion_rate", rate),
)
SENDING_PLOTS = (
    Plot("Revenue", BARS, {"conversion_value": "revenue"}, money),
    Plot("Recipients", BARS, {"recipients": "recipients"}, count),
    Plot("Rates", LINES, {"open_rate": "open rate", "click_rate": "click rate"}, rate),
    Plot("Conversion rate", LINES, {"conversion_rate": "conversion rate"}, rate),
)

FLOWS = Subject(FLOW_METRICS, Sending, "by revenue", "conversion_value", SENDING_COLUMNS, SENDING_PLOTS)
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
