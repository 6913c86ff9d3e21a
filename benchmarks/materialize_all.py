"""Compares *Materialize all* in the UI with `sync --force`, for the same assets and days of one account.

Klaviyo answers at once, except that a report takes six seconds, like a real report over two months. Neither the UI's
runs nor the sync find new data. Dagster's daemon looks for new backfills every thirty seconds. The button is clicked in
the middle of this interval, so that the wait is average. The time until the daemon has created the runs is also a
separate result.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx

from benchmarks.fetch import environment_of
from benchmarks.results import Measurement
from klaviyo_pipeline.catalog import ASSETS, DEFAULT, REPORTS, period_of, switched_on
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.dev_server import as_the_ui_launches, ask, dev_server, finished

DAYS = 212
SHOP = {"flows": 10, "campaigns": 100, "forms": 10, "segments": 40}
REPORT_SECONDS = 6.0
DAEMON_INTERVAL = 30.0
"""The daemon looks for backfills when it starts, and then at this interval, in seconds."""
LONGEST = 1_800.0
"""Seconds after which the backfill counts as stuck."""


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """Seconds from the button to the end of the last run, relative to the mean of a sync before and one after it."""
    days = 3 if quick else DAYS
    until = datetime.now(UTC).date() - timedelta(days=1)
    start = until - timedelta(days=days - 1)
    shop = generate_account(1, **SHOP, timezone="UTC", start=start, until=until)
    assets = [name for name in ASSETS if name in switched_on((DEFAULT,)) and period_of(name) == "day"]
    with tempfile.TemporaryDirectory() as folder, SandboxServer(shop, rate_scale=0) as server:
        variables = {
            **environment_of(server.url, url, Path(folder)),
            "KLAVIYO_API_KEY": next(iter(shop.api_keys)),
            "KLAVIYO_START_DATE": start.isoformat(),
        }
        _synced(variables, assets, start, until)
        delay = 0.1 if quick else REPORT_SECONDS
        for path in {asset.report.path for asset in REPORTS.values()}:
            server.faults.add(path_starts(path), Fault(delay=delay), times=10_000)
        syncs = [_synced(variables, assets, start, until)]
        with dev_server(dict(variables), Path(folder) / "log") as client:
            time.sleep(0.0 if quick else DAEMON_INTERVAL / 2)
            created, ended = _materialized(client, assets, start, until)
        syncs.append(_synced(variables, assets, start, until))
    synced = sum(syncs) / len(syncs)
    name = f"{len(assets)} assets, {days} days, relative to sync --force"
    yield Measurement("materialize all", name, ended / synced, "ratio", 2, "at most")
    yield Measurement("materialize all", "the part until the daemon has created the runs", created / synced)


def _synced(variables: Mapping[str, str], assets: list[str], first: date, last: date) -> float:
    """Seconds of a `sync --force`."""
    command = [str(Path(sys.executable).with_name("klaviyo-pipeline")), "sync", *assets, "--force"]
    command += ["--from", first.isoformat(), "--to", last.isoformat()]
    began = time.perf_counter()
    subprocess.run(command, env=variables, check=True, capture_output=True)
    return time.perf_counter() - began


def _materialized(client: httpx.Client, assets: list[str], first: date, last: date) -> tuple[float, float]:
    """Launch a backfill as the button does. Returns the seconds until its runs exist, and until they have ended."""
    days = [(first + timedelta(days=day)).isoformat() for day in range((last - first).days + 1)]
    began = time.time()
    launched = ask(client, as_the_ui_launches("klaviyo", assets, days))["launchPartitionBackfill"]
    backfill = finished(client, launched["backfillId"], LONGEST)
    if backfill["status"] != "COMPLETED_SUCCESS":
        raise SystemExit(f"the backfill ended with {backfill['status']}")
    created, ended = ([run[moment] - began for run in backfill["runs"]] for moment in ("creationTime", "endTime"))
    return max(created), max(ended)
