"""Compares the write path with a plain binary COPY of the same rows into an unlogged table, from frame to commit.

The COPY encodes Python rows with psycopg. The writer takes a frame, and merges it with history and ledger. The two
alternate, and their medians are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import psutil  # type: ignore[import-untyped]
import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.types.json import Jsonb

from benchmarks import rows
from benchmarks.results import Measurement
from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.orchestration.assets.entity_assets import BATCH_ROWS
from klaviyo_pipeline.postgres.engine import create_engine, json_text
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.schema.tables import DestinationTable, reflect
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.merge import ReplaceRange
from klaviyo_pipeline.postgres.write.writer import Writer
from klaviyo_pipeline.windows import Window

SCHEMA = "bench"
WINDOWS = 59
CHANGED = 0.1

Frames = Callable[[int, float], pd.DataFrame]


@dataclass(frozen=True)
class Subject:
    """A table, a function for its frames (by round and share of changed rows), and its batch size."""

    name: str
    table: str
    batch_rows: int
    frame: Frames
    replaces_days: bool
    first_mark: float
    unchanged_mark: float


@dataclass
class Timings:
    """Seconds of each repetition, by phase: elapsed time, and CPU time of this process and the server."""

    postmaster: psutil.Process
    seconds: dict[str, list[float]] = field(default_factory=dict)
    busy: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        began, busy = time.perf_counter(), self._busy()
        yield
        self.seconds.setdefault(phase, []).append(time.perf_counter() - began)
        self.busy.setdefault(phase, []).append(self._busy() - busy)

    def rate(self, phase: str) -> float:
        """The plain COPY's time divided by the phase's time: 1 is as fast as the COPY."""
        return statistics.median(self.seconds["copy"]) / statistics.median(self.seconds[phase])

    def work(self, phase: str) -> float:
        """The phase's CPU time divided by the plain COPY's. Other load on the machine affects it less."""
        return statistics.median(self.busy[phase]) / statistics.median(self.busy["copy"])

    def _busy(self) -> float:
        server = [process.cpu_times() for process in self.postmaster.children()]
        return time.process_time() + sum(float(times.user + times.system) for times in server)


def subjects(*, quick: bool) -> Sequence[Subject]:
    """Entities in the batch size of their asset, and report rows in one batch, like the response to one request."""
    entity_rows, report_rows = (200, 300) if quick else (10_000, 30_000)
    return (
        Subject(
            "entities", "flows", BATCH_ROWS,
            lambda round_, changed: rows.entities(entity_rows, WINDOWS, round_, changed),
            replaces_days=False, first_mark=0.60, unchanged_mark=0.60,
        ),
        Subject(
            "report rows", "flow_report", report_rows,
            lambda round_, changed: rows.report_rows(report_rows, WINDOWS, round_, changed),
            replaces_days=True, first_mark=0.55, unchanged_mark=0.90,
        ),
    )  # fmt: skip


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """The results for both kinds of rows."""
    migrate(url, SCHEMA, SQL_DIR)
    engine = create_engine(url)
    try:
        for subject in subjects(quick=quick):
            yield from _measure(engine, subject, repetitions=1 if quick else 5)
    finally:
        engine.dispose()


def _measure(engine: sa.Engine, subject: Subject, repetitions: int) -> Iterator[Measurement]:
    first, unchanged, changed = subject.frame(0, 0), subject.frame(1, 0), subject.frame(2, CHANGED)
    with engine.connect() as connection:
        target = reflect(connection, SCHEMA, subject.table)
    timings, wal, dead = Timings(postmaster_of(engine)), dict[str, list[int]](), list[int]()
    for _ in range(repetitions):
        _truncate(engine, subject.table)
        for phase, frame in {"first": first, "unchanged": unchanged, "changed": changed}.items():
            copy_bare(engine, target, frame, timings)
            dead_before, wal_before = _dead_tuples(engine, subject.table), _wal_position(engine)
            with timings.of(phase):
                _write(engine, target, subject, frame)
            wal.setdefault(phase, []).append(_wal_position(engine) - wal_before)
            if phase == "unchanged":
                dead.append(_dead_tuples(engine, subject.table) - dead_before)
    name = f"write path, {subject.name}"
    yield Measurement(
        name, "first load, relative to a bare COPY's rate", timings.rate("first"), "share", subject.first_mark
    )
    yield Measurement(name, "unchanged", timings.rate("unchanged"), "share", subject.unchanged_mark)
    yield Measurement(name, "a tenth changed", timings.rate("changed"), "share")
    for phase in ("first", "unchanged", "changed"):
        yield Measurement(name, f"{phase}: processor time, relative to a bare COPY's", timings.work(phase))
    share = statistics.median(wal["unchanged"]) / statistics.median(wal["first"])
    yield Measurement(name, "unchanged: WAL, relative to the first load's", share, "share", 0.01, "at most")
    yield Measurement(name, "unchanged: dead tuples", max(dead), "tuple", 0, "at most")


def postmaster_of(engine: sa.Engine) -> psutil.Process:
    with engine.connect() as connection:
        backend = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    postmaster = psutil.Process(backend).parent()
    assert postmaster is not None
    return postmaster


def _windows() -> list[Window]:
    starts = [datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(WINDOWS)]
    return [Window(start, start + timedelta(days=1), start.date().isoformat()) for start in starts]


def _write(engine: sa.Engine, target: DestinationTable, subject: Subject, frame: pd.DataFrame) -> None:
    windows = _windows()
    load = Load(list(_batches(subject, frame, windows)), windows)
    Writer(engine, target, Ledger(SCHEMA, subject.table), load, "bench").run()


def _batches(subject: Subject, frame: pd.DataFrame, windows: Sequence[Window]) -> Iterator[Batch]:
    asked_at = frame["observed_at"].iloc[0]
    days = {window.start.date(): index for index, window in enumerate(windows)}
    replaces = ReplaceRange("date", min(days), max(days), asked_at, days) if subject.replaces_days else None
    for start in range(0, len(frame), subject.batch_rows):
        part = frame.iloc[start : start + subject.batch_rows]
        is_last = start + subject.batch_rows >= len(frame)
        completes = [CompletedWindow(window, asked_at, 1) for window in windows] if is_last else []
        yield Batch(part, completes, replaces)


def copy_bare(engine: sa.Engine, target: DestinationTable, frame: pd.DataFrame, timings: Timings) -> None:
    """The reference: a binary COPY of the frame's rows, from Python values, into an unlogged table without indexes."""
    names = [name for name in target.written if name in frame.columns]
    values = [python_values(frame[name]) for name in names]
    table = sql.Identifier("bare")
    with engine.connect() as pooled:
        raw: psycopg.Connection[Any] = pooled.connection.driver_connection  # type: ignore[assignment]
        like = sql.Identifier(SCHEMA, target.table.name)
        raw.execute(sql.SQL("CREATE UNLOGGED TABLE IF NOT EXISTS {} AS SELECT {} FROM {} LIMIT 0").format(
            table, sql.SQL(", ").join(map(sql.Identifier, names)), like))  # fmt: skip
        raw.commit()
        oids = raw.execute(
            "SELECT atttypid FROM pg_attribute WHERE attrelid = 'bare'::regclass AND attnum > 0 ORDER BY attnum"
        ).fetchall()
        with timings.of("copy"):
            with raw.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(table)) as to:
                to.set_types([oid for (oid,) in oids])
                for row in zip(*values, strict=True):
                    to.write_row([Jsonb(one, dumps=json_text) if isinstance(one, dict) else one for one in row])
            raw.commit()
        raw.execute(sql.SQL("DROP TABLE {}").format(table))
        raw.commit()


def python_values(series: pd.Series[Any]) -> list[Any]:
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return [None if value is pd.NaT else value.to_pydatetime() for value in series]
    return series.astype(object).where(series.notna(), None).tolist()


def _truncate(engine: sa.Engine, table: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text(f"TRUNCATE {SCHEMA}.{table}, {SCHEMA}.{table}_superseded, {SCHEMA}.sync_windows CASCADE")
        )


def _wal_position(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        position = connection.execute(sa.text("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")).scalar_one()
    return int(position)


def _dead_tuples(engine: sa.Engine, table: str) -> int:
    """The number of dead row versions in the table and in its history table.

    A session reports its statistics with a delay. The flush is forced here, because a new session would be slower.
    """
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
    with engine.connect() as connection:
        dead = connection.execute(
            sa.text(
                "SELECT sum(n_dead_tup) FROM pg_stat_user_tables "
                "WHERE schemaname = :schema AND relname IN (:table, :superseded)"
            ),
            {"schema": SCHEMA, "table": table, "superseded": f"{table}_superseded"},
        ).scalar_one()
    return int(dead)
