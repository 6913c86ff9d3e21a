"""Launches runs as tasks of Celery workers on other machines. `deploy/dagster/celery.yaml` switches it on.

A whole run is one task: a run covers one range of windows, and Dagster's own queue orders the runs. Unlike the launcher
of `dagster_celery`, this one detects that a worker has died. In Celery, a task stays `STARTED` forever if the machine
that started it is gone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import dagster as dg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._serdes import ConfigurableClassData

from klaviyo_pipeline.config.settings import SettingsError
from klaviyo_pipeline.dagster_internals.celery.orphaned_runs import finalize_if_steps_succeeded

try:
    from dagster_celery.launcher import CeleryRunLauncher
    from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
except ModuleNotFoundError as missing:
    raise SettingsError(
        "dagster.yaml launches runs on Celery, which is not installed. Install requirements-deploy.lock or the extra "
        "celery: pip install 'klaviyo-pipeline[celery]' (see docs/deploy.md)."
    ) from missing

A_DAY = 86_400
ANSWER_SECONDS = 2.0
"""How long to wait for a worker's reply. The main process of a worker replies even while runs are executed."""

SETTINGS: Mapping[str, Any] = {
    # A worker takes only as many runs as it can execute now, so that other workers can take the rest.
    "task_acks_late": True,
    "worker_prefetch_multiplier": 1,
    # Dagster retries a run whose process died. If Celery did so too, the run would be executed twice.
    "task_reject_on_worker_lost": False,
    # Longer than any run may take (`max_runtime_seconds`). Otherwise Redis delivers a running task to another worker.
    "broker_transport_options": {"visibility_timeout": A_DAY + 3_600},
    "result_expires": 2 * A_DAY,
    "broker_connection_retry_on_startup": True,
}
"""Settings of both the launcher and its workers. `config_source` in dagster.yaml can override each."""


def _check_broker_url(address: str | None) -> None:
    """Raise `SettingsError` for an invalid URL, without repeating it. Celery's own errors show parts of a password."""
    try:
        # A failover list of brokers is separated by semicolons.
        brokers = [urlsplit(url) for url in (address or "redis://localhost").split(";")]
        is_url = all(parts.scheme and parts.hostname and parts.port != 0 for parts in brokers)
    except ValueError:
        is_url = False
    if not is_url:
        raise SettingsError(
            "CELERY_BROKER_URL is not a valid broker URL. Write it as redis://:password@host:6379/0, with %-escapes in "
            "the password (/ is %2F)."
        )


class CeleryLauncher(CeleryRunLauncher):
    """Like the launcher of `dagster_celery`, but it also detects dead workers, and cancels runs as the UI expects."""

    def __init__(self, silence_seconds: int, config_source: dict[str, Any] | None = None, **options: Any) -> None:
        for place in ("broker", "backend"):
            _check_broker_url(options.get(place))
        super().__init__(config_source={**SETTINGS, **(config_source or {})}, **options)
        self._patience = silence_seconds
        self._silent_since: dict[str, float] = {}

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {
            **cast(dict[str, Any], super().config_type()),
            "silence_seconds": dg.Field(
                int,
                default_value=60,
                description="A worker that has not replied for this many seconds counts as dead, and its runs fail.",
            ),
        }

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> CeleryLauncher:
        return cls(inst_data=inst_data, **config_value)

    @property
    def supports_resume_run(self) -> bool:
        """False: only executors that launch steps elsewhere can resume a run. The run is retried instead."""
        return False

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        return super().terminate(run_id)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether a worker still executes the run's task. Dagster calls this for started runs."""
        health = self._task_health(run)
        if health.status is WorkerStatus.FAILED and finalize_if_steps_succeeded(self._instance, run):
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        return health

    def _task_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        task_id = run.tags[DAGSTER_CELERY_TASK_ID_TAG]
        task_meta = self.celery.backend.get_task_meta(task_id)
        state = task_meta["status"]
        # PENDING is what Celery returns for an unknown task: Redis may have lost a task that a worker still executes.
        if state not in ("STARTED", "PENDING"):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"The Celery task ended ({state}), but the run did not.")
        started = task_meta["result"] if isinstance(task_meta["result"], dict) else {}
        return self._worker_health(task_id, started.get("hostname"))

    def _worker_health(self, task_id: str, worker: str | None) -> CheckRunHealthResult:
        """Ask the worker whether it has the task. If the worker is not known, ask all workers."""
        inspect = self.celery.control.inspect(destination=[worker] if worker else None, timeout=ANSWER_SECONDS)
        answers = inspect.query_task(task_id)
        if not answers:
            return self._silent(task_id, worker)
        self._silent_since.pop(task_id, None)
        if any(task_id in tasks for tasks in answers.values()):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        found = f"The worker {worker} no longer has the run." if worker else "No worker has the run."
        return CheckRunHealthResult(WorkerStatus.FAILED, found)

    def _silent(self, task_id: str, worker: str | None) -> CheckRunHealthResult:
        """A worker counts as dead only after some time without a reply: its connection may be interrupted briefly."""
        since = self._silent_since.setdefault(task_id, time.monotonic())
        if time.monotonic() - since < self._patience:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._silent_since[task_id]
        silent = f"The worker {worker} has" if worker else "The workers have"
        return CheckRunHealthResult(WorkerStatus.FAILED, f"{silent} not replied for {self._patience} s.")
