"""The queries of `docs/metrics.md`, as they are written, against a synced account with known values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from klaviyo_pipeline.config.settings import PROJECT_ROOT, SQL_DIR
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.sandbox.sandbox_account import Message, SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, key_of, pipeline_on, put, throw_away_database, utc

pytestmark = pytest.mark.slow

DOCUMENT = (PROJECT_ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"^## (\d+)\. .*?^```sql\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL))
SCHEMA = "klaviyo"
METRICS = ("RPlacd", "RChkot")
"""No query counts the rows of the second conversion metric, unless it says so."""

FIRST, LAST = "2025-02-01", "2025-03-31"
BORN = utc("2024-06-01T12:00:00")
DAYS = [date(2025, 2, 1) + timedelta(days=number) for number in range(59)]
FEBRUARY, MARCH = DAYS[:28], DAYS[28:]

AB_TESTS = "campaign_report_by_variation"
WELCOME, CART, OLD = "welcome", "cart", "old"
TAGS = {"T1": "evergreen", "T2": "seasonal"}


def sends(delivered: int, opened: int, clicked: int, value: float) -> dict[str, float]:
    """The counts of one message on one day."""
    return {
        "recipients": delivered + 10,
        "delivered": delivered,
        "opens_unique": opened,
        "clicks_unique": clicked,
        "conversions": 1,
        "conversion_value": value,
    }


def flow_sends(flow: str, day: date) -> dict[str, float] | None:
    """Welcome mails daily, and is opened less and less; the others have one day each."""
    if flow == WELCOME:
        return sends(100, 50 if day <= date(2025, 3, 17) else 30, 7, 10.25)
    if flow == CART:
        return sends(40, 20, 4, 99.5) if day == date(2025, 3, 10) else None
    return sends(20, 5, 1, 7.75) if day == date(2025, 2, 20) else None


CAMPAIGNS = {
    # Each with its send day, subject and counts.
    "C1": (date(2025, 3, 5), "Spring is here", sends(1000, 400, 50, 500.5)),
    "C2": (date(2025, 3, 12), "Last chance", sends(800, 200, 60, 320)),
    "C3": (date(2025, 2, 14), "With love", sends(500, 100, 10, 250)),
}
CLICKED = {"C1": (20, 30), "C2": (15, 45)}
"""The people who clicked in the two variations of an A/B test. Each variation has half of the other counts."""


def shop_with_figures() -> SandboxAccount:
    shop = empty_shop("America/New_York")
    shop.tags = dict(TAGS)
    for id, tags in ((WELCOME, ["T1", "T2"]), (CART, ["T2"]), (OLD, [])):
        message = Message(f"m-{id}", "email", f"First of {id}")
        put(shop, "flows", id, BORN, name=id.title(), status="live", messages=[message], tags=tags)
        for day in DAYS:
            counts = flow_sends(id, day)
            if counts:
                keys = {"flow_id": id, "flow_message_id": message.id, "send_channel": "email"}
                shop.set_figures("flow", keys, day, counts)
    for id, (day, subject, counts) in CAMPAIGNS.items():
        message = Message(f"m-{id}", "email", subject)
        sent = utc(f"{day}T15:00:00")
        put(shop, "campaigns", id, BORN, status="Sent", send_time=sent, messages=[message], tags=["T1"])
        keys = {"campaign_id": id, "campaign_message_id": message.id, "send_channel": "email"}
        for number, clicked in enumerate(CLICKED.get(id, ())):
            half = {name: value / 2 for name, value in counts.items()} | {"clicks_unique": clicked}
            named = {"variation": f"{id}-{number}", "variation_name": "AB"[number]}
            shop.set_figures("campaign", keys | named, day, half)
        if id not in CLICKED:
            shop.set_figures("campaign", keys, day, counts)
    put(shop, "forms", "popup", BORN, status="live")
    put(shop, "forms", "footer", BORN, status="live")
    put(shop, "segments", "vip", BORN, is_active=True)
    put(shop, "segments", "cold", BORN, is_active=True)
    for number, day in enumerate(MARCH):
        shop.set_figures("form", {"form_id": "popup"}, day, {"viewed_form": 30, "submits": 3})
        shop.set_figures("form", {"form_id": "footer"}, day, {"viewed_form": 8, "submits": 2})
        counts = {"members_added": 4, "members_removed": 1, "total_members": 1003 + 3 * number}
        shop.set_figures("segment", {"segment_id": "vip"}, day, counts)
        counts = {"members_added": 0, "members_removed": 2, "total_members": 498 - 2 * number}
        shop.set_figures("segment", {"segment_id": "cold"}, day, counts)
    return shop


@pytest.fixture(scope="module")
def synced(postgres_server: str) -> Iterator[Pipeline]:
    """The account above, synced; then a flow is archived, one stopped, a value restated, and all synced again."""
    shop = shop_with_figures()
    with throw_away_database(postgres_server) as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLAVIYO_IGNORE_DOTENV", "1")
        patch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.0)
        migrate(database, SCHEMA, SQL_DIR)
        settings: dict[str, Any] = {"assets": ("default", AB_TESTS), "conversion_metric_id": METRICS}
        with pipeline_on(database, shop, patch, slug=SCHEMA, **settings) as pipeline:
            for entity in ("flows", "campaigns", "forms", "segments"):
                pipeline.run(f"{entity}_census")
            pipeline.run("tags")
            for report in ("flow", "campaign", "form", "segment"):
                pipeline.run(f"{report}_report", FIRST, LAST)
            pipeline.run(AB_TESTS, FIRST, LAST)
            _change(shop, pipeline)
            for report in ("flow", "campaign", "form", "segment"):
                pipeline.run(f"{report}_metrics", FIRST, LAST)
            pipeline.run("conversions_daily", FIRST, LAST)
            pipeline.run("flow_report_monthly", FIRST, "2025-03-01")
            pipeline.run("flow_metrics_monthly", FIRST, "2025-03-01")
            _set_back(pipeline.connection)
            yield pipeline


@pytest.fixture
def connection(synced: Pipeline) -> psycopg.Connection[Any]:
    return synced.connection


def _change(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put(shop, "flows", CART, BORN, name="Cart", status="draft")
    shop.archive("flows", OLD)
    keys = {"flow_id": CART, "flow_message_id": f"m-{CART}", "send_channel": "email"}
    shop.set_figures("flow", keys, date(2025, 3, 10), sends(40, 20, 4, 120))
    pipeline.run("flows_census")
    pipeline.run("flow_report", "2025-03-10")


def _set_back(connection: psycopg.Connection[Any]) -> None:
    """As if all had been first seen on the first of March, changed on the twentieth, and the last day asked early."""
    connection.execute(f"""
        UPDATE {SCHEMA}.flows SET observed_at = CASE
            WHEN id IN (SELECT id FROM {SCHEMA}.flows_superseded) THEN timestamptz '2025-03-20 12:00+00'
            ELSE timestamptz '2025-03-01 12:00+00' END
    """)
    connection.execute(f"""
        UPDATE {SCHEMA}.flows_superseded SET
            valid_from = timestamptz '2025-03-01 12:00+00', valid_to = timestamptz '2025-03-20 12:00+00'
    """)
    connection.execute(f"""
        UPDATE {SCHEMA}.sync_windows SET asked_at = window_end + interval '1 day'
        WHERE entity = 'flow_report' AND window_start = timestamptz '2025-03-31 00:00 America/New_York'
    """)


def answer(connection: psycopg.Connection[Any], number: int) -> list[tuple[Any, ...]]:
    """The rows of the document's query with this number."""
    return connection.execute(QUERIES[str(number)].encode()).fetchall()


def rounded(value: float) -> Decimal:
    return Decimal(str(round(value, 4)))


def revenue(flow: str, days: list[date]) -> Decimal:
    """The flow's revenue after the restatement."""
    if flow == CART and date(2025, 3, 10) in days:
        return Decimal(120)
    return sum(
        (Decimal(str(counts["conversion_value"])) for day in days if (counts := flow_sends(flow, day))), Decimal()
    )


def test_the_document_has_its_queries_in_order() -> None:
    assert list(QUERIES) == [str(number) for number in range(1, 19)]


def test_1_revenue_by_flow_this_month_against_last(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 1) == [
        ("Welcome", revenue(WELCOME, MARCH), revenue(WELCOME, FEBRUARY)),
        ("Cart", Decimal(120), None),
        ("Old", None, Decimal("7.75")),
    ]


def test_2_flows_whose_open_rate_falls(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 2) == [("Welcome", rounded(0.5), rounded(0.3), rounded(-0.2))]


def test_3_campaigns_by_send_day(connection: psycopg.Connection[Any]) -> None:
    sent = {id: reported for id, reported in CAMPAIGNS.items() if reported[0] in MARCH}
    assert answer(connection, 3) == [
        (
            day,
            f"campaigns {id}",
            "email",
            Decimal(str(counts["recipients"])),
            Decimal(str(counts["conversion_value"])),
            rounded(counts["conversion_value"] / counts["delivered"]),
        )
        for id, (day, _, counts) in sent.items()
    ]


def test_4_the_best_subject_lines(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 4) == [
        ("Spring is here", 1000, rounded(400 / 1000), rounded(50 / 1000)),
        ("Last chance", 800, rounded(200 / 800), rounded(60 / 800)),
    ]


def test_5_the_messages_of_the_flows(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 5) == [
        ("Welcome", "First of welcome", "email", 100 * len(MARCH), rounded(0.07), revenue(WELCOME, MARCH)),
        ("Cart", "First of cart", "email", 40, rounded(0.1), Decimal(120)),
    ]


def test_6_how_many_submit_a_form(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 6) == [
        ("forms footer", 8 * 31, 2 * 31, rounded(2 / 8)),
        ("forms popup", 30 * 31, 3 * 31, rounded(3 / 30)),
    ]


def test_7_segments_that_grow(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 7) == [
        ("segments vip", 1003 + 3 * 30, 4 * 31, 31, 3 * 31),
        ("segments cold", 498 - 2 * 30, 0, 2 * 31, -2 * 31),
    ]


def test_8_what_has_changed_since_a_day(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 8) == [("Cart", "live", "draft", False), ("Old", "live", "live", False)]


def test_9_values_that_klaviyo_changed_afterwards(connection: psycopg.Connection[Any]) -> None:
    [(day, flow, statistic, earlier, later, restated_at)] = answer(connection, 9)
    assert (day, flow, statistic) == (date(2025, 3, 10), "Cart", "conversion_value")
    assert (earlier, later) == (Decimal("99.5"), Decimal(120))
    assert restated_at is not None


def test_10_which_days_are_missing_or_not_final(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 10) == [
        (date(2025, 3, 31), "may still change"),
        (date(2025, 4, 1), "missing"),
        (date(2025, 4, 2), "missing"),
    ]


def test_11_what_flows_and_what_campaigns_earn(connection: psycopg.Connection[Any]) -> None:
    flows = {
        month: sum((revenue(flow, days) for flow in (WELCOME, CART, OLD)), Decimal())
        for month, days in ((date(2025, 2, 1), FEBRUARY), (date(2025, 3, 1), MARCH))
    }
    campaigns = {date(2025, 2, 1): Decimal(250), date(2025, 3, 1): Decimal("820.5")}
    expected = {
        (month, source): (earned[month], rounded(float(earned[month] / (flows[month] + campaigns[month]))))
        for source, earned in (("flows", flows), ("campaigns", campaigns))
        for month in flows
    }
    assert {row[:2]: row[2:] for row in answer(connection, 11)} == expected


def test_12_archived_flows_that_earned_something(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 12) == [("Old", "archived", date(2025, 2, 20), Decimal("7.75"))]


def test_13_revenue_by_tag(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 13) == [
        ("evergreen", "campaigns", Decimal("820.5")),
        ("seasonal", "flows", revenue(WELCOME, MARCH) + 120),
        ("evergreen", "flows", revenue(WELCOME, MARCH)),
    ]


def test_14_campaigns_by_channel_and_message(connection: psycopg.Connection[Any]) -> None:
    assert answer(connection, 14) == [
        (f"campaigns {id}", day, "email", subject, 1, counts["recipients"], Decimal(str(counts["conversion_value"])))
        for id, (day, subject, counts) in CAMPAIGNS.items()
        if day in MARCH
    ]


def test_16_revenue_by_the_day_of_the_send_and_of_the_order(connection: psycopg.Connection[Any]) -> None:
    def earned(days: list[date]) -> Decimal:
        sent = sum((Decimal(str(c["conversion_value"])) for day, _, c in CAMPAIGNS.values() if day in days), Decimal())
        return sent + revenue(WELCOME, days) + revenue(CART, days)

    weeks = [[date(2025, 3, 3) + timedelta(days=7 * week + day) for day in range(7)] for week in range(4)]
    # A send with one conversion has its order four days later.
    assert answer(connection, 16) == [
        (week[0], earned(week), earned([day - timedelta(days=4) for day in week])) for week in weeks
    ]


def test_17_unique_opens_by_month(connection: psycopg.Connection[Any]) -> None:
    rows = answer(connection, 17)
    assert [row[:2] for row in rows] == [
        (FEBRUARY[0], "Old"),
        (FEBRUARY[0], "Welcome"),
        (MARCH[0], "Cart"),
        (MARCH[0], "Welcome"),
    ]
    assert rows[2][2:] == (20, rounded(0.5), MARCH[0], MARCH[-1])
    # People who open on several days count once.
    assert 30 < rows[3][2] < 50 * 17 + 30 * 14


def test_18_two_conversion_metrics_side_by_side(connection: psycopg.Connection[Any]) -> None:
    found = answer(connection, 18)
    assert [row[0] for row in found] == ["Cart", "Cart", "Welcome", "Welcome"]
    assert {row[1] for row in found} == set(METRICS)
    assert [row[2] for row in found] == [1, 1, len(MARCH), len(MARCH)]
    assert found[0][4] == 120


def test_every_query_finds_the_same_when_reports_write_the_campaigns_id(
    synced: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", synced.database)
    monkeypatch.setenv("KLAVIYO_API_KEY", key_of(synced.shop))
    found = {number: answer(synced.connection, int(number)) for number in QUERIES}
    synced.shop.report_message_ids = "campaign"
    for asset in ("campaign_report", "campaign_metrics"):
        synced.run(asset, FIRST, LAST)
    written = synced.connection.execute("SELECT DISTINCT campaign_message_id FROM klaviyo.campaign_report ORDER BY 1")
    assert [id for (id,) in written] == list(CAMPAIGNS)
    assert {number: answer(synced.connection, int(number)) for number in QUERIES} == found


def test_15_ab_tests_side_by_side(connection: psycopg.Connection[Any]) -> None:
    found = answer(connection, 15)
    assert [row[:6] for row in found] == [
        ("campaigns C1", "A", 500, rounded(20 / 500), 0, 0),
        ("campaigns C1", "B", 500, rounded(30 / 500), rounded(0.5), z_of(20, 30, 500)),
        ("campaigns C2", "A", 400, rounded(15 / 400), 0, 0),
        ("campaigns C2", "B", 400, rounded(45 / 400), 2, z_of(15, 45, 400)),
    ]
    assert [row[6].partition(":")[0] for row in found] == ["not", "not", "not", "very"]


def z_of(first: int, second: int, delivered: int) -> Decimal:
    """The two-proportion z statistic of two variations with as many deliveries each."""
    both = (first + second) / (2 * delivered)
    return Decimal(str(round((second - first) / delivered / math.sqrt(both * (1 - both) * 2 / delivered), 2)))
