"""A `klaviyo-pipeline` that kills itself, with all its processes, at a chosen event.

Events are the statements and commits on the warehouse, in all processes. Each event adds a byte to the file
`TORTURE_EVENTS`. The process that extends the file to `TORTURE_KILL_AT` bytes kills the process group. Workers import
the main module, which is this one, so they count events and use small batches too.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import psycopg

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline_tests.torture.small_steps import SMALL_STEPS

EVENTS, KILL_AT = "TORTURE_EVENTS", "TORTURE_KILL_AT"


def _event() -> None:
    log = os.open(os.environ[EVENTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, b".")
    size = os.fstat(log).st_size
    os.close(log)
    if size >= int(os.environ.get(KILL_AT, 2**62)):
        os.killpg(0, signal.SIGKILL)


def _count_events() -> None:
    execute, commit = psycopg.Cursor.execute, psycopg.Connection.commit

    def counted_execute(self: Any, *args: Any, **options: Any) -> Any:
        _event()
        return execute(self, *args, **options)

    def counted_commit(self: Any) -> None:
        _event()
        commit(self)
        _event()

    psycopg.Cursor.execute = counted_execute  # type: ignore[method-assign, assignment]
    psycopg.Connection.commit = counted_commit  # type: ignore[method-assign]


if EVENTS in os.environ:
    for step in SMALL_STEPS:
        setattr(*step)
    _count_events()

if __name__ == "__main__":
    main()
