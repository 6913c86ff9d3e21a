"""Conversions by the day of the order: exact to the cent, by the account's own days, with earlier values kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.orchestration.checks import conversion_checks
from klaviyo_pipeline.orchestration.checks.build_checks import check_context
from klaviyo_pipeline.orchestration.checks.check import CheckOutcome
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.sandbox.daily_counts import UNIT
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.order_counts import order_groups
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, pipeline_on, put, utc

pytestmark = pytest.mark.slow

ASSET = "conversions_daily"
DAY = "2025-03-10"
FLOW = {"$attributed_flow": "F1", "$attributed_message": "M1", "$attributed_channel": "email"}
NOBODY = {"$attributed_flow": "", "$attributed_message": "", "$attributed_channel": ""}


def order(shop: SandboxAccount, groupings: dict[str, str], conversions: int, value: float, day: str = DAY) -> None:
    counts = {"conversions": conversions, "conversion_uniques": conversions, "conversion_value": value}
    shop.set_figures("order", groupings, date.fromisoformat(day), counts)


def truth(shop: SandboxAccount, first: date, last: date) -> dict[tuple[str, str, date], tuple[Decimal, Decimal]]:
    """The account's own orders by flow, message and day, without zeros."""
    sums: dict[tuple[str, str, date], list[int]] = defaultdict(lambda: [0, 0])
    for group in order_groups(shop):
        names = [group.dimensions.get(name, "") for name in ("$attributed_flow", "$attributed_message")]
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            counts = group.counts(day, shop.metrics["RPlacd"])
            if counts["conversions"]:
                total = sums[names[0], names[1], day]
                total[0] += counts["conversions"]
                total[1] += counts["conversion_value"]
    return {key: (Decimal(total[0]) / UNIT, Decimal(total[1]) / UNIT) for key, total in sums.items()}


def stored(pipeline: Pipeline) -> dict[tuple[str, str, date], tuple[Decimal, Decimal]]:
    rows = pipeline.rows(
        "SELECT flow_id, message_id, date, sum(conversions), sum(conversion_value) FROM conversions_daily "
        "GROUP BY flow_id, message_id, date"
    )
    return {tuple(row[:3]): tuple(row[3:]) for row in rows}


def reconciled(pipeline: Pipeline) -> CheckOutcome:
    """The outcome of the check that calls the API."""
    with (
        KlaviyoResource().session(pipeline.account, Warehouse.of([pipeline.account])) as session,
        check_context(session.engine, pipeline.account, ASSET) as ctx,
    ):
        return conversion_checks.groups_match_total(ctx, session)


@pytest.fixture(
    params=[
        ("America/New_York", "utc"),
        ("Asia/Kolkata", "wall"),
        ("Pacific/Auckland", "utc"),
        ("America/Santiago", "utc"),
    ],
    ids=lambda param: str(param[0]),
)
def generated(request: pytest.FixtureRequest, migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    zone, dates = request.param
    shop = generate_account(5, flows=8, campaigns=12, forms=0, segments=0, timezone=zone)
    shop.api_keys, shop.aggregate_dates, shop.aggregate_page_size = empty_shop().api_keys, dates, 7
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        yield pipeline


def test_conversions_equal_the_accounts_orders_to_the_cent_over_both_changes_of_the_clocks(generated: Pipeline) -> None:
    with generated.requested() as requests:
        generated.run(ASSET, "2025-03-01", "2025-11-10")
    expected = truth(generated.shop, date(2025, 3, 1), date(2025, 11, 10))
    assert len(expected) > 500
    assert stored(generated) == expected
    asked = [request for request in requests if request.endpoint == "query_metric_aggregates"]
    assert generated.one("SELECT sum(requests) FROM sync_windows WHERE entity = 'conversions_daily'") == len(asked)
    outcome = reconciled(generated)
    assert (outcome.outcome, outcome.metadata["days"]) == ("passed", 30)


def test_an_order_has_the_campaign_of_its_message_and_the_channels_word(
    migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = empty_shop()
    put(shop, "campaigns", "C1", utc("2025-03-05T12:00:00"), name="Sale", channels=["mobile_push"])
    [message] = [one.id for one in shop.objects["campaign-messages"].values()]
    channel = {"$attributed_channel": "push-notification"}
    order(shop, {**NOBODY, "$attributed_message": message, **channel}, 2, 20)
    order(shop, {**NOBODY, "$attributed_message": "C1", **channel}, 1, 5)
    order(shop, {**NOBODY, "$attributed_message": "unknown", "$attributed_channel": "email"}, 1, 1)
    order(shop, FLOW, 3, 30)
    order(shop, NOBODY, 4, 40)
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        pipeline.run(ASSET, DAY)
        assert set(pipeline.rows("SELECT campaign_id FROM conversions_daily")) == {""}
        pipeline.run("campaigns_census")
        pipeline.run(ASSET, DAY)
        found = pipeline.rows(
            "SELECT flow_id, campaign_id, message_id, send_channel, conversions FROM conversions_daily ORDER BY 5, 3"
        )
        assert set(found) == {
            ("", "C1", "C1", "mobile_push", 1),
            ("", "", "unknown", "email", 1),
            ("", "C1", message, "mobile_push", 2),
            ("F1", "", "M1", "email", 3),
            ("", "", "", "", 4),
        }


def test_an_order_that_is_attributed_late_is_a_restatement(shop: SandboxAccount, pipeline: Pipeline) -> None:
    order(shop, NOBODY, 5, 50)
    pipeline.run(ASSET, "2025-03-09", "2025-03-11")
    before = pipeline.versions(ASSET)
    pipeline.run(ASSET, "2025-03-09", "2025-03-11")
    assert pipeline.versions(ASSET) == before
    order(shop, NOBODY, 3, 30)
    order(shop, FLOW, 2, 20)
    pipeline.run(ASSET, DAY)
    assert pipeline.rows("SELECT flow_id, conversions FROM conversions_daily ORDER BY 1") == [("", 3), ("F1", 2)]
    assert pipeline.rows(
        "SELECT flow_id, date, statistic, earlier_value, later_value FROM conversions_daily_restatements ORDER BY 3"
    ) == [
        ("", date(2025, 3, 10), "conversion_uniques", 5, 3),
        ("", date(2025, 3, 10), "conversion_value", 50, 30),
        ("", date(2025, 3, 10), "conversions", 5, 3),
    ]
    assert pipeline.ledger(ASSET) == [("2025-03-09", "synced"), (DAY, "synced"), ("2025-03-11", "synced")]


@pytest.mark.parametrize(
    ("zone", "dates", "changes"),
    [
        ("America/New_York", "wall", ("2025-03-09", "2025-11-02")),
        ("Pacific/Auckland", "wall", ("2025-04-06", "2025-09-28")),
        # At midnight: the day in September begins at one o'clock.
        ("America/Santiago", "wall", ("2025-04-05", "2025-09-07")),
        # By half an hour.
        ("Australia/Lord_Howe", "utc", ("2025-04-06", "2025-10-05")),
    ],
)
def test_late_orders_of_the_days_on_which_the_clocks_change_are_counted_on_these_days(
    zone: str, dates: str, changes: tuple[str, str], migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = empty_shop(timezone=zone)
    shop.aggregate_dates = dates
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        for change in map(date.fromisoformat, changes):
            days = [change + timedelta(days=number) for number in range(-2, 3)]
            for place, day in enumerate(map(str, days)):
                order(shop, NOBODY, 50 + place, 500.25, day)
                order(shop, FLOW, 20 + place, 200.5, day)
            pipeline.run(ASSET, str(days[0]), str(days[-1]))
            order(shop, NOBODY, 30, 300, str(change))
            order(shop, FLOW, 45, 401.75, str(change))
            late = reconciled(pipeline)
            assert (late.outcome, late.metadata["differing"]) == ("error", 2)
            pipeline.run(ASSET, str(days[0]), str(days[-1]))
            assert (found := reconciled(pipeline)).outcome == "passed"
            assert found.metadata["days"] == 5
        assert stored(pipeline) == truth(shop, date.fromisoformat(changes[0]) - timedelta(days=2), days[-1])
        restated = pipeline.rows("SELECT DISTINCT date FROM conversions_daily_restatements ORDER BY date")
        assert list(map(str, restated)) == list(changes)


def test_the_check_finds_an_order_that_is_missing(shop: SandboxAccount, pipeline: Pipeline) -> None:
    order(shop, NOBODY, 5, 50)
    order(shop, FLOW, 2, 20)
    pipeline.run(ASSET, "2025-03-09", "2025-03-11")
    assert reconciled(pipeline).outcome == "passed"
    pipeline.execute("DELETE FROM conversions_daily WHERE flow_id = 'F1'")
    found = reconciled(pipeline)
    assert (found.outcome, found.metadata["differing"]) == ("error", 2)
    assert "conversions on 2025-03-10: 5.0 in Postgres, 7.0 in Klaviyo" in found.found


def test_only_the_days_that_an_answer_lacks_stay_missing(
    shop: SandboxAccount, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = KlaviyoClient.aggregates

    def cut(self: KlaviyoClient, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for page in whole(self, *args, **kwargs):
            yield type(page)(page.rows, page.observed_at, page.days - {date(2025, 3, 10)})

    monkeypatch.setattr(KlaviyoClient, "aggregates", cut)
    order(shop, FLOW, 2, 20, "2025-03-11")
    assert f"lack {DAY}." in pipeline.fail(ASSET, "2025-03-09", "2025-03-11")
    assert pipeline.ledger(ASSET) == [("2025-03-09", "synced"), (DAY, "failed"), ("2025-03-11", "synced")]
    assert [str(day) for day in pipeline.rows("SELECT date FROM conversions_daily")] == ["2025-03-11"]


def test_a_group_that_a_later_page_repeats_is_counted_once(
    shop: SandboxAccount, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    order(shop, FLOW, 2, 20)
    order(shop, NOBODY, 4, 40)
    whole = KlaviyoClient.aggregates

    def with_repeated_group(self: KlaviyoClient, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for page in whole(self, *args, **kwargs):
            yield page
            newer = [{**row, "conversions": Decimal(3)} for row in page.rows if row["flow_id"]]
            yield type(page)(newer, page.observed_at, page.days)

    monkeypatch.setattr(KlaviyoClient, "aggregates", with_repeated_group)
    pipeline.run(ASSET, DAY)
    assert pipeline.rows("SELECT flow_id, conversions FROM conversions_daily ORDER BY 1") == [("", 4), ("F1", 3)]
