"""The A/B tests of a period. Each variation is compared with the first one: its lift, and how certain the lift is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from klaviyo_pipeline.reporting.formats import NONE, count, rate, signed_rate
from klaviyo_pipeline.reporting.metric_values import ratio
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import NAME_LENGTH, Reader
from klaviyo_pipeline.reporting.report_tables import Row, Table, display_name

FAIRLY, VERY = 1.96, 2.58
"""By chance alone, the absolute value of z exceeds these values in 1 of 20 and in 1 of 100 tests."""
LEAST_CLICKS = 10
"""If one of two variations has fewer clicks, the result is "too few clicks", whatever z is."""
TESTS_LISTED = 10

LEAD = (
    "Each click rate is compared with that of the first variation, by a two-proportion z-test. After a test, Klaviyo "
    "sends the winning variation to all other recipients. The table includes the deliveries and clicks of that send."
)


@dataclass(frozen=True)
class Variation:
    """A variation of a test. `clicked` is the sum of its unique clicks."""

    name: str
    delivered: Decimal
    clicked: Decimal

    @property
    def click_rate(self) -> Decimal:
        return self.clicked / self.delivered


@dataclass(frozen=True)
class AbTest:
    """A campaign or a flow message with several delivered variations. All are compared with the first one."""

    name: str
    variations: Sequence[Variation]

    @property
    def delivered(self) -> Decimal:
        return sum((one.delivered for one in self.variations), Decimal())


def ab_tests(reader: Reader, period: Period) -> list[AbTest]:
    """The tests of the period, most deliveries first. There are none if the reports by variation are switched off."""
    campaigns = _tests(reader, period, "campaign", ("send_channel",))
    flows = _tests(reader, period, "flow", ("flow_message_id", "send_channel"))
    return sorted([*campaigns, *flows], key=lambda one: (-one.delivered, one.name))


def z(first: Variation, other: Variation) -> float | None:
    """The difference of the click rates, divided by its standard error under the assumption of equal click rates.

    None if nobody or everybody clicked.
    """
    both = (first.clicked + other.clicked) / (first.delivered + other.delivered)
    variance = both * (1 - both) * (1 / first.delivered + 1 / other.delivered)
    return float((other.click_rate - first.click_rate) / variance.sqrt()) if variance > 0 else None


def tests_table(tests: Sequence[AbTest], period: Period) -> Table:
    """A row for each variation."""
    scope = f"The largest {TESTS_LISTED} of {len(tests)} A/B tests" if len(tests) > TESTS_LISTED else "A/B tests"
    rows = [row for test in tests[:TESTS_LISTED] for row in _rows(test)]
    return Table(f"{scope}, {period}", ["Variation", "Delivered", "Click rate", "Lift", "How sure"], rows)


def _tests(reader: Reader, period: Period, kind: str, within: Sequence[str]) -> Iterator[AbTest]:
    names = (f"{kind}_id", *within, "variation", "variation_name", "date")
    counts = ("conversion_metric_id", "delivered", "clicks_unique")
    report = reader.table(f"{kind}_report_by_variation", *names, *counts)
    objects = reader.table(f"{kind}s", "id", "name")
    key = [report.c[f"{kind}_id"], *(report.c[one] for one in within)]
    delivered = sa.func.sum(report.c.delivered)
    query = (
        sa.select(
            *key,
            sa.func.left(sa.func.max(objects.c.name), NAME_LENGTH),
            sa.func.left(sa.func.max(report.c.variation_name), NAME_LENGTH),
            delivered,
            sa.func.coalesce(sa.func.sum(report.c.clicks_unique), 0),
        )
        .select_from(report.outerjoin(objects, objects.c.id == report.c[f"{kind}_id"]))
        .where(
            report.c.date.between(period.first, period.last),
            report.c.variation != "",
            reader.of_latest_metric(report),
        )
        .group_by(*key, report.c.variation)
        .having(delivered > 0)
        .order_by(*key, sa.func.max(report.c.variation_name), report.c.variation)
    )
    by_test: dict[tuple[str, ...], tuple[str, list[Variation]]] = {}
    for *test, name, variation, sent, clicked in reader.connection.execute(query):
        by_test.setdefault(tuple(test), (name or test[0], []))[1].append(Variation(variation, sent, clicked))
    for name, variations in by_test.values():
        if len(variations) > 1:
            yield AbTest(name, variations)


def _rows(test: AbTest) -> Iterator[Row]:
    first = test.variations[0]
    for one in test.variations:
        lift = ratio(one.click_rate - first.click_rate, first.click_rate)
        compared = [NONE, "first"] if one is first else [signed_rate(lift), _how_sure(first, one)]
        yield Row(
            display_name(one.name), [count(one.delivered), rate(one.click_rate), *compared], display_name(test.name)
        )


def _how_sure(first: Variation, other: Variation) -> str:
    if min(first.clicked, other.clicked) < LEAST_CLICKS:
        return "too few clicks"
    beyond = abs(z(first, other) or 0)
    return "very sure" if beyond >= VERY else "fairly sure" if beyond >= FAIRLY else "may be chance"
