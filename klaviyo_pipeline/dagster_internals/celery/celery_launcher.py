"""Runs as tasks of Celery workers on other machines; `deploy/dagster/celery.yaml` switches it on.

A whole run is one task, since a run is one range of windows and the order of runs is Dagster's own queue. What this
adds to `dagster_celery` is that the end of a worker is noticed: Celery says `STARTED` of a task for ever once the
machine that started it is gone.
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
        "dagster.yaml launches runs on Celery, which is missing; install requirements-deploy.lock (docs/deploy.md)."
    ) from missing

A_DAY = 86_400
ANSWER_SECONDS = 2.0
"""How long a worker has to answer. It does so from its main process, however busy its runs are."""

SETTINGS: Mapping[str, Any] = {
    # A worker takes no more runs than it has places for: of those that it holds besides, none can go elsewhere.
    "task_acks_late": True,
    "worker_prefetch_multiplier": 1,
    # Dagster starts a run again whose process died. If Celery did too, the second would be taken for a duplicate.
    "task_reject_on_worker_lost": False,
    # Later than any run may take (`max_runtime_seconds`): Redis would hand on what is still being worked on.
    "broker_transport_options": {"visibility_timeout": A_DAY + 3_600},
    "result_expires": 2 * A_DAY,
    "broker_connection_retry_on_startup": True,
}
"""Settings of the launcher and its workers alike; `config_source` in dagster.yaml may change each."""


def _refuse_what_is_no_url(address: str | None) -> None:
    """Raise `SettingsError` with one line that does not repeat it: Celery's own errors show parts of a password."""
    try:
        # Several brokers that stand in for one another are told apart by semicolons.
        several = [urlsplit(one) for one in (address or "redis://localhost").split(";")]
        is_url = all(parts.scheme and parts.hostname and parts.port != 0 for parts in several)
    except ValueError:
        is_url = False
    if not is_url:
        raise SettingsError(
            "CELERY_BROKER_URL is no URL of a broker: write it as redis://:password@host:6379/0, with the password's "
            "special characters as in any URL (/ is %2F)."
        )


class CeleryLauncher(CeleryRunLauncher):
    """`dagster_celery`'s launcher, which also notices a worker that is gone, and cancels as the UI expects."""

    def __init__(self, silence_seconds: int, config_source: dict[str, Any] | None = None, **options: Any) -> None:
        for place in ("broker", "backend"):
            _refuse_what_is_no_url(options.get(place))
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
                description="A worker that has not answered for so long is dead, and its runs have failed.",
            ),
        }

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> CeleryLauncher:
        return cls(inst_data=inst_data, **config_value)

    @property
    def supports_resume_run(self) -> bool:
        """Not: only an executor that launches its steps elsewhere can resume. The run is started again instead."""
        return False

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        return super().terminate(run_id)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the run's task is still being worked on. Dagster asks for runs that have started."""
        found = self._health_of_the_task(run)
        if found.status is WorkerStatus.FAILED and finalize_if_steps_succeeded(self._instance, run):
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        return found

    def _health_of_the_task(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        task_id = run.tags[DAGSTER_CELERY_TASK_ID_TAG]
        task_meta = self.celery.backend.get_task_meta(task_id)
        state = task_meta["status"]
        # Redis may have lost what it knew of the task, and the worker not.
        if state not in ("STARTED", "PENDING"):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"The Celery task has ended ({state}), but not the run.")
        started = task_meta["result"] if isinstance(task_meta["result"], dict) else {}
        return self._worker_health(task_id, started.get("hostname"))

    def _worker_health(self, task_id: str, worker: str | None) -> CheckRunHealthResult:
        """What the worker says of the task; all of them are asked where it is not known which has it."""
        inspect = self.celery.control.inspect(destination=[worker] if worker else None, timeout=ANSWER_SECONDS)
        answers = inspect.query_task(task_id)
        if not answers:
            return self._silent(task_id, worker)
        self._silent_since.pop(task_id, None)
        if any(task_id in tasks for tasks in answers.values()):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"The worker {worker or '(any)'} no longer has the run.")

    def _silent(self, task_id: str, worker: str | None) -> CheckRunHealthResult:
        """A connection may be cut for a moment: dead is what stays silent."""
        since = self._silent_since.setdefault(task_id, time.monotonic())
        if time.monotonic() - since < self._patience:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._silent_since[task_id]
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"The worker {worker or '(unknown)'} has not answered for {self._patience} s."
        )
