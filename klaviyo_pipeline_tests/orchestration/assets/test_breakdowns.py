"""The reports by variation, by list or segment, and by version: every row once, on its day, beside the plain report."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import orjson
import pytest

from klaviyo_pipeline.catalog import BREAKDOWNS, REPORTS, period_of
from klaviyo_pipeline.cli.plan_command import make_plan
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, pipeline_on, put, utc

pytestmark = pytest.mark.slow

OLD = utc("2024-06-01T12:00:00")
DAY = date(2025, 3, 10)
FLOW = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"}
CAMPAIGN = {"campaign_id": "C1", "campaign_message_id": "M1", "send_channel": "email"}
FIRST = {"variation": "V1", "variation_name": "Short subject"}
SECOND = {"variation": "V2", "variation_name": "Long subject"}


@pytest.fixture
def pipeline(migrated: str, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(migrated, shop, monkeypatch, assets=("default", *BREAKDOWNS)) as pipeline:
        yield pipeline


@pytest.fixture
def campaign(shop: SandboxAccount) -> None:
    """A campaign with a test of two variations, sent to two lists that share people."""
    put(shop, "campaigns", "C1", OLD, status="Sent", send_time=utc("2025-03-10T15:00:00"), created_at=OLD)
    for variation, recipients in ((FIRST, 40), (SECOND, 60)):
        shop.set_figures("campaign", CAMPAIGN | variation, DAY, {"recipients": recipients, "conversion_value": 5.5})


def test_a_flow_message_without_a_test_has_one_row_without_a_variation(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(shop, "flows", "F1", OLD, status="live")
    for variation, recipients in ((FIRST, 7), (SECOND, 5)):
        shop.set_figures("flow", FLOW | variation, DAY, {"recipients": recipients})
    shop.set_figures("flow", {**FLOW, "flow_message_id": "M2"}, DAY, {"recipients": 3})
    shop.report_page_size = 1
    with pipeline.requested() as requests:
        pipeline.run("flow_report_by_variation", "2025-03-10")
    pipeline.run("flow_report", "2025-03-10")
    asked = [orjson.loads(entry.body) for entry in requests if entry.method == "POST"]
    assert {tuple(one["data"]["attributes"]["group_by"]) for one in asked} == {(*FLOW, *FIRST)}
    columns = "flow_message_id, variation, variation_name, recipients, groups"
    assert pipeline.rows(f"SELECT {columns} FROM flow_report_by_variation ORDER BY 1, 2") == [
        ("M1", "V1", "Short subject", 7, 1),
        ("M1", "V2", "Long subject", 5, 1),
        ("M2", "", "", 3, 1),
    ]
    sums = "SELECT flow_message_id, sum(recipients) FROM {} GROUP BY 1 ORDER BY 1"
    assert pipeline.rows(sums.format("flow_report_by_variation")) == pipeline.rows(sums.format("flow_report"))


@pytest.mark.usefixtures("campaign")
def test_a_campaigns_variations_are_on_the_day_of_its_send_and_move_with_it(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    pipeline.run("campaigns_census")
    pipeline.run("campaign_report_by_variation", "2025-03-01", "2025-03-20")
    dated = "SELECT date, variation, recipients, conversion_value FROM campaign_report_by_variation ORDER BY 1, 2"
    assert pipeline.rows(dated) == [(DAY, "V1", 40, 5.5), (DAY, "V2", 60, 5.5)]
    put(shop, "campaigns", "C1", OLD, send_time=utc("2025-03-12T15:00:00"))
    pipeline.run("campaigns_census")
    pipeline.run("campaign_report_by_variation", "2025-03-12")
    assert pipeline.rows(dated) == [(date(2025, 3, 12), "V1", 40, 5.5), (date(2025, 3, 12), "V2", 60, 5.5)]
    put(shop, "campaigns", "C1", OLD, send_time=None)
    pipeline.run("campaigns_census")
    pipeline.run("campaign_report_by_variation", "2025-03-12")
    assert pipeline.rows(dated) == []
    undated = "SELECT variation, recipients FROM campaign_report_by_variation_undated ORDER BY 1"
    assert pipeline.rows(undated) == [("V1", 40), ("V2", 60)]
    assert pipeline.one("SELECT count(*) FROM campaign_report_undated") == 0


def test_a_campaign_is_reported_by_the_lists_and_segments_that_it_was_sent_to(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(shop, "lists", "L1", OLD, name="Newsletter")
    put(shop, "segments", "S1", OLD, name="VIP")
    put(
        shop,
        "campaigns",
        "C1",
        OLD,
        status="Sent",
        send_time=utc("2025-03-10T15:00:00"),
        created_at=OLD,
        audiences={"included": ["L1", "S1"], "excluded": []},
    )
    [message] = shop.objects["campaign-messages"]
    shop.set_figures("campaign", {**CAMPAIGN, "campaign_message_id": message}, DAY, {"recipients": 40})
    pipeline.run("campaigns_census")
    pipeline.run("campaign_report_by_audience", "2025-03-10")
    found = pipeline.rows("SELECT group_id, group_name, recipients FROM campaign_report_by_audience ORDER BY 1")
    assert found == [("L1", "Newsletter", 40), ("S1", "VIP", 40)]


def test_a_form_is_reported_by_version(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put(shop, "forms", "W1", OLD, status="live", versions=["11", "12"])
    for version, submits in (("11", 3), ("12", 4)):
        shop.set_figures("form", {"form_id": "W1", "form_version_id": version}, DAY, {"submits": submits})
    pipeline.run("form_report_by_version", "2025-03-10")
    query = "SELECT form_id, form_version_id, date, submits FROM form_report_by_version ORDER BY 2"
    assert pipeline.rows(query) == [("W1", "11", DAY, 3), ("W1", "12", DAY, 4)]


def test_the_plan_shows_the_requests_of_each_breakdown_and_their_share_of_the_daily_quota(pipeline: Pipeline) -> None:
    names = [name for name in REPORTS if not name.startswith("segment")]
    engine = create_engine(pipeline.database)
    with engine.connect() as connection:
        made = make_plan(connection, pipeline.account, SyncRequest(names, date(2025, 2, 1), date(2025, 7, 31)))
    engine.dispose()
    costs: dict[str, Any] = {one.asset: (one.requests, one.basis) for one in made.estimates}
    by_day = [name for name in names if not name.startswith("campaign") and period_of(name) == "day"]
    assert costs == {name: (4 if name in by_day else 1, "exact") for name in names}
    shares = {quota.endpoint: quota.wanted for quota in made.quotas}
    assert shares == {"query_flow_series": 10, "query_campaign_values": 3, "query_form_series": 8}
