"""Several conversion metrics of one account: each is requested and kept by its id, and the metrics tables are the
first one's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster import DagsterInstance

from klaviyo_pipeline.catalog import METRICS, REPORTS
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.orchestration.checks.build_checks import check_context
from klaviyo_pipeline.orchestration.checks.metrics_checks import metrics_match_report
from klaviyo_pipeline.orchestration.checks.report_checks import conversions_are_of_one_metric
from klaviyo_pipeline.orchestration.checks.row_count_checks import report_rows_match_ledger
from klaviyo_pipeline.planning.planner import PlannedRun, Planner, SyncRequest
from klaviyo_pipeline.postgres.account_binding import reset_windows
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.request_log import RequestLogEntry
from klaviyo_pipeline.windows import report_windows
from klaviyo_pipeline_tests.support import SLUG, Pipeline, empty_shop, pipeline_on, put, run_sync, utc

pytestmark = pytest.mark.slow

ORDERS, CHECKOUTS = "RPlacd", "RChkot"
BOTH = (ORDERS, CHECKOUTS)
FIRST, LAST = "2025-03-01", "2025-03-31"
SENDS = ("2025-02-01", "2025-04-30")
REPORTS_BY_METRIC = (
    "flow_report",
    "campaign_report",
    "flow_report_weekly",
    "flow_report_monthly",
    "flow_report_by_variation",
    "campaign_report_by_variation",
    "campaign_report_by_audience",
    "conversions_daily",
)


@pytest.fixture
def pipeline(recordable: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    monkeypatch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.0)
    shop = generate_account(5, flows=6, campaigns=60, forms=0, segments=0, timezone="America/New_York")
    shop.api_keys = empty_shop().api_keys
    every = ("default", *(name for name in REPORTS_BY_METRIC if "_by_" in name))
    with pipeline_on(recordable, shop, monkeypatch, conversion_metric_id=BOTH, assets=every) as pipeline:
        yield pipeline


def synced(pipeline: Pipeline, *assets: str, first: str = FIRST, last: str = LAST, **options: Any) -> list[Any]:
    """The requests of reports in a sync of these days, which must succeed."""
    request = SyncRequest(assets, date.fromisoformat(first), date.fromisoformat(last), named=True, **options)
    with pipeline.requested() as requests:
        results = run_sync(pipeline.account, request)
    assert [result.error for result in results] == [None] * len(assets)
    return [one for one in requests if is_report(one)]


def is_report(request: RequestLogEntry) -> bool:
    return "report" in request.path or "aggregates" in request.path


def metric_of(request: RequestLogEntry) -> str:
    attributes = json.loads(request.body)["data"]["attributes"]
    return str(attributes.get("conversion_metric_id") or attributes["metric_id"])


def days_of(request: RequestLogEntry) -> tuple[str, str]:
    frame = json.loads(request.body)["data"]["attributes"]["timeframe"]
    return frame["start"][:10], frame["end"][:10]


def conversions(pipeline: Pipeline, table: str = "flow_report") -> dict[str, Decimal]:
    """The sum of the conversions in a table, by metric."""
    return dict(pipeline.rows(f"SELECT conversion_metric_id, sum(conversions) FROM {table} GROUP BY 1"))


def outcomes(pipeline: Pipeline, report: str = "flow_report") -> list[str]:
    """The outcomes of the checks that compare a report with the ledger and the metrics with the report."""
    metrics = METRICS["flow_metrics"]
    with disposed(pipeline) as engine, check_context(engine, pipeline.account, report, metrics.name) as ctx:
        spec = REPORTS[report].report
        found = [conversions_are_of_one_metric(ctx, spec), report_rows_match_ledger(ctx)]
        found.append(metrics_match_report(replace(ctx, asset=metrics.name), metrics))
        return [one.outcome for one in found]


@contextmanager
def disposed(pipeline: Pipeline) -> Iterator[sa.Engine]:
    engine = create_engine(pipeline.database)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("report", REPORTS_BY_METRIC)
def test_each_metric_is_kept_by_its_id_at_one_more_request(report: str, pipeline: Pipeline) -> None:
    first, last = (FIRST, LAST)
    if report.endswith("ly"):
        first, last = {"weekly": ("2025-03-03", "2025-03-24"), "monthly": (FIRST, FIRST)}.get(
            report[12:], (FIRST, LAST)
        )
    if report.startswith("campaign"):
        pipeline.run("campaigns_census")
        first, last = SENDS
    rows = f"SELECT {{0}} FROM {report} AS row WHERE conversion_metric_id = %s ORDER BY 1"
    without_time = rows.format("(to_jsonb(row) - 'observed_at')::text")
    alone = {}
    for metric in BOTH:
        pipeline.configure(conversion_metric_id=metric)
        with pipeline.requested() as requests:
            pipeline.run(report, first, last)
        assert [metric_of(one) for one in requests if is_report(one)] == [metric]
        alone[metric] = pipeline.rows(without_time, metric)
        assert alone[metric]
        pipeline.execute(f"TRUNCATE {report}, sync_windows")
    pipeline.configure(conversion_metric_id=BOTH)
    with pipeline.requested() as requests:
        pipeline.run(report, first, last)
    assert [metric_of(one) for one in requests if is_report(one)] == [*BOTH]
    assert {metric: pipeline.rows(without_time, metric) for metric in BOTH} == alone
    with pipeline.requested() as requests:
        pipeline.run(report, first, last)
    assert len([one for one in requests if is_report(one)]) == 2
    assert pipeline.one(f"SELECT count(*) FROM {report}_superseded") == 0


def test_one_metric_leaves_no_trace_of_others(pipeline: Pipeline, home: DagsterInstance) -> None:
    pipeline.configure(conversion_metric_id=ORDERS)
    assert len(synced(pipeline, "flow_report", "flow_metrics")) == 1
    assert pipeline.rows("SELECT DISTINCT entity FROM sync_windows ORDER BY 1") == ["flow_metrics", "flow_report"]
    assert synced(pipeline, "flow_report", "flow_metrics") == []


def test_the_metrics_tables_are_those_of_the_first_metric(pipeline: Pipeline, home: DagsterInstance) -> None:
    assert sorted(map(metric_of, synced(pipeline, "flow_report", "flow_metrics"))) == sorted(BOTH)
    assert conversions(pipeline, "flow_metrics") == {ORDERS: conversions(pipeline)[ORDERS]}
    recipients = pipeline.one("SELECT sum(recipients) FROM flow_report WHERE conversion_metric_id = %s", ORDERS)
    assert pipeline.one("SELECT sum(recipients) FROM flow_metrics") == recipients > 0
    between = "SELECT sum(recipients) FROM flow_metrics_between('2025-03-01', '2025-03-31')"
    assert pipeline.one(between) == recipients
    assert pipeline.rows("SELECT entity, conversion_metric_id FROM first_metrics") == [("flow_report", ORDERS)]
    assert outcomes(pipeline) == ["passed"] * 3


def test_a_metric_that_is_added_later_is_requested_alone_where_it_is_missing(
    pipeline: Pipeline, home: DagsterInstance
) -> None:
    pipeline.configure(conversion_metric_id=ORDERS)
    synced(pipeline, "flow_report", "flow_metrics")
    pipeline.configure(conversion_metric_id=BOTH)
    assert outcomes(pipeline)[0] == "warning"
    with disposed(pipeline) as engine, engine.connect() as connection:
        now = utc("2025-04-20T12:00:00")
        found = Planner(pipeline.account, now).missing(connection, "flow_report")
    # The sensor requests days that neither metric has in one run, and days that one lacks with that one.
    assert [(run.windows[0].key, run.windows[-1].key, run.metric_ids) for run in found] == [
        ("2025-02-01", "2025-02-28", (ORDERS,)),
        ("2025-04-01", "2025-04-19", (ORDERS,)),
        ("2025-02-01", "2025-04-19", (CHECKOUTS,)),
    ]
    requests = synced(pipeline, "flow_report", "flow_metrics")
    assert [(metric_of(one), days_of(one)) for one in requests] == [(CHECKOUTS, (FIRST, LAST))]
    assert conversions(pipeline, "flow_metrics") == {ORDERS: conversions(pipeline)[ORDERS]}
    assert outcomes(pipeline) == ["passed"] * 3
    assert synced(pipeline, "flow_report", "flow_metrics") == []


def test_a_metric_that_is_removed_keeps_its_rows_and_is_not_requested(
    pipeline: Pipeline, home: DagsterInstance
) -> None:
    synced(pipeline, "flow_report", "flow_metrics")
    before = conversions(pipeline)
    pipeline.configure(conversion_metric_id=ORDERS)
    assert synced(pipeline, "flow_report", "flow_metrics") == []
    assert list(map(metric_of, synced(pipeline, "flow_report", "flow_metrics", force=True))) == [ORDERS]
    assert conversions(pipeline) == before
    assert outcomes(pipeline) == ["passed"] * 3


def test_a_switch_of_the_first_metric_requests_nothing_that_is_there_and_computes_the_metrics_anew(
    pipeline: Pipeline, home: DagsterInstance
) -> None:
    synced(pipeline, "flow_report", "flow_metrics")
    kept = pipeline.versions("flow_report")
    for statement in (
        "exact_answers (entity, first_day, last_day, asked_at, conversion_metric_id) VALUES ('flows', {0}, now(), {1})",
        "exact_answers (entity, first_day, last_day, asked_at) VALUES ('forms', {0}, now())",
        "flow_metrics_exact (first_day, last_day, flow_id) VALUES ({0}, 'F1')",
    ):
        pipeline.execute("INSERT INTO " + statement.format("'2025-03-01', '2025-03-31'", f"'{ORDERS}'"))
    for setting in ((CHECKOUTS, ORDERS), ORDERS, CHECKOUTS):
        pipeline.configure(conversion_metric_id=setting)
        assert synced(pipeline, "flow_report", "flow_metrics") == []
        first = pipeline.account.first_conversion_metric
        assert conversions(pipeline, "flow_metrics") == {first: conversions(pipeline)[str(first)]}
        assert pipeline.rows("SELECT DISTINCT conversion_metric_id FROM report_days") == [first]
        assert outcomes(pipeline) == ["passed"] * 3
    assert pipeline.versions("flow_report") == kept
    # Exact values are those of the first metric too; forms have none.
    assert pipeline.rows("SELECT entity FROM exact_answers") == ["forms"]
    assert pipeline.rows("SELECT flow_id FROM flow_metrics_exact") == []


def test_a_switch_to_a_metric_that_was_never_requested_keeps_the_rows_of_the_earlier_one(
    pipeline: Pipeline, home: DagsterInstance
) -> None:
    pipeline.configure(conversion_metric_id=ORDERS)
    synced(pipeline, "flow_report", "flow_metrics")
    orders = conversions(pipeline)[ORDERS]
    pipeline.configure(conversion_metric_id=CHECKOUTS)
    requests = synced(pipeline, "flow_report", "flow_metrics", first="2025-03-11")
    assert [(metric_of(one), days_of(one)) for one in requests] == [(CHECKOUTS, ("2025-03-11", LAST))]
    assert conversions(pipeline)[ORDERS] == orders
    # The days before are missing with this metric, and so are their metrics.
    status = "SELECT count(*) FROM window_states WHERE entity = %s AND window_start < '2025-04-01' AND state = 'synced'"
    assert [pipeline.one(status, name) for name in ("flow_report", "flow_metrics")] == [21, 21]
    requests = synced(pipeline, "flow_report", "flow_metrics")
    assert [(metric_of(one), days_of(one)) for one in requests] == [(CHECKOUTS, (FIRST, "2025-03-10"))]
    assert conversions(pipeline, "flow_metrics") == {CHECKOUTS: conversions(pipeline)[CHECKOUTS]}


def test_without_a_setting_the_metrics_follow_the_metric_that_is_found_in_the_account(
    pipeline: Pipeline, home: DagsterInstance
) -> None:
    for setting in (None, CHECKOUTS):
        pipeline.configure(conversion_metric_id=setting)
        synced(pipeline, "flow_report", "flow_metrics")
    pipeline.configure(conversion_metric_id=None)
    assert synced(pipeline, "flow_report", "flow_metrics") == []
    assert conversions(pipeline, "flow_metrics") == {ORDERS: conversions(pipeline)[ORDERS]}
    assert pipeline.rows("SELECT conversion_metric_id FROM account") == [ORDERS]
    assert outcomes(pipeline) == ["passed"] * 3


def test_a_later_request_of_another_metric_does_not_keep_an_answer_from_its_rows(pipeline: Pipeline) -> None:
    pipeline.configure(conversion_metric_id=ORDERS)
    pipeline.run("flow_report", FIRST, LAST)
    pipeline.execute("UPDATE sync_windows SET asked_at = asked_at + interval '1 hour'")
    pipeline.configure(conversion_metric_id=CHECKOUTS)
    pipeline.run("flow_report", FIRST, LAST)
    assert sorted(conversions(pipeline)) == sorted(BOTH)
    assert outcomes(pipeline)[1] == "passed"


def test_force_and_reset_windows_request_each_metric_again(pipeline: Pipeline, home: DagsterInstance) -> None:
    synced(pipeline, "flow_report")
    assert list(map(metric_of, synced(pipeline, "flow_report", force=True))) == [*BOTH]
    with disposed(pipeline) as engine, engine.begin() as connection:
        reset_windows(connection, pipeline.account)
    assert list(map(metric_of, synced(pipeline, "flow_report"))) == [*BOTH]


def test_a_run_with_the_tag_of_one_metric_requests_it_alone(pipeline: Pipeline) -> None:
    run = PlannedRun(report_windows(pipeline.account).of_keys([FIRST]), (CHECKOUTS,))
    whole = pipeline.definitions.resolve_implicit_global_asset_job_def()
    job = whole.get_subset(asset_selection={dg.AssetKey([SLUG, "flow_report"])}, asset_check_selection=set())
    assert job.execute_in_process(instance=pipeline.instance, tags=run.tags).success
    assert pipeline.rows("SELECT entity FROM sync_windows") == [f"flow_report:{CHECKOUTS}"]


def test_a_further_metric_that_klaviyo_refuses_fails_the_run_and_leaves_the_first_one_synced(
    pipeline: Pipeline,
) -> None:
    pipeline.configure(conversion_metric_id=(ORDERS, "ROpend"))
    assert "ConversionMetricIneligible" in pipeline.fail("flow_report", FIRST, "2025-03-05")
    assert list(conversions(pipeline)) == [ORDERS]
    states = dict(pipeline.rows("SELECT entity, array_agg(DISTINCT status) FROM sync_windows GROUP BY 1"))
    assert states == {"flow_report": ["synced"], "flow_report:ROpend": ["failed"]}


def test_a_metric_that_klaviyo_has_always_refused_does_not_become_the_first(
    pipeline: Pipeline, home: DagsterInstance
) -> None:
    pipeline.configure(conversion_metric_id=(ORDERS, "ROpend"))
    pipeline.fail("flow_report", FIRST, "2025-03-05")
    pipeline.run("flow_metrics", FIRST, "2025-03-05")
    pipeline.configure(conversion_metric_id="ROpend")
    request = SyncRequest(["flow_report", "flow_metrics"], date(2025, 3, 1), date(2025, 3, 5))
    failed, _ = run_sync(pipeline.account, request)
    assert "does not support the conversion metric" in str(failed.error)
    assert pipeline.rows("SELECT DISTINCT conversion_metric_id FROM report_days") == [ORDERS]
    assert pipeline.one("SELECT count(*) FROM window_states WHERE entity = 'flow_metrics' AND state = 'synced'") == 5


def test_a_changed_answer_for_one_metric_is_a_restatement_of_that_metric_alone(
    migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = empty_shop("Australia/Lord_Howe")
    put(shop, "flows", "F1", utc("2024-06-01T12:00:00"))
    message = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"}

    def convert(times: int) -> None:
        shop.set_figures("flow", message, date(2025, 4, 6), {"recipients": 9, "delivered": 9, "conversions": times})

    with pipeline_on(migrated, shop, monkeypatch, conversion_metric_id=BOTH) as pipeline:
        convert(2)
        pipeline.run("flow_report", "2025-04-05", "2025-04-07")
        convert(3)
        pipeline.configure(conversion_metric_id=ORDERS)
        pipeline.run("flow_report", "2025-04-06")
        changes = "SELECT conversion_metric_id, statistic, earlier_value, later_value FROM flow_report_restatements"
        assert pipeline.rows(f"{changes} WHERE statistic = 'conversions'") == [(ORDERS, "conversions", 2, 3)]
        assert conversions(pipeline) == {ORDERS: 3, CHECKOUTS: 2}
        assert {row[0] for row in pipeline.rows(changes)} == {ORDERS}


def test_campaigns_whose_send_day_moved_move_with_every_metric(pipeline: Pipeline) -> None:
    pipeline.run("campaigns_census")
    pipeline.run("campaign_report", *SENDS)
    before = conversions(pipeline, "campaign_report")
    id, day = pipeline.rows("SELECT campaign_id, min(date)::text FROM campaign_report GROUP BY 1 ORDER BY 1 LIMIT 1")[0]
    for table in ("campaigns", "campaign_messages"):
        key = "id" if table == "campaigns" else "campaign_id"
        pipeline.execute(f"UPDATE {table} SET send_time = send_time + interval '1 day' WHERE {key} = '{id}'")
    pipeline.run("campaign_report", SENDS[1])
    assert conversions(pipeline, "campaign_report") == before
    moved = "SELECT conversion_metric_id FROM campaign_report WHERE campaign_id = %s AND date::text > %s ORDER BY 1"
    assert sorted(set(pipeline.rows(moved, id, day))) == sorted(BOTH)
    assert outcomes(pipeline, "campaign_report")[1] == "passed"


def test_metrics_of_a_day_whose_window_has_failed_count_one_metric(pipeline: Pipeline) -> None:
    pipeline.run("campaigns_census")
    for asset in ("campaign_report", "campaign_metrics"):
        pipeline.run(asset, *SENDS)
    recipients = "SELECT sum(recipients) FROM campaign_metrics"
    before = pipeline.one(recipients)
    id = pipeline.one(f"SELECT min(campaign_id) FROM campaign_report WHERE date BETWEEN '{FIRST}' AND '{LAST}'")
    pipeline.execute("UPDATE sync_windows SET status = 'failed' WHERE entity = 'campaign_report'")
    for table, key in (("campaigns", "id"), ("campaign_messages", "campaign_id")):
        pipeline.execute(f"UPDATE {table} SET send_time = send_time + interval '1 day' WHERE {key} = '{id}'")
    pipeline.run("campaign_report", SENDS[1])
    assert pipeline.one(recipients) == before > 0


def test_a_continued_run_requests_the_days_that_any_of_the_metrics_lacks(pipeline: Pipeline) -> None:
    pipeline.run("flow_report", FIRST, LAST)
    pipeline.execute("UPDATE sync_windows SET run_id = 'killed'")
    pipeline.execute("UPDATE sync_windows SET run_id = 'other' WHERE entity LIKE '%:%' AND window_start > '2025-03-20'")
    tags = {
        "dagster/asset_partition_range_start": FIRST,
        "dagster/asset_partition_range_end": LAST,
        "dagster/is_resume_retry": "true",
        "dagster/parent_run_id": "killed",
    }
    report = pipeline.definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={dg.AssetKey([SLUG, "flow_report"])}, asset_check_selection=set()
    )
    with pipeline.requested() as requests:
        assert report.execute_in_process(instance=pipeline.instance, tags=tags).success
    days = {(metric_of(one), *days_of(one)) for one in requests if is_report(one)}
    assert days == {(metric, "2025-03-20", LAST) for metric in BOTH}
