"""A run in a process of its own, watched by the process that Celery gave to its task."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence


def supervise(command: Sequence[str]) -> int:
    """Wait for the command's end; its exit code. A SIGTERM, by which Celery cancels a task, is handed on to it."""
    process = subprocess.Popen(command)  # noqa: S603 - our own arguments
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
