"""A conversion metric with counts but no values: what is stored, what it costs, and when values are requested again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.sandbox.sandbox_account import Metric, SandboxAccount
from klaviyo_pipeline.sync.asset_runs import AssetResult
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, pipeline_on, put, run_sync, utc

DAY = "2025-03-10"
OLD = utc("2024-06-01T12:00:00")
COUNTS = {"recipients": 100, "delivered": 80, "opens_unique": 40, "conversions": 4, "conversion_uniques": 4}
VALUE = ("conversion_value", "revenue_per_recipient", "average_order_value", "text_message_roi")
FLOW = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"}
CAMPAIGN = {"campaign_id": "C1", "campaign_message_id": "C1", "send_channel": "email"}


@pytest.fixture
def shop() -> SandboxAccount:
    """An account with 31 metrics, none of them mapped, whose flow reports have no values."""
    shop = empty_shop()
    shop.mapped_metrics = {}
    for number in range(31 - len(shop.metrics)):
        shop.metrics[f"X{number}"] = Metric(f"X{number}", f"Custom {number}", "API", "API", OLD)
    put(shop, "flows", "F1", OLD, status="live")
    put(shop, "campaigns", "C1", OLD, status="Sent", send_time=utc(f"{DAY}T12:00:00"))
    figures = {**COUNTS, "conversion_value": 120.5}
    shop.set_figures("flow", FLOW, date.fromisoformat(DAY), figures)
    shop.set_figures("campaign", CAMPAIGN, date.fromisoformat(DAY), figures)
    shop.refused_statistics = {"flow": {"conversion_value"}}
    return shop


@pytest.fixture
def pipeline(migrated: str, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        yield pipeline


def reports_asked(pipeline: Pipeline, asset: str, day: str = DAY) -> int:
    """The report requests of one run over this day, which must succeed."""
    with pipeline.requested() as requests:
        pipeline.run(asset, day)
    return sum("report" in one.path for one in requests)


def revenue(pipeline: Pipeline) -> Decimal | None:
    found: Decimal | None = pipeline.one("SELECT conversion_value FROM flow_report")
    return found


def age_the_refusals(pipeline: Pipeline) -> None:
    pipeline.execute("UPDATE conversion_refusals SET refused_at = refused_at - interval '21 hours'")


def test_counts_are_stored_without_the_statistics_derived_from_values(pipeline: Pipeline) -> None:
    assert reports_asked(pipeline, "flow_report") == 2
    pipeline.run("flow_metrics", DAY)
    assert pipeline.rows(f"SELECT {', '.join(COUNTS)} FROM flow_report") == [(100, 80, 40, 4, 4)]
    assert pipeline.one(f"SELECT num_nonnulls({', '.join(VALUE)}) FROM flow_report") == 0
    [metrics] = pipeline.rows(
        "SELECT recipients, conversions, conversion_rate, conversion_value, revenue_per_recipient, average_order_value "
        "FROM flow_metrics"
    )
    assert metrics == (100, 4, Decimal("0.05"), None, None, None)
    over_all = "SELECT conversion_value, revenue_per_recipient FROM flow_metrics_between('2025-01-01', '2025-12-31')"
    assert pipeline.rows(over_all) == [(None, None)]


def test_the_run_reports_which_statistics_are_missing_and_why(pipeline: Pipeline) -> None:
    result = pipeline.run("flow_report", DAY)
    messages = [entry.user_message for entry in pipeline.instance.all_logs(result.run_id)]
    [line] = [line for line in messages if "Klaviyo rejects conversion_value" in line]
    assert "metric RPlacd" in line
    assert "KLAVIYO_CONVERSION_METRIC_ID" in line


def test_refused_requests_count_as_requests(pipeline: Pipeline) -> None:
    result = pipeline.run("flow_report", DAY)
    assert pipeline.one("SELECT sum(requests) FROM sync_windows") == 2
    calls = "SELECT requests FROM api_calls WHERE run_id = %s AND endpoint = 'query_flow_series'"
    assert pipeline.one(calls, result.run_id) == 2


def test_a_metric_from_the_setting_has_its_counts_too(pipeline: Pipeline) -> None:
    pipeline.configure(conversion_metric_id="SPlacd")
    assert reports_asked(pipeline, "flow_report") == 2
    assert pipeline.rows("SELECT recipients, conversion_value, conversion_metric_id FROM flow_report") == [
        (100, None, "SPlacd")
    ]


def test_a_refusal_by_one_report_does_not_apply_to_another(pipeline: Pipeline) -> None:
    pipeline.run("flow_report", DAY)
    pipeline.run("campaigns", "2025-02-01")
    pipeline.run("campaigns_census")
    assert reports_asked(pipeline, "campaign_report") == 1
    assert pipeline.one("SELECT conversion_value FROM campaign_report") == Decimal("120.5")


def test_a_refusal_is_remembered_for_less_than_a_day_and_later_values_are_stored(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    pipeline.run("flow_report", DAY)
    shop.refused_statistics = {}
    assert reports_asked(pipeline, "flow_report") == 1
    assert revenue(pipeline) is None
    age_the_refusals(pipeline)
    assert reports_asked(pipeline, "flow_report") == 1
    assert revenue(pipeline) == Decimal("120.5")
    assert pipeline.rows("SELECT 1 FROM conversion_refusals") == []
    assert pipeline.rows("SELECT 1 FROM sync_windows WHERE refused_statistics <> '{}'") == []


def sync(pipeline: Pipeline, *, force: bool = False, last: date | None = None) -> tuple[AssetResult, list[str]]:
    reported: list[str] = []
    day = date.fromisoformat(DAY)
    request = SyncRequest(["flow_report"], day, last or day, force=force, named=True)
    [result] = run_sync(pipeline.account, request, reported.append)
    return result, reported


@pytest.mark.usefixtures("home")
def test_a_sync_warns_and_succeeds_and_force_requests_the_refused_statistics_again(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    result, reported = sync(pipeline)
    assert (result.error, result.requests) == (None, 2)
    assert [line for line in reported if line.startswith("flow_report: warning: Klaviyo rejects conversion_value")]
    shop.refused_statistics = {}
    result, reported = sync(pipeline, force=True)
    assert (result.error, result.requests) == (None, 1)
    assert revenue(pipeline) == Decimal("120.5")


def test_trailing_days_have_values_again_the_day_after(shop: SandboxAccount, pipeline: Pipeline) -> None:
    today = datetime.now(UTC).date()
    shop.set_figures("flow", FLOW, today, {**COUNTS, "conversion_value": 7})
    pipeline.run("flow_report", today.isoformat())
    shop.refused_statistics = {}
    age_the_refusals(pipeline)
    pipeline.run("flow_report", today.isoformat())
    assert revenue(pipeline) == 7


def test_a_metric_without_any_statistics_is_skipped_within_a_few_requests(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    """None of the 31 metrics counts, and Klaviyo refuses the first two."""
    shop.metrics = {id: metric for id, metric in shop.metrics.items() if metric.name != "Placed Order"}
    order = sorted(shop.metrics.values(), key=lambda one: (one.integration != "Shopify", one.id))
    for metric in order[:2]:
        shop.metrics[metric.id] = Metric(metric.id, metric.name, metric.integration, metric.category, OLD, False)
    assert reports_asked(pipeline, "flow_report") == 5
    assert pipeline.rows("SELECT recipients, conversions, conversion_value FROM flow_report") == [(100, None, None)]
    assert pipeline.one("SELECT sum(requests) FROM sync_windows") == 5
    assert reports_asked(pipeline, "flow_report") == 1
    age_the_refusals(pipeline)
    assert reports_asked(pipeline, "flow_report") == 1, (
        "the next day chooses the same metric, so no stored day is missing"
    )


def test_an_account_whose_metrics_have_no_statistics_costs_only_a_few_requests(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    shop.refused_statistics = {"flow": {"recipients"}}
    with pipeline.requested() as requests:
        reason = pipeline.fail("flow_report", DAY)
    assert "KLAVIYO_CONVERSION_METRIC_ID" in reason
    assert sum("report" in one.path for one in requests) <= 12
