"""What windows cost: the same rows in a year of windows, and in a single one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from benchmarks.results import Figure
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, pipeline_on, put, utc

FIRST, LAST, ONE = "2025-02-01", "2026-01-31", "2026-02-01"
DAYS = 365


def run(url: str, *, quick: bool) -> Iterator[Figure]:
    """The time of a run over a year against that of a run over one day with as many rows, of which all are changed."""
    flows, repetitions = (20, 1) if quick else (2_000, 3)
    seconds: dict[str, list[float]] = {"year": [], "day": []}
    shop = empty_shop()
    with pytest.MonkeyPatch.context() as environment, pipeline_on(url, shop, environment) as pipeline:
        for round_ in range(repetitions):
            for number in range(flows):
                moment = utc(f"{FIRST}T12:00:00") + timedelta(days=DAYS * number // flows, seconds=round_)
                put(shop, "flows", f"f{number:05}", moment, status=f"round {round_}")
            seconds["year"].append(_timed(pipeline, FIRST, LAST))
            for number in range(flows):
                put(shop, "flows", f"f{number:05}", utc(f"{ONE}T12:00:00"), status=f"again {round_}")
            seconds["day"].append(_timed(pipeline, ONE, ONE))
    ratio = statistics.median(seconds["year"]) / statistics.median(seconds["day"])
    yield Figure("growth", f"a backfill of {DAYS} windows, of one with the same rows", ratio, "ratio", 1.3, "at most")


def _timed(pipeline: Pipeline, first: str, last: str) -> float:
    began = time.process_time()
    pipeline.run("flows", first, last)
    return time.process_time() - began
