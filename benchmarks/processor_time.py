"""Runs a command, and measures its wall time and the processor time of all its processes.

`python -m benchmarks.processor_time COMMAND…` prints both on the last line of standard output. It adopts the processes
that outlive their parent, such as a fork server, because the system adds a process's time only to the parent that waits
for it. Only Linux can adopt processes: elsewhere, their time is missing.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from klaviyo_pipeline.config.settings import PROJECT_ROOT

PR_SET_CHILD_SUBREAPER = 36


class Cost(NamedTuple):
    """Seconds on the clock, and seconds of processor time, in user and system mode."""

    wall: float
    cpu: float


def cost_of(command: Sequence[str], environment: Mapping[str, str], postmaster: int | None = None) -> Cost:
    """The cost of a command of this environment's `bin`, including that of the Postgres server `postmaster`."""
    program, *arguments = command
    before = _server_seconds(postmaster)
    measured = subprocess.run(
        [sys.executable, "-m", __name__, str(Path(sys.executable).parent / program), *arguments],
        env=environment,
        cwd=PROJECT_ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    wall, cpu = json.loads(measured.stdout.splitlines()[-1])
    return Cost(wall, cpu + _server_seconds(postmaster) - before)


def _server_seconds(postmaster: int | None) -> float:
    """Processor time of a Postgres server since it started: of its running processes, and of those that ended."""
    if postmaster is None or not Path("/proc/self/stat").exists():
        return 0.0
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # User and system time. Those of the postmaster also include ended processes that it has waited for.
        if process.name == str(postmaster):
            ticks += sum(map(int, fields[11:15]))
        elif fields[1] == str(postmaster):
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the command, wait for all its processes, and print the cost."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:])
    code = process.wait()
    wall = time.perf_counter() - began
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = os.times()
    print(json.dumps([wall, used.children_user + used.children_system]), flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
