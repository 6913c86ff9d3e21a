"""Marks a sync's runs as failed if their process died on this machine. Tags of a run name its process."""

import getpass
import os
import socket
from pathlib import Path

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

SOURCE_TAG = "klaviyo/launched_by"
"""The tag of a run that `sync` launched. Without it, the UI calls the run launched manually."""

# The UI hides tags with this prefix.
HOST_TAG, PROCESS_TAG, USER_TAG = ".dagster/klaviyo_host", ".dagster/klaviyo_process", ".dagster/klaviyo_user"

FINISHED = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
UNFINISHED = [status for status in DagsterRunStatus if status not in FINISHED]

ZOMBIE_STATES = ("Z", "X")
"""The states in `/proc/<pid>/stat` of a process that has ended."""


def free_dead_runs(instance: DagsterInstance) -> list[str]:
    """Mark each unfinished run of a sync as failed if its process died on this machine, and free its pool slots.

    Returns the ids of these runs.
    """
    dead = []
    # Not only STARTED runs: a process can be killed between the creation of a run and its start.
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
    """The tags of the runs of this process: the command that launched them, the machine, the process and the user."""
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
        return str(os.getuid())  # In a container, the user may have no name.


def _process(pid: int) -> str:
    """The id and start time of a process, as `<id>:<start>`, because the system reuses ids.

    The start time is empty if the process has ended, even if the system still lists it as a zombie, and on systems
    without `/proc`.
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
