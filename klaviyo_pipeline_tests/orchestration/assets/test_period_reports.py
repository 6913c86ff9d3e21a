"""Reports by calendar week and month: Klaviyo's own uniques of each period, over whole and incomplete periods."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import httpx
import pytest

from klaviyo_pipeline.klaviyo.reports import FLOW_VALUES, body
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.sandbox import report_endpoints, timeframes
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, key_of, pipeline_on, put, utc

pytestmark = pytest.mark.slow

MESSAGE = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"}
NAMES = ("delivered", "opens_unique", "clicks_unique", "conversion_uniques", "conversion_value")


def set_day(shop: SandboxAccount, day: str, **counts: float) -> None:
    shop.set_figures("flow", MESSAGE, date.fromisoformat(day), counts)


def at(monkeypatch: pytest.MonkeyPatch, shop: SandboxAccount, moment: str) -> None:
    """The time of the shop, and of the pipeline's clock."""
    shop.clock = lambda: utc(moment)
    monkeypatch.setattr(Session, "now", lambda self: utc(moment))


def values(pipeline: Pipeline, first: date, last: date) -> dict[str, tuple[Decimal, ...]]:
    """Klaviyo's values report for these days, summed over the messages of each flow."""
    answer = httpx.post(
        f"{pipeline.server.url}{FLOW_VALUES.path}",
        json=body(FLOW_VALUES, first, last, "RPlacd"),
        headers={"Authorization": f"Klaviyo-API-Key {key_of(pipeline.shop)}", "revision": "2026-07-15"},
    )
    found: dict[str, tuple[Decimal, ...]] = {}
    for result in answer.raise_for_status().json()["data"]["attributes"]["results"]:
        flow, row = result["groupings"]["flow_id"], result["statistics"]
        before = found.get(flow, (Decimal(),) * len(NAMES))
        found[flow] = tuple(Decimal(str(row[name])) + value for name, value in zip(NAMES, before, strict=True))
    return found


@pytest.fixture(params=["America/New_York", "Asia/Kolkata", "Pacific/Auckland", "America/Santiago"])
def generated(request: pytest.FixtureRequest, migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    shop = generate_account(5, flows=8, campaigns=0, forms=0, segments=0, timezone=request.param)
    shop.api_keys = empty_shop().api_keys
    at(monkeypatch, shop, "2025-11-12T16:00:00")
    with pipeline_on(migrated, shop, monkeypatch, start_date=date(2025, 1, 3)) as pipeline:
        yield pipeline


@pytest.mark.parametrize(
    ("word", "first", "last"), [("weekly", "2024-12-30", "2025-11-10"), ("monthly", "2025-01-01", "2025-11-01")]
)
def test_a_year_takes_one_request_and_equals_klaviyos_values_of_each_period(
    generated: Pipeline, word: str, first: str, last: str
) -> None:
    with generated.requested() as requests:
        generated.run(f"flow_report_{word}", first, last)
    assert len([one for one in requests if one.endpoint == "query_flow_series"]) == 1
    generated.run(f"flow_metrics_{word}", first, last)
    rows = generated.rows(
        f"SELECT flow_id, covered_from, covered_to, {', '.join(NAMES)} FROM flow_metrics_{word} ORDER BY period_start"
    )
    periods = sorted({row[1:3] for row in rows})
    assert len(periods) >= (40 if word == "weekly" else 10)
    assert periods[-1][1] == generated.account.today(generated.shop.clock())
    assert all(earlier[1] + timedelta(days=1) == later[0] for earlier, later in pairwise(periods))
    for period in (*periods[:2], periods[len(periods) // 4], *periods[-2:]):
        expected = {flow: row for flow, row in values(generated, *period).items() if any(row)}
        assert {row[0]: row[3:] for row in rows if row[1:3] == period} == expected


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> SandboxAccount:
    """An account on a Wednesday, with one flow that 10 people open each day."""
    shop = empty_shop()
    put(shop, "flows", "F1", utc("2024-06-01T12:00:00"), name="Welcome", status="live")
    for number in range(40):
        day = date(2025, 2, 20) + timedelta(days=number)
        set_day(shop, day.isoformat(), recipients=100, delivered=100, opens=10, opens_unique=10)
    at(monkeypatch, shop, "2025-03-19T12:00:00")
    return shop


@pytest.fixture
def pipeline(migrated: str, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(migrated, shop, monkeypatch, start_date=date(2025, 3, 6)) as pipeline:
        yield pipeline


def covered(pipeline: Pipeline) -> list[Any]:
    return pipeline.rows(
        "SELECT period_start, covered_from, covered_to, delivered FROM flow_report_weekly ORDER BY period_start"
    )


FIRST = (date(2025, 3, 3), date(2025, 3, 6), date(2025, 3, 9), 400)
MIDDLE = (date(2025, 3, 10), date(2025, 3, 10), date(2025, 3, 16), 700)
OPEN = (date(2025, 3, 17), date(2025, 3, 17), date(2025, 3, 19), 300)


def test_the_first_and_the_open_period_stand_for_the_days_that_they_cover(pipeline: Pipeline) -> None:
    pipeline.run("flow_report_weekly", "2025-03-03", "2025-03-17")
    assert covered(pipeline) == [FIRST, MIDDLE, OPEN]
    assert [window for window, _ in pipeline.ledger("flow_report_weekly")] == ["2025-03-03", "2025-03-10", "2025-03-17"]
    uniques = pipeline.rows("SELECT opens_unique FROM flow_report_weekly ORDER BY period_start")
    # People who open on several days count once.
    assert all(10 < unique < days * 10 for unique, days in zip(uniques, (4, 7, 3), strict=True))


def test_an_earlier_start_date_makes_the_first_period_whole(
    pipeline: Pipeline, shop: SandboxAccount, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run("flow_report_weekly", "2025-03-03", "2025-03-10")
    pipeline.run("flow_report", "2025-03-06", "2025-03-07")
    with pipeline_on(migrated, shop, monkeypatch, start_date=date(2025, 3, 1)) as earlier:
        earlier.run("flow_report", "2025-03-01")
        assert [day for day, _ in earlier.ledger("flow_report_weekly")] == ["2025-03-10"]
        assert len(earlier.ledger("flow_report")) == 3
        earlier.run("flow_report_weekly", "2025-02-24", "2025-03-03")
        assert covered(earlier)[:2] == [
            (date(2025, 2, 24), date(2025, 3, 1), date(2025, 3, 2), 200),
            (date(2025, 3, 3), date(2025, 3, 3), date(2025, 3, 9), 700),
        ]


def test_a_restatement_is_a_change_of_the_same_days(
    pipeline: Pipeline, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run("flow_report_weekly", "2025-03-10", "2025-03-17")
    at(monkeypatch, shop, "2025-03-20T12:00:00")
    set_day(shop, "2025-03-12", recipients=100, delivered=100, opens=12, opens_unique=10)
    pipeline.run("flow_report_weekly", "2025-03-10", "2025-03-17")
    assert covered(pipeline)[-1] == (date(2025, 3, 17), date(2025, 3, 17), date(2025, 3, 20), 400)
    assert pipeline.rows(
        "SELECT period_start, statistic, earlier_value, later_value FROM flow_report_weekly_restatements"
    ) == [(date(2025, 3, 10), "opens", 70, 72)]


def test_weeks_that_begin_on_another_day_are_requested_one_by_one(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = timeframes._begin

    def sunday(moment: datetime, interval: str) -> datetime:
        return (
            begin(moment + timedelta(days=1), interval) - timedelta(days=1)
            if interval == "weekly"
            else begin(moment, interval)
        )

    monkeypatch.setattr(timeframes, "_begin", sunday)
    with pipeline.requested() as requests:
        pipeline.run("flow_report_weekly", "2025-03-03", "2025-03-17")
    assert covered(pipeline) == [FIRST, MIDDLE, OPEN]
    assert [one.endpoint for one in requests].count("query_flow_values") == 3


def test_a_period_that_a_series_names_by_the_first_requested_day_is_that_period(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = report_endpoints.cut
    monkeypatch.setattr(
        report_endpoints,
        "cut",
        lambda span, interval: [(max(begins, part.start), part) for begins, part in whole(span, interval)],
    )
    pipeline.run("flow_report_weekly", "2025-03-03", "2025-03-17")
    assert covered(pipeline) == [FIRST, MIDDLE, OPEN]
