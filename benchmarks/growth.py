"""The cost of windows: the same rows in a year of windows and in one window, for a run and for the writer alone."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from benchmarks import rows
from benchmarks.results import Measurement
from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.dagster_internals.storage import EVENT_BATCH_SIZE
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.schema.tables import reflect
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.writer import Writer
from klaviyo_pipeline.windows import Window
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, put, recorded_pipeline, utc

FIRST, LAST, ONE = "2025-02-01", "2026-01-31", "2026-02-01"
DAYS = 365
SCHEMA = "growth"


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """The time of a run over a year, divided by that of a run over one day with the same number of changed rows."""
    flows, repetitions = (20, 1) if quick else (2_000, 3)
    seconds: dict[str, list[float]] = {"year": [], "day": []}
    shop = empty_shop()
    with (
        pytest.MonkeyPatch.context() as environment,
        tempfile.TemporaryDirectory() as home,
        recorded_pipeline(url, Path(home), environment, shop) as pipeline,
    ):
        environment.setenv("DAGSTER_EVENT_BATCH_SIZE", EVENT_BATCH_SIZE)
        for round_ in range(repetitions):
            for number in range(flows):
                moment = utc(f"{FIRST}T12:00:00") + timedelta(days=DAYS * number // flows, seconds=round_)
                put(shop, "flows", f"f{number:05}", moment, status=f"round {round_}")
            seconds["year"].append(_timed(pipeline, FIRST, LAST))
            for number in range(flows):
                put(shop, "flows", f"f{number:05}", utc(f"{ONE}T12:00:00"), status=f"again {round_}")
            seconds["day"].append(_timed(pipeline, ONE, ONE))
    yield _written(url, flows, repetitions)
    ratio = statistics.median(seconds["year"]) / statistics.median(seconds["day"])
    yield Measurement(
        "growth",
        f"a backfill of {DAYS} windows, relative to one window with the same rows",
        ratio,
        "ratio",
        1.3,
        "at most",
    )


def _written(url: str, flows: int, repetitions: int) -> Measurement:
    """The same ratio for the writer and the ledger, without Dagster's events for each partition."""
    migrate(url, SCHEMA, SQL_DIR)
    engine = create_engine(url)
    with engine.connect() as connection:
        target = reflect(connection, SCHEMA, "flows")
    seconds: dict[int, list[float]] = {DAYS: [], 1: []}
    for round_ in range(repetitions):
        for count, spent in seconds.items():
            frame = rows.entities(flows, count, 1 + 2 * round_ + (count == 1), changed=1)
            windows = [Window(start, start + timedelta(days=1), start.date().isoformat()) for start in _starts(count)]
            done = [CompletedWindow(window, frame["observed_at"].iloc[0], 1) for window in windows]
            writer = Writer(engine, target, Ledger(SCHEMA, "flows"), Load([Batch(frame, done)], windows), "bench")
            began = time.perf_counter()
            writer.run()
            spent.append(time.perf_counter() - began)
    engine.dispose()
    ratio = statistics.median(seconds[DAYS]) / statistics.median(seconds[1])
    return Measurement(
        "growth", "the writer and the ledger, without Dagster: the same ratio", ratio, "ratio", 1.3, "at most"
    )


def _starts(count: int) -> list[datetime]:
    return [utc(FIRST) + timedelta(days=day) for day in range(count)]


def _timed(pipeline: Pipeline, first: str, last: str) -> float:
    began = time.perf_counter()
    pipeline.run("flows", first, last)
    return time.perf_counter() - began
