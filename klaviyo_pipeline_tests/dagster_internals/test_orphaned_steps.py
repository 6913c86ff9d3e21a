"""A killed run takes the processes of its steps with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from klaviyo_pipeline.dagster_internals.run_executor import PRELOADED

RUN = """
import multiprocessing, sys, time
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(sys.argv[1:])
step = context.Process(target=time.sleep, args=(60,))
step.start()
print(step.pid, flush=True)
step.join()
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_killed_run_ends_the_processes_of_its_steps() -> None:
    [watch] = [module for module in PRELOADED if module.endswith("orphaned_steps")]
    with subprocess.Popen([sys.executable, "-c", RUN, watch], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        step = int(run.stdout.readline())
        assert is_running(step)
        run.kill()
    deadline = time.monotonic() + 20
    try:
        while is_running(step):
            assert time.monotonic() < deadline, "the process of the step goes on without its run"
            time.sleep(0.02)
    finally:
        if is_running(step):
            os.kill(step, signal.SIGKILL)
