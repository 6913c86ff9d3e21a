"""The Celery app of workers: `celery -A klaviyo_pipeline.dagster_internals.celery.celery_app worker`.

The app uses the broker and the settings of the run launcher in dagster.yaml, so that workers and launcher agree.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from dagster import DagsterInstance, serialize_value
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value
from dagster_celery.config import TASK_EXECUTE_JOB_NAME

from klaviyo_pipeline.config.settings import SettingsError
from klaviyo_pipeline.dagster_internals.celery.celery_launcher import CeleryLauncher
from klaviyo_pipeline.dagster_internals.celery.orphaned_runs import finalize_if_steps_succeeded
from klaviyo_pipeline.dagster_internals.celery.supervisor import supervise


def _app() -> Celery:
    with DagsterInstance.get() as instance:
        launcher = instance.run_launcher
    if not isinstance(launcher, CeleryLauncher):
        raise SettingsError(
            "dagster.yaml in DAGSTER_HOME does not launch runs on Celery. Replace it with deploy/dagster/celery.yaml."
        )
    return launcher.celery


app = _app()


@app.task(name=TASK_EXECUTE_JOB_NAME, track_started=True)  # type: ignore[untyped-decorator]
def execute_job(execute_job_args_packed: dict[str, Any]) -> None:
    """Execute a run in its own process, as Dagster's default launcher does.

    A run of several assets starts processes itself. Celery's worker processes may not do that, because they are
    daemonic.
    """
    packed = unpack_value(execute_job_args_packed, as_type=ExecuteRunArgs)
    # The run uses this machine's instance and Python, not the daemon's. A failed run does not fail the task.
    here = ExecuteRunArgs(packed.job_origin, packed.run_id, instance_ref=None, set_exit_code_on_failure=False)
    code = supervise([sys.executable, "-m", "dagster", "api", "execute_run", serialize_value(here)])
    if code:
        _report_process_death(packed.run_id, code)


def _report_process_death(run_id: str, code: int) -> None:
    """Mark a run whose process was killed, for example for lack of memory, as failed, so that Dagster can retry it.

    If all its steps have succeeded, the run is marked as succeeded instead.
    """
    with DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
        if run is not None and not (finalize_if_steps_succeeded(instance, run) or run.is_finished):
            instance.report_run_failed(run, f"The run's process ended with exit code {code}.")
