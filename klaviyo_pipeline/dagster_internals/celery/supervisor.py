"""Executes a run in its own process, watched by the worker process of its Celery task."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence


def supervise(command: Sequence[str]) -> int:
    """Run the command and return its exit code. Forwards SIGTERM, with which Celery cancels a task, to the command."""
    process = subprocess.Popen(command)  # noqa: S603 - our own arguments
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
