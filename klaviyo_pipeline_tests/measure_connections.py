"""Measures the Postgres sessions of each process: `python -m klaviyo_pipeline_tests.measure_connections`.

The source is the server's log of connections and disconnections, so no session is missed. The warehouse and Dagster's
storage are two databases. Each row has the maximum number of concurrent sessions during one command.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres, ensure_database
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.dev_server import ask, dev_server, ended, launch_of
from klaviyo_pipeline_tests.support import environment

COMMAND = str(Path(sys.executable).with_name("klaviyo-pipeline"))
LOGGED = {"log_connections": "on", "log_disconnections": "on", "log_line_prefix": "[%p %d] "}
DAYS = ("--from", "2025-03-01", "--to", "2025-03-14")
ONE_SESSION = re.compile(r"^\[(\d+) (warehouse|dagsters)\] LOG:  (connection authorized|disconnection)", re.MULTILINE)


def most_at_once(log: str) -> dict[str, int]:
    """The maximum number of concurrent sessions, by database, from a server's log."""
    open_now: dict[str, set[str]] = {"warehouse": set(), "dagsters": set()}
    most = dict.fromkeys(open_now, 0)
    for process, database, event in ONE_SESSION.findall(log):
        if event == "disconnection":
            open_now[database].discard(process)
        else:
            open_now[database].add(process)
            most[database] = max(most[database], len(open_now[database]))
    return most


@contextmanager
def _counted(what: str, log: Path) -> Iterator[None]:
    before = log.stat().st_size
    yield
    with log.open(encoding="utf-8", errors="replace") as reported:
        reported.seek(before)
        most = most_at_once(reported.read())
    print(f"{what:50} warehouse {most['warehouse']:3}   Dagster's storage {most['dagsters']:3}", flush=True)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="klaviyo-connections-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "postgres", settings=LOGGED)
    shop = generate_account(3, flows=12, campaigns=20, forms=5, segments=8, start=date(2025, 2, 1))
    try:
        url = server.start()
        warehouse, dagsters = ensure_database(url, "warehouse"), ensure_database(url, "dagsters")
        with SandboxServer(shop, rate_scale=0) as served:
            variables = environment(shop, served.url, warehouse, folder) | {"KLAVIYO_DAGSTER_DATABASE_URL": dagsters}
            _commands(variables, server.log_path)
            _services(variables, server.log_path, folder / "dev.log")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _commands(variables: dict[str, str], log: Path) -> None:
    for what, arguments in {
        "sync of everything, first": ("sync", *DAYS),
        "sync of one asset": ("sync", "flows", *DAYS, "--force"),
        "status": ("status",),
        "check": ("check",),
    }.items():
        with _counted(what, log):
            subprocess.run(
                [COMMAND, *arguments], env={**os.environ, **variables}, check=False, stdout=subprocess.DEVNULL
            )


def _services(variables: dict[str, str], log: Path, output: Path) -> None:
    with (
        _counted("web server, daemon, code server, and a run", log),
        dev_server(variables, output) as client,
        _counted("of these, during the run", log),
    ):
        launched = ask(client, launch_of("2025-03-01", "2025-03-14"))["launchRun"]["run"]["runId"]
        assert ended(client, launched)["status"] == "SUCCESS"


if __name__ == "__main__":
    main()
