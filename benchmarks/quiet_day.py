"""The cost of a day without news from Klaviyo, for one account and for sixteen, relative to `import dagster`.

Klaviyo answers at once. The server is like most in two respects: `jit` is on, and a new table has no statistics,
because autovacuum has not visited it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from benchmarks.fetch import environment_of
from benchmarks.processor_time import Cost, cost_of
from benchmarks.results import Measurement
from klaviyo_pipeline.orchestration.jobs import IN_ONE_PROCESS
from klaviyo_pipeline.sandbox.app import create_app
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.server import SandboxServer

DAYS = 40
SHOP = {"flows": 10, "campaigns": 100, "forms": 10, "segments": 40}
ASSETS = ("flows", "campaigns", "forms", "segments", "flow_report", "flow_metrics")
PROGRAM = "klaviyo-pipeline"
IMPORT = ("python", "-c", "import dagster")


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """Wall time and processor time of each command, including Postgres, relative to those of importing Dagster."""
    with psycopg.connect(url) as connection:
        [data] = connection.execute("SHOW data_directory").fetchall()[0]
    postmaster = int((Path(data) / "postmaster.pid").read_text().split()[0])
    many = 2 if quick else 16
    with tempfile.TemporaryDirectory() as folder, _accounts(many, url, Path(folder)) as environment:

        def measured(name: str, mark: float | None, *command: str) -> Iterator[Measurement]:
            imports = [cost_of(IMPORT, environment)]
            cost = cost_of(command, environment, postmaster)
            imports.append(cost_of(IMPORT, environment))
            wall, cpu = (
                cost[place] / (sum(one[place] for one in imports) / len(imports)) for place in range(len(Cost._fields))
            )
            yield Measurement("quiet day", name, wall, "ratio", mark, "at most")
            yield Measurement("quiet day", f"{name}: processor time", cpu)

        one, found = ("--account", "shop_0"), f"{many} accounts"
        yield from measured(f"first sync, {found}", 40, PROGRAM, "sync", *ASSETS)
        yield from measured(f"sync of six assets, {found}, nothing new", 25, PROGRAM, "sync", *ASSETS)
        yield from measured("sync of flows, one account, nothing new", 2, PROGRAM, "sync", "flows", *one)
        yield from measured(f"status, {found}", 2.5, PROGRAM, "status")
        yield from measured("check, one account", 4, PROGRAM, "check", *one)
        yield from measured(f"check, {found}", 30, PROGRAM, "check")
        for kind in ("entities", "reports"):
            scheduled = _scheduled(f"shop_0_{kind}", Path(folder))
            cost_of(scheduled, environment)  # Not measured: reads what no command above has read.
            yield from measured(f"scheduled run of {kind}, one account, nothing new", None, *scheduled)


def _scheduled(job: str, folder: Path) -> tuple[str, ...]:
    """The command that does what the run of the daily schedule does, over eight days, without the daemon."""
    config = folder / "run.yaml"
    config.write_text(json.dumps(IN_ONE_PROCESS))
    today = datetime.now(UTC).date()
    days = {"start": today - timedelta(days=7), "end": today}
    tags = json.dumps({f"dagster/asset_partition_range_{name}": day.isoformat() for name, day in days.items()})
    module = ("-m", "klaviyo_pipeline.definitions")
    return ("dagster", "job", "execute", *module, "-j", job, "--tags", tags, "--config", str(config))


@contextmanager
def _accounts(many: int, url: str, home: Path) -> Iterator[Mapping[str, str]]:
    """An environment with this number of small accounts, each with a database schema and an account of Klaviyo."""
    today = datetime.now(UTC).date()
    start, until = today - timedelta(days=DAYS), today - timedelta(days=1)
    shops = [generate_account(seed, **SHOP, timezone="UTC", start=start, until=until) for seed in range(many)]
    entries = []
    keys = {}
    for number, shop in enumerate(shops):
        keys[f"KEY_{number}"] = key = f"pk_benchmark_{number}"
        shop.api_keys = {key: next(iter(shop.api_keys.values()))}
        entries.append({"slug": f"shop_{number}", "api_key_env": f"KEY_{number}"})
    with SandboxServer(create_app(shops, rate_scale=0)) as server:
        environment = {**environment_of(server.url, url, home), **keys}
        file = home / "accounts.yaml"
        # JSON is YAML.
        file.write_text(
            json.dumps(
                {
                    "defaults": {"start_date": start.isoformat(), "api_url": server.url, "rate_scale": 0},
                    "accounts": entries,
                }
            )
        )
        yield {**environment, "KLAVIYO_ACCOUNTS_FILE": str(file)}
