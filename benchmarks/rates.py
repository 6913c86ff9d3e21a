"""Compares a full sync at the published rate limits with the minimum time that these limits allow, on a scaled clock.

The pacing and the account's rate limits are `SCALE` times faster than published. The measured time is that from a
stage's first request to its last one: without the start of Dagster, and without writing the last rows. The stages are
those of a sync: the entities and their censuses concurrently, then the reports. A sync without limits fills the
account's cache first, because the account is a single process that would otherwise be slower than Klaviyo's rate
limits.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import LiteralString

import psycopg

from benchmarks.account_server import FIRST_DAY, LARGE, LAST_DAY, SMALL, served
from benchmarks.fetch import empty_database, environment_of
from benchmarks.results import Measurement
from klaviyo_pipeline.klaviyo.rates import ENDPOINTS, Rate

SCALE = 2.0
"""Low enough that the simulated account responds in time, and that a request is much shorter than its slot."""

SYNC = ("sync", "flows", "campaigns", "forms", "segments", "census", "flow_report", "flow_metrics")
STAGES = {
    "entities and censuses": ("get_flows", "get_campaigns", "get_campaign_messages", "get_forms", "get_segments"),
    "a year of flow_report": ("query_flow_series",),
}
CALLS: LiteralString = """
    SELECT endpoint, sum(requests)::int, extract(epoch FROM min(first_at))::float8,
        extract(epoch FROM max(last_at))::float8
    FROM klaviyo.api_calls WHERE endpoint = ANY (%s) GROUP BY endpoint
"""


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """The minimum time as a share of the measured time, for each stage and for the whole sync."""
    size, scale = (SMALL, 60.0) if quick else (LARGE, SCALE)
    with served(size, 0.0, rate_scale=scale) as account:
        _sync(account.url, empty_database(url), 0)
        account.count_from_now()
        _sync(account.url, url, scale)
    least, taken = 0.0, 0.0
    for name, endpoints in STAGES.items():
        bound, seconds = _stage(url, endpoints, scale)
        least, taken = least + bound, taken + seconds
        yield Measurement("rates", f"{name}: relative to the rate bound", bound / seconds, "share")
    yield Measurement("rates", "a full sync: relative to the rate bound", least / taken, "share", 0.95)


def _sync(account: str, database: str, scale: float) -> None:
    """A first sync into the database. `scale` is a factor on the published rate limits."""
    command = [str(Path(sys.executable).parent / "klaviyo-pipeline"), *SYNC]
    command += ["--from", FIRST_DAY.isoformat(), "--to", LAST_DAY.isoformat()]
    with tempfile.TemporaryDirectory() as home:
        environment = {**environment_of(account, database, Path(home)), "KLAVIYO_RATE_SCALE": str(scale)}
        subprocess.run(command, env=environment, check=True, capture_output=True)


def _stage(url: str, endpoints: Sequence[str], scale: float) -> tuple[float, float]:
    """The minimum seconds that the rate limits allow for the stage's requests, and the measured seconds."""
    with psycopg.connect(url) as connection:
        calls = connection.execute(CALLS, [list(endpoints)]).fetchall()
    bound = max(least_seconds(ENDPOINTS[endpoint].rates, requests) / scale for endpoint, requests, _, _ in calls)
    return bound, max(last for *_, last in calls) - min(first for _, _, first, _ in calls)


def least_seconds(rates: Sequence[Rate], requests: int) -> float:
    """The earliest time of the last of these requests, in seconds after the first, that the rate limits allow."""
    sent: list[float] = []
    for number in range(requests):
        waits = [sent[number - rate.requests] + rate.seconds for rate in rates if number >= rate.requests]
        sent.append(max(waits, default=0.0))
    return sent[-1]
