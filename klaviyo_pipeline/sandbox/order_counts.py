"""Conversions by the day of the order: the counts behind metric aggregates.

Reports count a conversion on the day of the send. The order follows on that day or one of the next four. Over all time,
the orders of a message are therefore its conversions. Groups of the kind `order` contain further orders, such as those
without a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from klaviyo_pipeline.sandbox.daily_counts import UNIT, CountGroup, Counts, fractions, part_of_day
from klaviyo_pipeline.sandbox.report_results import converted
from klaviyo_pipeline.sandbox.sandbox_account import Metric, SandboxAccount

# The cumulative share of a send's orders, in thousandths: before the day of the send, at its end, and at the end of
# each of the next four days.
_LAG_SHARE = (0, 700, 850, 930, 970, 1000)

_NOTHING = {"conversions": 0, "conversion_uniques": 0, "conversion_value": 0}


@dataclass(frozen=True)
class OrganicOrders:
    """Orders that are not attributed to a message, about `volume` per day."""

    seed: int
    volume: float
    first: date

    def __call__(self, day: date) -> Counts:
        if day < self.first:
            return {}
        luck, again, basket = fractions(self.seed, "organic", day.isoformat(), count=3)
        uniques = int(self.volume * (0.5 + luck))
        orders = uniques + int(uniques * 0.1 * again)
        value = orders * int((30 + 90 * basket) * 100) * (UNIT // 100)
        return {"conversions": orders * UNIT, "conversion_uniques": uniques * UNIT, "conversion_value": value}


@dataclass(frozen=True)
class OrderGroup:
    """The orders of one message, or orders without a message. `dimensions`, by Klaviyo's names, has no empty value."""

    dimensions: dict[str, str]
    source: CountGroup
    lags: bool

    def counts(self, day: date, metric: Metric) -> Counts:
        """The orders of one local day, in units of 1/`UNIT`."""
        if not self.lags:
            return _NOTHING | {name: converted(self.source, day, metric).get(name, 0) for name in _NOTHING}
        total = dict(_NOTHING)
        for lag in range(len(_LAG_SHARE) - 1):
            sent = converted(self.source, day - timedelta(days=lag), metric)
            for name, value in _part(sent, lag).items():
                total[name] += value
        return total

    def hours(self, day: date, metric: Metric) -> Iterator[tuple[int, Counts]]:
        """The hours of the day with orders, and the orders of each."""
        counts = self.counts(day, metric)
        for hour in range(24) if any(counts.values()) else ():
            part = {name: part_of_day(value, hour, hour + 1) for name, value in counts.items()}
            if any(part.values()):
                yield hour, part


def order_groups(account: SandboxAccount) -> list[OrderGroup]:
    """Every group of orders of the account."""
    groups = [
        OrderGroup({n: v for n, v in g.groupings.items() if v}, g, False) for g in account.figures.groups["order"]
    ]
    for kind in ("flow", "campaign"):
        for group in account.figures.groups[kind]:
            names = {"send_channel": "$attributed_channel", f"{kind}_message_id": "$attributed_message"}
            names |= {"flow_id": "$attributed_flow", "variation": "$attributed_variation"}
            dimensions = {names[name]: value for name, value in group.groupings.items() if name in names and value}
            if kind == "campaign" and account.report_message_ids == "campaign":
                dimensions["$attributed_message"] = group.groupings["campaign_id"]
            groups.append(OrderGroup(dimensions, group, True))
    return groups


def _part(sent: Counts, lag: int) -> Counts:
    """The part of a send's conversions whose orders come `lag` days later."""
    conversions = sent.get("conversions", 0)
    if not conversions:
        return _NOTHING if lag or not sent.get("conversion_value") else {"conversion_value": sent["conversion_value"]}
    orders = conversions // UNIT
    before, behind = (orders * _LAG_SHARE[at] // 1000 * UNIT for at in (lag, lag + 1))
    if lag == len(_LAG_SHARE) - 2:
        behind = conversions
    values = [sent.get("conversion_value", 0) * at // conversions for at in (before, behind)]
    uniques = [sent.get("conversion_uniques", 0) // UNIT * at // conversions * UNIT for at in (before, behind)]
    if behind == conversions:
        uniques[1] = sent.get("conversion_uniques", 0)
    return {
        "conversions": behind - before,
        "conversion_uniques": uniques[1] - uniques[0],
        "conversion_value": values[1] - values[0],
    }
