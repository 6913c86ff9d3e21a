"""Compares the throughput of several Celery workers with that of one, and with the bound of the rate limits.

Each account's run reads one listing. At Klaviyo's rate limits its pages take a known time, independent of the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from benchmarks.results import Measurement
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.brands import described
from klaviyo_pipeline_tests.support import empty_shop, key_of, put, utc

DAY = "2025-03-10"
PAGE, A_SECOND = 50, 3
"""Flows per page, and pages per second at the published rate limit."""


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """Throughput of one, two and four workers with one slot each, and its share of the rate limits' bound."""
    if shutil.which("redis-server") is None:
        raise SystemExit("celery_workers needs redis-server: apt-get install redis-server")
    accounts, pages = (2, 4) if quick else (8, 30)
    least = pages / A_SECOND
    first = None
    for workers in (1,) if quick else (1, 2, 4):
        seconds = _measured(url, workers, accounts, pages)
        first = first or seconds
        reported = f"{workers} worker{'s' if workers > 1 else ''}, {accounts} accounts"
        yield Measurement("Celery workers", f"{reported}: accounts an hour", 3600 * accounts / seconds, "accounts")
        yield Measurement(
            "Celery workers",
            f"{reported}: relative to 360 accounts an hour for each worker",
            least * accounts / workers / seconds,
            "share",
        )
        if workers > 1:
            yield Measurement(
                "Celery workers", f"{reported}: relative to one worker's accounts an hour", first / seconds
            )


def _measured(server: str, workers: int, accounts: int, pages: int) -> float:
    """Seconds from the start of the first run to the end of the last."""
    from klaviyo_pipeline_tests.dagster_internals.celery.cluster import cluster

    shops = {f"shop_{number}": _shop(number, pages) for number in range(accounts)}
    keys = {f"KEY_OF_{slug.upper()}": key_of(shop) for slug, shop in shops.items()}
    with tempfile.TemporaryDirectory() as name, SandboxServer(list(shops.values())) as sandbox:
        folder = Path(name)
        variables = keys | described(shops, sandbox.url, 1, _empty_database(server), folder)
        program = str(Path(sys.executable).with_name("klaviyo-pipeline"))
        subprocess.run([program, "migrate"], env={**os.environ, **variables}, check=True, stdout=subprocess.DEVNULL)
        with cluster(variables, folder, names=[f"worker_{number}" for number in range(workers)], places=1) as running:
            for slug in shops:
                running.launch(f"{slug}_entities", "flows", DAY, DAY)
            failed = [run.job_name for run in running.ended() if run.status.value != "SUCCESS"]
            if failed:
                raise SystemExit(f"runs failed: {', '.join(failed)}")
            records = running.instance.get_run_records()
    return max(one.end_time or 0 for one in records) - min(one.start_time or 0 for one in records)


def _shop(number: int, pages: int) -> SandboxAccount:
    shop = empty_shop()
    shop.id = f"SHOP{number}"
    for flow in range(pages * PAGE):
        put(shop, "flows", f"f{flow:05}", utc(f"{DAY}T12:00:00"))
    return shop


def _empty_database(server: str) -> str:
    name = f"celery_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return urlsplit(server)._replace(path=f"/{name}").geturl()
