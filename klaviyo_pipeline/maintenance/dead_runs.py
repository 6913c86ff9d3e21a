"""Runs of syncs: tags that name their process. Runs whose process died on this machine are marked as failed."""

import getpass
import os
import socket
from pathlib import Path

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

SOURCE_TAG = "klaviyo/launched_by"
"""Tag of a run of `sync`: the UI itself calls it launched manually."""

# The UI hides tags with this prefix.
HOST_TAG, PROCESS_TAG, USER_TAG = ".dagster/klaviyo_host", ".dagster/klaviyo_process", ".dagster/klaviyo_user"

FINISHED = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
UNFINISHED = [status for status in DagsterRunStatus if status not in FINISHED]

ZOMBIE_STATES = ("Z", "X")


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


def tags_of_this_process() -> dict[str, str]:
    """The tags of this process's runs: what launched them, the user, and the process, which a later sync looks for."""
    return {
        SOURCE_TAG: "klaviyo-pipeline sync",
        HOST_TAG: socket.gethostname(),
        PROCESS_TAG: _process(os.getpid()),
        USER_TAG: _user(),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # a container may run as a user without a name


def _process(pid: int) -> str:
    """A process by its id and start time, because ids are reused. A process that has ended has no start time.

    The system lists an ended process as a zombie until its parent notices the end.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{pid}:"
    return f"{pid}:" if state in ZOMBIE_STATES else f"{pid}:{fields[18]}"


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
