"""Writes the rows of the write path's benchmark with `pandas.to_sql` and with dlt's merge, and compares with a COPY.

Both do less than the writer: `to_sql` appends without a key and without comparing; dlt replaces rows with the same key,
without history or ledger. dlt runs in a separate process, and its start is not measured.
"""

from __future__ import annotations

import json
import pickle
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from benchmarks.fetch import run_with_dlt
from benchmarks.results import Measurement
from benchmarks.write_path import CHANGED, SCHEMA, Subject, Timings, copy_bare, postmaster_of, python_values, subjects
from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.schema.tables import DestinationTable, reflect

PHASES = {"first": "first load", "unchanged": "unchanged", "changed": "a tenth changed"}


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """The rates for both kinds of rows, as shares of a plain COPY's rate."""
    migrate(url, SCHEMA, SQL_DIR)
    engine = create_engine(url)
    try:
        for subject in subjects(quick=quick):
            yield from _measure(engine, url, subject, repetitions=1 if quick else 3)
    finally:
        engine.dispose()


def _measure(engine: sa.Engine, url: str, subject: Subject, repetitions: int) -> Iterator[Measurement]:
    frames = {"first": subject.frame(0, 0), "unchanged": subject.frame(1, 0), "changed": subject.frame(2, CHANGED)}
    with engine.connect() as connection:
        target = reflect(connection, SCHEMA, subject.table)
    timings, by_dlt = Timings(postmaster_of(engine)), list[dict[str, float]]()
    for _ in range(repetitions):
        copy_bare(engine, target, frames["first"], timings)
        with timings.of("to_sql"):
            _to_sql(engine, target, frames["first"])
        by_dlt.append(_dlt(url, target, frames))
    name, copy = f"other writers, {subject.name}", statistics.median(timings.seconds["copy"])
    yield Measurement(
        name, "pandas.to_sql, first load, relative to a bare COPY's rate", timings.rate("to_sql"), "share"
    )
    for phase, reported in PHASES.items():
        seconds = statistics.median(one[phase] for one in by_dlt)
        yield Measurement(name, f"dlt's merge, {reported}, relative to a bare COPY's rate", copy / seconds, "share")


def _columns(target: DestinationTable, frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in target.written if name in frame.columns]


def _to_sql(engine: sa.Engine, target: DestinationTable, frame: pd.DataFrame) -> None:
    """Write into a new table, 1,000 rows at a time. pandas chooses the types, except `jsonb` for documents."""
    names = _columns(target, frame)
    documents = {name: JSONB() for name in names if isinstance(target.table.columns[name].type, JSONB)}
    rows = frame[names]
    with engine.begin() as connection:
        rows.to_sql("by_pandas", connection, if_exists="replace", index=False, dtype=documents, chunksize=1_000)


def _dlt(url: str, target: DestinationTable, frames: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Seconds of each phase. All phases write into one new dataset, in order."""
    names = _columns(target, frames["first"])
    rows = {
        phase: [
            dict(zip(names, row, strict=True))
            for row in zip(*(python_values(frame[name]) for name in names), strict=True)
        ]
        for phase, frame in frames.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.pickle"
        file.write_bytes(pickle.dumps({"key": [str(name) for name in target.key], "phases": rows}))
        reported = run_with_dlt("dlt_merge.py", str(file), BENCH_DATABASE_URL=url)
    seconds: dict[str, float] = json.loads(reported.splitlines()[-1])
    return seconds
