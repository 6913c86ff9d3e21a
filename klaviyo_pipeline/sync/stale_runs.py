"""Prepares Dagster's instance for a sync: ends runs whose process died on this machine, and creates pools."""

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
    """End the runs of earlier syncs that died on this machine, and create the accounts' pools."""
    with DagsterInstance.get() as instance:
        free_dead_runs(instance)
        for account in accounts:
            make_pool(instance, f"{account.slug}_api")


def free_dead_runs(instance: DagsterInstance) -> list[str]:
    """Mark runs of syncs that died on this machine as failed, and free their pool slots. Return their ids."""
    dead = []
    # All unfinished statuses: a run that was killed right after its creation is not STARTED yet.
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
    """Create the pool's slots before workers request them.

    Dagster creates them on demand. If several processes do so at once, the runs of all but the first fail.
    """
    storage = instance.event_log_storage
    if all(limit.name != pool for limit in storage.get_pool_limits()):
        # Another sync may create the pool at the same time.
        with contextlib.suppress(sa.exc.DBAPIError):
            storage.initialize_concurrency_limit_to_default(pool)


def tags_of_this_process() -> dict[str, str]:
    """The tags of this process's runs, from which a later sync determines whether the process is alive."""
    return {HOST_TAG: socket.gethostname(), PROCESS_TAG: _process(os.getpid())}


def _process(pid: int) -> str:
    """A process by its id and start time, because ids are reused."""
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
