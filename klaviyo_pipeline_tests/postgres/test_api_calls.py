"""The requests of each run are recorded in a table, whether the run failed or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.klaviyo.sender import Sender
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.request_log import RequestLogEntry
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import RANGE, SLUG, Pipeline, dagster_home, empty_shop, pipeline_on, put, utc

DAY = "2025-03-10"
COLUMNS = "endpoint, requests, throttled, retries, rows"


@pytest.fixture
def shop() -> SandboxAccount:
    shop = empty_shop()
    for id in ("f1", "f2"):
        put(shop, "flows", id, utc("2025-03-10T12:00:00"))
    return shop


def test_a_run_leaves_a_row_for_each_endpoint_that_it_requested(
    shop: SandboxAccount, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.05)
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        flows = path_starts("/api/flows")
        pipeline.server.faults.add(flows, Fault(status=429, headers={"retry-after": "1"}))
        pipeline.server.faults.add(flows, Fault(status=503), skip=1)
        run = pipeline.run("flows", DAY)
        accounts, requested = calls_of(pipeline, run.run_id)
        assert accounts == ("get_accounts", 1, 0, 0, 1)
        assert requested == ("get_flows", 4, 1, 2, 2)
        [event] = run.get_asset_materialization_events()
        metadata = {name: value.value for name, value in event.materialization.metadata.items()}
        assert [metadata[f"api_{name}"] for name in ("requests", "throttled", "retries")] == [5, 1, 2]
        waited, read = pipeline.rows("SELECT waited_seconds, read_seconds FROM api_calls WHERE endpoint = 'get_flows'")[
            0
        ]
        assert waited > 0.9
        assert read > 0
        assert pipeline.one("SELECT bool_and(first_at <= last_at AND last_at <= now()) FROM api_calls")


def test_a_failed_run_leaves_its_rows_and_two_sessions_of_a_run_are_summed(
    shop: SandboxAccount, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        # Both listings, archived or not: either may end first.
        pipeline.server.faults.add(path_starts("/api/flows"), Fault(status=400), times=2)
        with pipeline.requested() as requests:
            result = pipeline.attempt("flows", DAY)
        assert not result.success
        assert calls_of(pipeline, result.run_id)[-1] == ("get_flows", requested_for(requests, "get_flows"), 0, 0, 0)
        pipeline.server.faults.clear()
        with pipeline.requested() as requests:
            job = pipeline.definitions.resolve_job_def(f"{SLUG}_reports")
            run = job.execute_in_process(instance=pipeline.instance, tags=dict.fromkeys(RANGE, DAY))
        recorded = {row[0]: row[1] for row in calls_of(pipeline, run.run_id)}
        # The reports of flows and of campaigns and the conversions request the metric, each in its own session.
        assert recorded["get_mapped_metric"] == requested_for(requests, "get_mapped_metric") == 3


def test_a_run_does_not_fail_if_its_counts_cannot_be_written(
    shop: SandboxAccount, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        pipeline.execute("DROP TABLE api_calls")
        pipeline.run("flows", DAY)
        assert pipeline.ids("flows") == ["f1", "f2"]


def test_a_sync_that_mostly_waits_reports_for_what(
    shop: SandboxAccount,
    recordable: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # What is reported are the seconds that the pacing gave to each request.
    monkeypatch.setattr(Sender, "_wait", lambda self, seconds: None)
    with pipeline_on(recordable, shop, monkeypatch) as pipeline:
        variables = {"KLAVIYO_ACCOUNT": SLUG, "KLAVIYO_API_URL": pipeline.server.url, "KLAVIYO_RATE_SCALE": "0"}
        variables |= {"KLAVIYO_DAGSTER_DATABASE_URL": recordable, "DAGSTER_HOME": str(dagster_home(tmp_path))}
        for name, value in {**variables, "KLAVIYO_START_DATE": DAY}.items():
            monkeypatch.setenv(name, value)
        lines = []
        for wait in (None, Fault(status=429, headers={"retry-after": "12"})):
            if wait is not None:
                pipeline.server.faults.add(path_starts("/api/flows"), wait)
            with pytest.raises(SystemExit) as ended:
                main(["sync", "flows", "--from", DAY, "--to", DAY, "--force"])
            assert ended.value.code == 0
            lines.append([line for line in capfd.readouterr().out.splitlines() if "rate limits determined" in line])
        assert lines[0] == []
        [line] = lines[1]
        assert "for get_flows (" in line
        assert ", 1 of them throttled)" in line


def requested_for(requests: list[RequestLogEntry], endpoint: str) -> int:
    return sum(one.endpoint == endpoint for one in requests)


def calls_of(pipeline: Pipeline, run_id: str) -> list[tuple[object, ...]]:
    return pipeline.rows(f"SELECT {COLUMNS} FROM api_calls WHERE run_id = %s ORDER BY endpoint", run_id)
