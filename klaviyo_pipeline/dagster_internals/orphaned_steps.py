"""Ends the processes of a run's steps when the process of the run is killed. The run's fork server imports this module.

Dagster itself does not end them. Such a step would still send requests while a retry of the run sends the same ones.
Even after its last request, its process would not end: it waits until the process of the run reads its events.
"""

from __future__ import annotations

import os
import threading
import time
from multiprocessing import parent_process
from multiprocessing.connection import wait

POLL_SECONDS = 0.02


def _watch() -> None:
    # multiprocessing sets the parent of a new process a moment after the fork.
    while (parent := parent_process()) is None:
        time.sleep(POLL_SECONDS)
    wait([parent.sentinel])
    os._exit(1)


def _start() -> None:
    threading.Thread(target=_watch, name="orphaned-step", daemon=True).start()


os.register_at_fork(after_in_child=_start)
