"""The key figures of a period beside those of the period before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from klaviyo_pipeline.reporting.formats import count, money, points, rate, round_money, signed_rate
from klaviyo_pipeline.reporting.metric_values import Sending, added, ratio
from klaviyo_pipeline.reporting.report_tables import Row, Table
from klaviyo_pipeline.reporting.subjects import Column

KEY_METRICS = (
    Column("Revenue", "conversion_value", round_money),
    Column("Recipients", "recipients", count),
    Column("Delivered", "delivered", count),
    Column("Open rate*", "open_rate", rate),
    Column("Click rate*", "click_rate", rate),
    Column("Conversion rate*", "conversion_rate", rate),
    Column("Unsubscribe rate*", "unsubscribe_rate", rate),
    Column("Revenue per delivery", "revenue_per_recipient", money),
)


@dataclass(frozen=True)
class KeyMetric:
    """A figure of the period, that of the period before, and the change; both empty where they cannot be compared."""

    label: str
    value: str
    before: str
    change: str
    direction: str
    """up, down or even, for the reader; not a judgement."""


def key_metrics(now: Sending, before: Sending | None) -> list[KeyMetric]:
    """Every key figure; without a period before, without comparison."""
    return [_key_metric(column, now, before) for column in KEY_METRICS]


def by_source(period: str, sources: Sequence[tuple[str, Sending]]) -> Table:
    """The key figures of each source of messages, and of all together."""
    together = ("Together", added(Sending, [values for _, values in sources]))
    rows = [Row(label, [column.of(values) for column in KEY_METRICS]) for label, values in [*sources, together]]
    return Table(f"Key figures of flows and campaigns, {period}", ["From", *(c.heading for c in KEY_METRICS)], rows)


def _key_metric(column: Column, now: Sending, before: Sending | None) -> KeyMetric:
    value: Decimal | None = getattr(now, column.figure)
    earlier: Decimal | None = getattr(before, column.figure) if before else None
    change, direction = "", ""
    if value is not None and earlier is not None:
        difference = value - earlier
        change = points(difference) if column.form is rate else signed_rate(ratio(difference, earlier))
        direction = _direction(change)
    return KeyMetric(column.heading, column.of(now), column.form(earlier) if before else "", change, direction)


def _direction(change: str) -> str:
    """Where a change leads as it is written: what is rounded to nothing leads nowhere."""
    if not any(digit in change for digit in "123456789"):
        return "even"
    return "up" if change.startswith("+") else "down"
