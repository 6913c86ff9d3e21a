"""A sync: what its plan contains, and how its runs and results are reported."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from klaviyo_pipeline.klaviyo.errors import BadKey
from klaviyo_pipeline.klaviyo.rates import QUERY_FLOW_SERIES
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.maintenance.dead_runs import HOST_TAG, PROCESS_TAG, free_dead_runs
from klaviyo_pipeline.orchestration.jobs import ACCOUNT_TAG
from klaviyo_pipeline.orchestration.resources import klaviyo_resource
from klaviyo_pipeline.planning.durations import time_left
from klaviyo_pipeline.planning.planner import Planner, SyncRequest
from klaviyo_pipeline.postgres.account_binding import AccountRefused
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sync.asset_runs import AssetResult
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, pipeline_on, put, run_sync, truth, utc

pytestmark = pytest.mark.slow

FIRST, LAST = date(2025, 3, 1), date(2025, 3, 31)
NOW = utc("2025-03-31T15:00:00")
NOON = utc("2025-03-10T12:00:00")


@pytest.fixture
def shop() -> SandboxAccount:
    shop = empty_shop()
    for number in range(3):
        put(shop, "flows", f"f{number}", NOON + timedelta(seconds=number))
    shop.set_figures(
        "flow",
        {"flow_id": "f0", "flow_message_id": "M", "send_channel": "email"},
        NOON.date(),
        {"recipients": 10, "delivered": 9, "conversion_value": 12.5},
    )
    return shop


@pytest.fixture
def pipeline(recordable: str, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    monkeypatch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.0)
    with pipeline_on(recordable, shop, monkeypatch) as pipeline:
        yield pipeline


def planned(
    pipeline: Pipeline,
    asset: str,
    *,
    first: date = FIRST,
    last: date = LAST,
    now: datetime = NOW,
    force: bool = False,
    metric: str | None = None,
) -> list[tuple[str, str]]:
    """First and last window of each planned run at `now`."""
    engine = create_engine(pipeline.database)
    request = SyncRequest([asset], first, last, force)
    with engine.connect() as connection:
        ranges = Planner(pipeline.account, now).windows(connection, asset, request, conversion_metric_id=metric)
    engine.dispose()
    return [(windows[0].key, windows[-1].key) for windows in ranges]


def synced(pipeline: Pipeline, *assets: str, **options: Any) -> tuple[list[AssetResult], list[str]]:
    """The results of a sync of five days, and its progress lines."""
    reported: list[str] = []
    request = SyncRequest(assets, date(2025, 3, 8), date(2025, 3, 12), **{"named": True, **options})
    return run_sync(pipeline.account, request, reported.append), reported


# The plan.


@pytest.mark.parametrize("asset", ["flows", "segments", "flow_report"])
def test_a_first_sync_is_one_run_over_every_window(asset: str, pipeline: Pipeline) -> None:
    assert planned(pipeline, asset) == [("2025-03-01", "2025-03-31")]


def test_windows_ahead_of_now_are_not_planned(pipeline: Pipeline) -> None:
    assert planned(pipeline, "flows", last=date(2025, 4, 30)) == [("2025-03-01", "2025-03-31")]


def test_synced_windows_are_not_requested_again_except_the_trailing_days(pipeline: Pipeline) -> None:
    pipeline.run("flows", "2025-03-01", "2025-03-31")
    assert planned(pipeline, "flows") == [("2025-03-24", "2025-03-31")]
    pipeline.configure(lookback_days=0)
    assert planned(pipeline, "flows") == [("2025-03-31", "2025-03-31")]


def test_force_requests_everything_again(pipeline: Pipeline) -> None:
    pipeline.run("flows", "2025-03-01", "2025-03-31")
    assert planned(pipeline, "flows", force=True) == [("2025-03-01", "2025-03-31")]


def test_small_gaps_are_bridged_and_large_ones_are_not(pipeline: Pipeline) -> None:
    pipeline.configure(lookback_days=0)
    pipeline.run("flows", "2025-03-03", "2025-03-08")
    pipeline.run("flows", "2025-03-11", "2025-03-28")
    assert planned(pipeline, "flows") == [("2025-03-01", "2025-03-10"), ("2025-03-29", "2025-03-31")]


def test_failed_windows_are_requested_again(pipeline: Pipeline) -> None:
    pipeline.run("flows", "2025-03-01", "2025-03-09")
    pipeline.server.faults.add(path_starts("/api/flows"), Fault(status=500), times=20)
    pipeline.fail("flows", "2025-03-10")
    pipeline.server.faults.clear()
    assert planned(pipeline, "flows", last=date(2025, 3, 10)) == [("2025-03-10", "2025-03-10")]


def test_a_window_that_was_requested_before_its_end_is_requested_again(pipeline: Pipeline) -> None:
    today = datetime.now(UTC).date()
    pipeline.run("flows", today.isoformat())
    pipeline.configure(lookback_days=0)
    later = datetime.now(UTC) + timedelta(days=3)
    assert planned(pipeline, "flows", first=today, last=today, now=later) == [(today.isoformat(), today.isoformat())]


def test_report_days_are_requested_again_as_long_as_their_values_may_change(pipeline: Pipeline) -> None:
    pipeline.run("flow_report", "2025-03-01", "2025-03-31")
    assert planned(pipeline, "flow_report") == [("2025-03-24", "2025-03-31")]
    pipeline.configure(attribution_days=10)
    assert planned(pipeline, "flow_report") == [("2025-03-21", "2025-03-31")]


def test_a_report_that_was_requested_with_another_conversion_metric_counts_as_missing(pipeline: Pipeline) -> None:
    pipeline.run("flow_report", "2025-03-01", "2025-03-31")
    assert planned(pipeline, "flow_report", metric="RPlacd") == [("2025-03-24", "2025-03-31")]
    assert planned(pipeline, "flow_report", metric="RChkot") == [("2025-03-01", "2025-03-31")]


def test_metrics_are_computed_for_reports_that_were_synced_since(pipeline: Pipeline) -> None:
    assert planned(pipeline, "flow_metrics") == []
    pipeline.run("flow_report", "2025-03-01", "2025-03-31")
    assert planned(pipeline, "flow_metrics") == [("2025-03-01", "2025-03-31")]
    pipeline.run("flow_metrics", "2025-03-01", "2025-03-31")
    assert planned(pipeline, "flow_metrics") == []
    pipeline.run("flow_report", "2025-03-10")
    assert planned(pipeline, "flow_metrics") == [("2025-03-10", "2025-03-10")]


@pytest.mark.parametrize(("hours", "due"), [(19, False), (21, True)])
def test_a_census_is_due_if_the_last_complete_one_is_old(hours: int, due: bool, pipeline: Pipeline) -> None:
    pipeline.run("flows_census")
    began = pipeline.one("SELECT started_at FROM census_runs")
    planner = Planner(pipeline.account, began + timedelta(hours=hours))
    engine = create_engine(pipeline.database)
    with engine.connect() as connection:
        request = SyncRequest(["flows_census"], FIRST, LAST)
        assert planner.census_is_due(connection, "flows_census", request) is due
        named = SyncRequest(["flows_census"], FIRST, LAST, named=True)
        assert planner.census_is_due(connection, "flows_census", named)
    engine.dispose()


@pytest.mark.parametrize(("revision", "due"), [("2026-07-15", False), ("2026-10-15", True)])
def test_a_census_of_campaigns_is_due_if_the_last_one_was_read_at_another_revision(
    revision: str, due: bool, pipeline: Pipeline
) -> None:
    pipeline.configure(revision="2026-07-15")
    pipeline.run("campaigns_census")
    began = pipeline.one("SELECT started_at FROM census_runs")
    pipeline.configure(revision=revision)
    planner = Planner(pipeline.account, began + timedelta(hours=1))
    engine = create_engine(pipeline.database)
    with engine.connect() as connection:
        request = SyncRequest(["campaigns_census"], FIRST, LAST)
        assert planner.census_is_due(connection, "campaigns_census", request) is due
    engine.dispose()


# The runs and their results.


def test_every_run_of_a_sync_is_in_dagsters_instance_with_its_windows(
    pipeline: Pipeline, home: DagsterInstance
) -> None:
    results, _ = synced(pipeline, "flows", "flows_census")
    runs = {run.run_id: run for run in home.get_runs()}
    assert {id for result in results for id in result.run_ids} == set(runs)
    assert {run.status for run in runs.values()} == {DagsterRunStatus.SUCCESS}
    tags = runs[results[0].run_ids[0]].tags
    assert tags["dagster/asset_partition_range_start"] == "2025-03-08"
    assert tags["klaviyo/launched_by"] == "klaviyo-pipeline sync"
    assert all(name.startswith(".dagster/") for name in (HOST_TAG, PROCESS_TAG)), "the UI hides only these"
    assert len(home.get_materialized_partitions(dg.AssetKey([pipeline.account.slug, "flows"]))) == 5


def test_a_result_counts_fetched_and_changed_rows(
    shop: SandboxAccount, pipeline: Pipeline, home: DagsterInstance
) -> None:
    [first], _ = synced(pipeline, "flows")
    assert (first.windows, first.requests, first.rows_fetched, first.rows_inserted) == (5, 2, 3, 3)
    put(shop, "flows", "f0", NOON, name="changed")
    [second], _ = synced(pipeline, "flows", force=True)
    assert (second.rows_inserted, second.rows_updated, second.rows_unchanged) == (0, 1, 2)
    shop.delete("flows", "f1")
    [census], _ = synced(pipeline, "flows_census")
    assert (census.rows_fetched, census.rows_deleted, census.error) == (2, 1, None)


def test_a_sync_reports_its_cost_and_its_progress(pipeline: Pipeline, home: DagsterInstance) -> None:
    pipeline.configure(rate_scale=1000.0)
    reported: list[str] = []
    request = SyncRequest(["flows", "flows_census", "flow_report"], date(2025, 2, 1), date(2025, 10, 8), named=True)
    run_sync(pipeline.account, request, reported.append)
    assert "flows: 250 windows, 2025-02-01 to 2025-10-08: at least 4 requests" in reported
    assert any(line.startswith("flows: 2025-02-01 to 2025-07-27 synced with ") for line in reported)
    assert any(line.endswith(": 250 of 250 windows") for line in reported)
    assert "flows_census: full listing: at least 2 requests" in reported
    assert "flow_report: 250 windows, 2025-02-01 to 2025-10-08: 5 requests" in reported
    days = [line for line in reported if line.startswith("flow_report: 2025")]
    assert [line.partition(", ")[2].split(" days")[0] for line in days] == [
        "1 row: 59 of 250",
        "0 rows: 118 of 250",
        "0 rows: 177 of 250",
        "0 rows: 236 of 250",
        "0 rows: 250 of 250",
    ]


@pytest.mark.parametrize(
    ("requests", "scale", "reported"),
    [
        (0, 1.0, ""),
        (3, 0.0, ""),
        (1, 10.0, ""),
        (3, 1.0, ", 1 min or more left at the published rates"),
        (6, 1.0, ", 3 min or more left at the published rates"),
    ],
)
def test_the_time_left_is_computed_from_the_published_rates(requests: int, scale: float, reported: str) -> None:
    assert time_left(QUERY_FLOW_SERIES, requests, scale) == reported


def test_a_second_sync_does_not_request_synced_windows(pipeline: Pipeline, home: DagsterInstance) -> None:
    assets = ("flows", "flow_report", "flow_metrics")
    synced(pipeline, *assets)
    with pipeline.requested() as requests:
        results, reported = synced(pipeline, *assets)
    assert [result.skipped for result in results] == ["up to date"] * 3
    assert not [request for request in requests if request.endpoint in ("get_flows", "query_flow_series")]
    assert "flows: up to date" in reported


def test_a_failing_asset_does_not_stop_the_others(
    shop: SandboxAccount, pipeline: Pipeline, home: DagsterInstance
) -> None:
    pipeline.server.faults.add(path_starts("/api/flow-series-reports"), Fault(status=500), times=5)
    pipeline.server.faults.add(
        lambda request: "greater" in request.query_params.get("filter", ""), Fault(status=500), times=20
    )
    results, reported = synced(pipeline, "flows", "flows_census", "flow_report", "flow_metrics")
    assert [bool(result.error) for result in results] == [True, False, True, False]
    assert pipeline.stored("flows") == truth(shop, "flows")
    assert any(line.startswith("flows: failed: ") and "HTTP 500" in line for line in reported)
    assert all("\n" not in result.error for result in results if result.error)


def test_a_sync_that_is_refused_leaves_a_failed_run_and_its_reason_in_the_ledger(
    shop: SandboxAccount, pipeline: Pipeline, home: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced(pipeline, "flows")
    shop.api_keys = {}
    monkeypatch.setattr(klaviyo_resource, "_identities", {})
    with pytest.raises(BadKey):
        synced(pipeline, "flows", "forms", "forms_census", "flow_report", force=True)
    [failed] = home.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE]))
    assert failed.tags[ACCOUNT_TAG] == pipeline.account.slug
    errors = pipeline.rows("SELECT DISTINCT error FROM sync_windows")
    assert len(errors) == 1
    assert "Check KLAVIYO_API_KEY" in errors[0]
    assert pipeline.one("SELECT error FROM census_runs") == errors[0]
    states = dict(pipeline.rows("SELECT entity, array_agg(DISTINCT status) FROM sync_windows GROUP BY entity"))
    assert states == {"flows": ["synced"], "forms": ["failed"], "flow_report": ["failed"]}
    [event] = home.all_logs(failed.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert errors[0] in event.get_dagster_event().step_failure_data.error.message


def test_a_key_of_another_account_is_refused_with_a_failed_run_and_an_untouched_ledger(
    shop: SandboxAccount, pipeline: Pipeline, home: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced(pipeline, "flows")
    before = pipeline.versions("sync_windows", "census_runs")
    shop.id = "OTHER1"
    monkeypatch.setattr(klaviyo_resource, "_identities", {})
    with pytest.raises(AccountRefused):
        synced(pipeline, "flows", "forms", "forms_census", force=True)
    assert len(home.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE]))) == 1
    assert pipeline.versions("sync_windows", "census_runs") == before


def test_tags_are_synced_with_the_rest_and_fail_separately(
    shop: SandboxAccount, pipeline: Pipeline, home: DagsterInstance
) -> None:
    shop.tags = {"T": "evergreen"}
    put(shop, "flows", "f0", NOON, tags=["T"])
    results, _ = synced(pipeline, "flows", "tags", "flow_report")
    assert [result.asset for result in results if result.error] == []
    assert (results[1].rows_fetched, results[1].rows_inserted) == (1, 1)
    planner = Planner(pipeline.account, pipeline.one("SELECT max(started_at) FROM census_runs"))
    engine = create_engine(pipeline.database)
    with engine.connect() as connection:
        assert not planner.census_is_due(connection, "tags", SyncRequest(["tags"], FIRST, LAST))
    engine.dispose()
    pipeline.server.faults.add(path_starts("/api/tags"), Fault(status=500), times=5)
    results, reported = synced(pipeline, "flows", "tags", force=True)
    assert [bool(result.error) for result in results] == [False, True]
    assert any(line.startswith("tags: failed: ") for line in reported)


def test_a_time_zone_that_is_not_the_accounts_is_a_warning_and_fails_only_the_report(
    pipeline: Pipeline, home: DagsterInstance
) -> None:
    pipeline.configure(timezone="Europe/Paris")
    results, reported = synced(pipeline, "flows", "flow_report")
    assert [bool(result.error) for result in results] == [False, True]
    assert "Set KLAVIYO_TIMEZONE=UTC" in (results[1].error or "")
    assert reported[0].startswith("warning: KLAVIYO_TIMEZONE is Europe/Paris")


def test_a_changed_conversion_metric_requests_the_reports_again(pipeline: Pipeline, home: DagsterInstance) -> None:
    synced(pipeline, "flow_report")
    pipeline.configure(conversion_metric_id="RChkot")
    [result], _ = synced(pipeline, "flow_report")
    assert result.windows == 5
    ledger = "SELECT DISTINCT entity, conversion_metric_id FROM sync_windows ORDER BY 1"
    assert pipeline.rows(ledger) == [("flow_report", "RChkot"), ("flow_report:RPlacd", "RPlacd")]


@dg.job
def idle() -> None:
    """A job without steps."""


def started(home: DagsterInstance, process: str, status: DagsterRunStatus = DagsterRunStatus.STARTED) -> str:
    """An unfinished run with the tags of this process and machine."""
    tags = {HOST_TAG: socket.gethostname(), PROCESS_TAG: process}
    return home.create_run_for_job(idle, tags=tags, status=status).run_id


def test_a_run_whose_process_died_is_marked_as_failed_and_a_running_one_is_left_unchanged(
    home: DagsterInstance,
) -> None:
    ours = f"{os.getpid()}:{Path(f'/proc/{os.getpid()}/stat').read_text().rpartition(')')[2].split()[19]}"
    living, dead, recycled = (started(home, process) for process in (ours, "4194304:1", f"{os.getpid()}:1"))
    assert sorted(free_dead_runs(home)) == sorted([dead, recycled])
    statuses = {run.run_id: run.status for run in home.get_runs()}
    assert statuses == {
        living: DagsterRunStatus.STARTED,
        dead: DagsterRunStatus.FAILURE,
        recycled: DagsterRunStatus.FAILURE,
    }


def test_a_process_that_ended_and_that_nobody_has_noticed_is_not_alive(home: DagsterInstance) -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        stat = Path(f"/proc/{child.pid}/stat")
        run = started(home, f"{child.pid}:{stat.read_text().rpartition(')')[2].split()[19]}")
        assert free_dead_runs(home) == []
        child.kill()
        # Waits for the end, and leaves the process as it is.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert free_dead_runs(home) == [run]


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "CANCELING"])
def test_a_run_whose_process_died_before_or_after_its_steps_is_marked_as_failed_too(
    status: str, home: DagsterInstance
) -> None:
    dead = started(home, "4194304:1", DagsterRunStatus[status])
    assert free_dead_runs(home) == [dead]
    assert home.get_run_by_id(dead).status is DagsterRunStatus.FAILURE  # type: ignore[union-attr]
