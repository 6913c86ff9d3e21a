"""Ends the processes of a run's steps when the process of the run is killed. The run's fork server imports this module.

Dagster does not. The step would go on with its requests while the run that continues it sends the same ones, and its
process would never end: it waits for somebody to read its events.
"""

from __future__ import annotations

import os
import threading
import time
from multiprocessing import parent_process
from multiprocessing.connection import wait

POLL_SECONDS = 0.02


def _watch() -> None:
    # The name of the parent is set a moment after the fork.
    while (parent := parent_process()) is None:
        time.sleep(POLL_SECONDS)
    wait([parent.sentinel])
    os._exit(1)


def _start() -> None:
    threading.Thread(target=_watch, name="orphaned-step", daemon=True).start()


os.register_at_fork(after_in_child=_start)
