"""Compares a full sync of the entities with dlt's rest_api source and merge, for the same account and server.

The two alternate. Each run is a separate process with an empty database. The time to start is excluded for both: the
clock starts with the first request to the account, and stops when the process ends.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
from psycopg import sql

from benchmarks.account_server import (
    FIRST_DAY,
    KEY,
    LARGE,
    LAST_DAY,
    MEANWHILE,
    MEDIUM,
    SMALL,
    Meanwhile,
    Size,
    served,
)
from benchmarks.results import Measurement
from klaviyo_pipeline.config.settings import PROJECT_ROOT

DLT_PYTHON = Path(os.environ.get("BENCH_DLT_PYTHON", PROJECT_ROOT / ".venv-bench" / "bin" / "python"))
OVER_THE_INTERNET = 0.15
SYNC = ("sync", "flows", "campaigns", "forms", "segments")


@dataclass
class Seconds:
    """Seconds of each repetition, without the start."""

    pipeline: list[float] = field(default_factory=list)
    dlt: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    answers_made: list[int] = field(default_factory=list)
    """Number of responses to the pipeline that were not in the account's cache."""

    @property
    def times_faster(self) -> float:
        return statistics.median(self.dlt) / statistics.median(self.pipeline)


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """How many times faster the pipeline is than dlt, with the latency of the internet and without latency."""
    cases = [("150 ms an answer, medium account", MEDIUM, OVER_THE_INTERNET, 3.5)]
    cases += [("answers at once, large account", LARGE, 0.0, 2.0)]
    if quick:
        cases = [("answers at once, tiny account", SMALL, 0.0, 2.0)]
    for name, size, delay, mark in cases:
        seconds = _measure(url, size, delay, repetitions=1 if quick else 3)
        yield Measurement("fetch", f"{name}: faster than dlt", seconds.times_faster, "ratio", mark)
        share = statistics.median(seconds.start) / statistics.median(seconds.pipeline)
        yield Measurement("fetch", f"{name}: start-up, relative to the sync", share)
        made = statistics.median(seconds.answers_made)
        yield Measurement("fetch", f"{name}: responses that the account had not cached", made, "request")


def _measure(server: str, size: Size, delay: float, repetitions: int) -> Seconds:
    seconds = Seconds()
    with served(size, delay) as serving:
        account = serving.url
        _warm_up(server, account)
        for _ in range(repetitions):
            whole, meanwhile = _by_pipeline(account, empty_database(server))
            seconds.pipeline.append(meanwhile.seconds)
            seconds.start.append(whole - meanwhile.seconds)
            seconds.answers_made.append(meanwhile.answers_made)
            seconds.dlt.append(_by_dlt(account, empty_database(server)).seconds)
    return seconds


def _warm_up(server: str, account: str) -> None:
    """Fill the account's cache of responses. Every sync sends the same requests."""
    _by_pipeline(account, empty_database(server))
    _by_dlt(account, empty_database(server))


def empty_database(server: str) -> str:
    """URL of a new database on the server."""
    name = f"fetch_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def _by_pipeline(account: str, database: str) -> tuple[float, Meanwhile]:
    """Seconds of a first sync, and the account's own measurement of it."""
    with tempfile.TemporaryDirectory() as home:
        command = [str(Path(sys.executable).parent / "klaviyo-pipeline"), *SYNC]
        command += ["--from", FIRST_DAY.isoformat(), "--to", LAST_DAY.isoformat()]
        began = time.perf_counter()
        subprocess.run(command, env=environment_of(account, database, Path(home)), check=True, capture_output=True)
        return time.perf_counter() - began, _meanwhile(account)


def _meanwhile(account: str) -> Meanwhile:
    return Meanwhile(*httpx.get(account + MEANWHILE).json())


def environment_of(account: str, database: str, home: Path) -> Mapping[str, str]:
    """The environment of a sync of the account into the database, with Dagster's files in `home`."""
    (home / "dagster.yaml").write_text((PROJECT_ROOT / "dagster.yaml").read_text())
    # Without bytecode, the project would be compiled at each start, but the installed packages would not.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        "DAGSTER_HOME": str(home),
        "KLAVIYO_IGNORE_DOTENV": "1",
        "KLAVIYO_API_KEY": KEY,
        "KLAVIYO_API_URL": account,
        "KLAVIYO_DATABASE_URL": database,
        "KLAVIYO_DAGSTER_DATABASE_URL": database,
        "KLAVIYO_RATE_SCALE": "0",
        "KLAVIYO_START_DATE": FIRST_DAY.isoformat(),
        "KLAVIYO_TIMEZONE": "UTC",
    }


def _by_dlt(account: str, database: str) -> Meanwhile:
    run_with_dlt("dlt_sync.py", BENCH_ACCOUNT_URL=account, BENCH_ACCOUNT_KEY=KEY, BENCH_DATABASE_URL=database)
    return _meanwhile(account)


def run_with_dlt(script: str, *arguments: str, **variables: str) -> str:
    """The output of a script in this folder, run by the interpreter with dlt."""
    if not DLT_PYTHON.exists():
        raise SystemExit(f"{DLT_PYTHON} does not exist; `make bench` creates it and installs dlt[postgres].")
    command = [str(DLT_PYTHON), str(Path(__file__).with_name(script)), *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True, text=True).stdout
