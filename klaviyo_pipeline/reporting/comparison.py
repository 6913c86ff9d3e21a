"""Compares the key metrics of a period with those of the previous period."""

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
    Column("Open rate", "open_rate", rate, of_uniques=True),
    Column("Click rate", "click_rate", rate, of_uniques=True),
    Column("Conversion rate", "conversion_rate", rate, of_uniques=True),
    Column("Unsubscribe rate", "unsubscribe_rate", rate, of_uniques=True),
    Column("Revenue per delivery", "revenue_per_recipient", money),
)


@dataclass(frozen=True)
class KeyMetric:
    """A metric of the period, its value in the previous period, and the change.

    `before` and `change` are empty if the periods cannot be compared.
    """

    label: str
    value: str
    before: str
    change: str
    direction: str
    """`up`, `down` or `even`, by the sign of the change; empty if `change` is empty."""


def key_metrics(now: Sending, before: Sending | None, *, weighted: bool, same_uniques: bool = True) -> list[KeyMetric]:
    """Every key metric of the period, compared with the previous period if `before` is given.

    `weighted` means that daily unique counts were added up. `same_uniques` means that both periods are weighted, or
    both are exact. Otherwise rates of unique people are not compared: an exact rate differs from a weighted one even if
    nothing else changed.
    """
    return [
        _key_metric(column, now, before if same_uniques or not column.of_uniques else None, weighted=weighted)
        for column in KEY_METRICS
    ]


def by_source(period: str, sources: Sequence[tuple[str, Sending]], *, weighted: bool) -> Table:
    """The key metrics of each source of messages, and the total."""
    total = ("Total", added(Sending, [values for _, values in sources]))
    rows = [Row(label, [column.of(values) for column in KEY_METRICS]) for label, values in [*sources, total]]
    headings = ["Source", *(column.headed(weighted=weighted) for column in KEY_METRICS)]
    return Table(f"Key metrics by source, {period}", headings, rows)


def _key_metric(column: Column, now: Sending, before: Sending | None, *, weighted: bool) -> KeyMetric:
    label = column.headed(weighted=weighted)
    value: Decimal | None = getattr(now, column.metric)
    earlier: Decimal | None = getattr(before, column.metric) if before else None
    change, direction = "", ""
    if value is not None and earlier is not None:
        difference = value - earlier
        change = points(difference) if column.formatter is rate else signed_rate(ratio(difference, earlier))
        direction = _direction(change)
    return KeyMetric(label, column.of(now), column.formatter(earlier) if before else "", change, direction)


def _direction(change: str) -> str:
    """The direction of a formatted change. A change that is rounded to zero is even."""
    if not any(digit in change for digit in "123456789"):
        return "even"
    return "up" if change.startswith("+") else "down"
