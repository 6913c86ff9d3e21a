"""The revenue of a period by the day of the send and by the day of the order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from klaviyo_pipeline.catalog import CONVERSIONS_DAILY
from klaviyo_pipeline.reporting.formats import NONE, money
from klaviyo_pipeline.reporting.metric_values import Sending, Sum, added, total
from klaviyo_pipeline.reporting.panels import LINES, Panel, Series
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader
from klaviyo_pipeline.reporting.report_tables import Row, Table
from klaviyo_pipeline.reporting.subjects import by_day_of

WHY = (
    "By send date, an order counts on the day on which its message was sent. By order date, it counts on the day of "
    "the order. Orders of this period that followed earlier messages count only by order date. Orders after this "
    "period that follow its messages count only by send date."
)

FLOWS, CAMPAIGNS, NOT_ATTRIBUTED = "Flows", "Campaigns", "Not attributed to a message"
ATTRIBUTED = (FLOWS, CAMPAIGNS)


@dataclass(frozen=True)
class OrderDates:
    """Revenue by source and day of the order. A value is None if any of its conversions has no value."""

    by_source: Mapping[str, Mapping[date, Sum]]

    def of(self, *sources: str) -> Sum:
        """The revenue of these sources in the whole period."""
        return total([value for one in sources for value in self.by_source.get(one, {}).values()], whole=True)

    def on(self, day: date, *sources: str) -> Sum:
        """The revenue of these sources on one day."""
        by_day = [self.by_source.get(one, {}) for one in sources]
        return total([values[day] for values in by_day if day in values], whole=True)


def order_dates(reader: Reader, period: Period) -> OrderDates | None:
    """The revenue of the period by the day of the order; None if no conversion is stored for these days."""
    names = ("conversion_metric_id", "date", "flow_id", "message_id", "conversion_value")
    orders = reader.table(CONVERSIONS_DAILY, *names)
    source = sa.case((orders.c.flow_id != "", FLOWS), (orders.c.message_id != "", CAMPAIGNS), else_=NOT_ATTRIBUTED)
    is_whole = sa.func.count(orders.c.conversion_value) == sa.func.count()
    query = (
        sa.select(source.label("source"), orders.c.date, sa.case((is_whole, sa.func.sum(orders.c.conversion_value))))
        .where(orders.c.date.between(period.first, period.last), reader.of_latest_metric(orders))
        .group_by(source, orders.c.date)
    )
    by_source: dict[str, dict[date, Sum]] = {}
    for name, day, value in reader.connection.execute(query):
        by_source.setdefault(name, {})[day] = value
    return OrderDates(by_source) if by_source else None


def both_dates(period: Period, by_send: Mapping[str, Sending], orders: OrderDates) -> Table:
    """The revenue of the period by both dates, for each source. Revenue that is not attributed has no send date."""
    sources = {FLOWS: (FLOWS,), CAMPAIGNS: (CAMPAIGNS,), "Attributed": ATTRIBUTED}
    rows = [
        Row(
            name,
            [
                money(added(Sending, [by_send[one] for one in summed]).conversion_value),
                money(orders.of(*summed)),
            ],
        )
        for name, summed in sources.items()
    ]
    rows.append(Row(NOT_ATTRIBUTED, [NONE, money(orders.of(NOT_ATTRIBUTED))]))
    return Table(f"Revenue by date, {period}", ["Source", "By send date", "By order date"], rows)


def both_dates_by_day(period: Period, by_send: Mapping[date, Sending], orders: OrderDates) -> Panel:
    """The attributed revenue of each day, by both dates."""
    series = [
        Series("by send date", by_day_of(by_send, "conversion_value", period.days)),
        Series("by order date", [orders.on(day, *ATTRIBUTED) for day in period.days]),
    ]
    return Panel("Attributed revenue", LINES, period.days, series, money)
