"""Celery workers that are killed with SIGKILL, with all their runs, at random times of the syncs of ten accounts."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import dagster as dg

from klaviyo_pipeline_tests.brands import FIRST, LAST, REVOKED, Brands, brands_in
from klaviyo_pipeline_tests.dagster_internals.celery.cluster import Cluster, cluster

SECONDS_BETWEEN = (1.0, 12.0)
"""The range of seconds between two kills. If four runs are concurrent, each of them takes about five seconds."""
ASSETS = ("flows", "forms")


@dataclass
class Morning:
    """The kills, and the work that was needed until every account was complete."""

    kills: int = 0
    runs: int = 0
    begun_again: int = 0
    """Runs that died and were retried by Dagster."""
    requested_again: int = 0
    """Runs that were launched again, as `klaviyo_missing_windows` does, because every attempt had died."""
    defects: list[str] = field(default_factory=list)


def morning_of_kills(database: str, folder: Path, seed: int, kills: int) -> Morning:
    """Sync every account's flows and forms through the queue while workers die. A missing row is a defect."""
    chance, morning = random.Random(seed), Morning()
    for brands in brands_in(database, folder, rate_scale=1):
        assert brands.run("migrate").returncode == 0
        with cluster(brands.variables, folder) as running:
            for slug in brands.shops:
                for asset in ASSETS:
                    _launch(running, slug, asset)
            _kill(running, chance, morning, kills)
            runs = running.ended()
            while given_up := _given_up(runs):
                morning.requested_again += len(given_up)
                for slug, asset in given_up:
                    _launch(running, slug, asset)
                runs = running.ended()
        morning.runs = len(runs)
        morning.begun_again = sum(run.parent_run_id is not None for run in runs)
        morning.defects += [*_wrong(brands), *_not_alone(runs)]
    return morning


def _launch(running: Cluster, slug: str, asset: str) -> None:
    running.launch(f"{slug}_entities", asset, FIRST.isoformat(), LAST.isoformat())


def _kill(running: Cluster, chance: random.Random, morning: Morning, kills: int) -> None:
    """Kill one worker after the other, and start a replacement for each: at most `kills`, or until all runs end."""
    while morning.kills < kills:
        time.sleep(chance.uniform(*SECONDS_BETWEEN))
        if not any(run.status.value in ("QUEUED", "STARTING", "STARTED") for run in running.instance.get_runs()):
            return
        running.kill(chance.choice(sorted(running.workers)))
        morning.kills += 1
        running.start(f"after_{morning.kills}@test")


def _given_up(runs: list[dg.DagsterRun]) -> list[tuple[str, str]]:
    """Account and asset of each run that should succeed, but failed in every attempt and replacement."""
    done = {_what(run) for run in runs if run.status is dg.DagsterRunStatus.SUCCESS}
    return sorted({_what(run) for run in runs if _what(run)[0] != REVOKED} - done)


def _what(run: dg.DagsterRun) -> tuple[str, str]:
    [key] = run.asset_selection or ()
    slug, asset = key.path
    return slug, asset


def _wrong(brands: Brands) -> Iterator[str]:
    for slug in brands.shops:
        if slug == REVOKED:
            continue
        for asset in ASSETS:
            if brands.stored(slug, asset) != brands.expected(slug, asset):
                yield f"{slug}.{asset} is not what the account has"
            states, ids = brands.rows(f"SELECT count(*), count(DISTINCT id) FROM {asset}_history", slug)[0]
            if states != ids:
                yield f"{slug}.{asset}_history has {states} states of {ids} objects that never changed"
        windows = len(ASSETS) * ((LAST - FIRST) // timedelta(days=1) + 1)
        ledger = brands.rows("SELECT status, count(*) FROM sync_windows GROUP BY 1", slug)
        if ledger != [("synced", windows)]:
            yield f"the ledger of {slug} has {ledger} instead of {windows} synced windows"
    refused = Counter(entry.status for entry in brands.server.requests if entry.status not in (200, 401))
    if refused:
        yield f"Klaviyo refused requests, by status: {dict(refused)}"


def _not_alone(runs: list[dg.DagsterRun]) -> Iterator[str]:
    """Whether a run of the account with the revoked key succeeded, or any run still has an unfinished status."""
    for run in runs:
        if run.tags["klaviyo/account"] == REVOKED and run.status is dg.DagsterRunStatus.SUCCESS:
            yield f"run {run.run_id} succeeded with a revoked key"
        if not run.is_finished:
            yield f"run {run.run_id} is {run.status.value} for ever"
