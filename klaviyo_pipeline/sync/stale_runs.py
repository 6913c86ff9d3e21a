"""Dagster's instance, made ready for a sync: what died in earlier ones on this machine is cleared away."""

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from klaviyo_pipeline.config.settings import Account

HOST_TAG, PROCESS_TAG = "klaviyo_pipeline/host", "klaviyo_pipeline/process"

FINISHED = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
UNFINISHED = [status for status in DagsterRunStatus if status not in FINISHED]


def prepare_instance(accounts: Sequence[Account]) -> None:
    """Free what died in earlier syncs on this machine, and make the accounts' pools."""
    with DagsterInstance.get() as instance:
        free_dead_runs(instance)
        for account in accounts:
            make_pool(instance, f"{account.slug}_api")


def free_dead_runs(instance: DagsterInstance) -> list[str]:
    """Mark runs of syncs that died on this machine as failed and free their pool slots; return their ids."""
    dead = []
    # One that was killed right after its birth has not even started.
    open_runs = instance.get_run_records(RunsFilter(tags={HOST_TAG: socket.gethostname()}, statuses=UNFINISHED))
    for record in open_runs:
        run = record.dagster_run
        if _alive(run.tags.get(PROCESS_TAG, "")):
            continue
        instance.report_run_failed(run, "The process that ran this sync died.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        dead.append(run.run_id)
    return dead


def make_pool(instance: DagsterInstance, pool: str) -> None:
    """Make the pool's slots before the first workers ask for one.

    Dagster makes them on demand, and fails the run of all but the quickest when several processes ask at once.
    """
    storage = instance.event_log_storage
    if all(limit.name != pool for limit in storage.get_pool_limits()):
        # Where another sync is quicker, the pool is there all the same.
        with contextlib.suppress(sa.exc.DBAPIError):
            storage.initialize_concurrency_limit_to_default(pool)


def tags_of_this_process() -> dict[str, str]:
    """What a run of this process carries, so that a later sync can tell whether it is still alive."""
    return {HOST_TAG: socket.gethostname(), PROCESS_TAG: _process(os.getpid())}


def _process(pid: int) -> str:
    """A process by its id and start, so that a recycled id is not taken for it."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = ""
    return f"{pid}:{started}"


def _alive(process: str) -> bool:
    pid = process.partition(":")[0]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process == _process(int(pid))
