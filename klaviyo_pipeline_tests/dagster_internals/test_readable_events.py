"""Dagster's log of a run that failed or was cancelled: it begins with what a person needs to know."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

import dagster as dg
import pytest

from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline_tests.support import SLUG, Pipeline

pytestmark = pytest.mark.slow

FIRST, LAST = "2025-03-08", "2025-03-12"
RANGE = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}


def event(pipeline: Pipeline, run_id: str, kind: dg.DagsterEventType) -> dg.DagsterEvent:
    """The run's event of this type, as the UI reads it."""
    [entry] = pipeline.instance.all_logs(run_id, of_type=kind)
    return entry.get_dagster_event()


def test_a_failed_step_and_its_run_begin_with_the_sentence_of_the_ledger(installed: Pipeline) -> None:
    installed.shop.api_keys = {}
    result = installed.attempt("flows", FIRST, LAST)
    [reason] = set(installed.rows("SELECT error FROM sync_windows"))
    assert reason.startswith("Klaviyo does not accept the API key")
    assert "Check KLAVIYO_API_KEY. (get_accounts, HTTP 401" in reason
    assert reason.endswith("Running again fails in the same way until the cause is fixed.")
    step = event(installed, result.run_id, dg.DagsterEventType.STEP_FAILURE)
    assert step.message == reason
    error = step.step_failure_data.error
    assert error is not None
    assert "handling output" not in error.to_string()
    assert error.to_string().splitlines()[0] == reason
    assert error.to_string().count("Klaviyo does not accept the API key") == 1
    assert error.stack, "the traceback stays"
    run = event(installed, result.run_id, dg.DagsterEventType.RUN_FAILURE)
    assert str(run.message).startswith(reason)
    assert run.job_failure_data.error is None, "it is in the event of the step"


def test_an_error_that_may_pass_does_not_say_that_running_again_is_useless(installed: Pipeline) -> None:
    installed.server.faults.add(path_starts("/api/flows"), Fault(status=500), times=20)
    assert "does not help" not in installed.fail("flows", FIRST)


def test_an_asset_that_waited_for_a_failed_one_is_no_error_of_its_own(installed: Pipeline) -> None:
    installed.server.faults.add(path_starts("/api/flow-series-reports"), Fault(status=400), times=5)
    keys = {dg.AssetKey([SLUG, asset]) for asset in ("flow_report", "flow_metrics")}
    job = installed.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection=keys)
    result = job.execute_in_process(instance=installed.instance, tags=RANGE, raise_on_error=False)
    logs = installed.instance.all_logs(result.run_id)
    errors = [entry.user_message for entry in logs if entry.level == logging.ERROR and entry.dagster_event is None]
    assert errors == []
    assert [entry.step_key for entry in logs if entry.user_message.startswith("Not run, because")]


def test_a_cancelled_run_has_one_line_and_leaves_windows_and_slots_as_they_were(installed: Pipeline) -> None:
    installed.run("flows", FIRST, "2025-03-09")
    before = installed.rows("SELECT * FROM sync_windows ORDER BY window_start")
    run_ids: list[str] = []

    def cancel(request: Any) -> bool:
        if request.url.path != "/api/flows" or run_ids:
            return False
        [run] = installed.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        run_ids.append(run.run_id)
        installed.instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGINT)
        return False

    installed.server.faults.add(cancel, Fault())
    installed.attempt("flows", FIRST, LAST)
    [run_id] = run_ids
    run = installed.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.CANCELED
    step = event(installed, run_id, dg.DagsterEventType.STEP_FAILURE)
    assert str(step.message).startswith("The run was cancelled.")
    assert step.step_failure_data.error is not None
    assert step.step_failure_data.error.stack == []
    assert event(installed, run_id, dg.DagsterEventType.RUN_CANCELED).job_canceled_data.error is None
    assert installed.rows("SELECT * FROM sync_windows ORDER BY window_start") == before
    assert installed.instance.get_materialized_partitions(dg.AssetKey([SLUG, "flows"])) == {FIRST, "2025-03-09"}
    assert installed.instance.event_log_storage.get_concurrency_info(f"{SLUG}_api").claimed_slots == []


def test_a_run_whose_process_died_says_so_and_what_happens_next(installed: Pipeline) -> None:
    run = installed.instance.create_run_for_job(installed.definitions.resolve_implicit_global_asset_job_def())
    installed.instance.report_run_failed(run)
    message = str(event(installed, run.run_id, dg.DagsterEventType.RUN_FAILURE).message)
    assert message.startswith("The process of the run ended before the run was complete.")
    assert "requests the missing windows" in message
