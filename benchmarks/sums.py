"""What keeping the sums by month and quarter costs a sync: 59 days of every flow, with the triggers and without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import sqlalchemy as sa

from benchmarks.results import Figure
from klaviyo_pipeline.assets.frames import table_frame
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.merge import DaySpan, merge
from klaviyo_pipeline.postgres.tables import reflect

TABLE = "flow_metrics"
FIRST, LAST = date(2027, 1, 10), date(2027, 3, 9)
ASKED = datetime(2027, 3, 10, tzinfo=UTC)
REPETITIONS = 3
KINDS = ("written first", "written again, unchanged", "written again, every row restated")


def writing(url: str, schema: str, flows: int) -> Iterator[Figure]:
    """The time of each kind of sync with the sums kept, against the same with the triggers switched off."""
    engine = create_engine(url)
    with engine.connect() as connection:
        target = reflect(connection, schema, TABLE)
    table, columns = target.table, target.written
    first, restated = (table_frame(list(_rows(flows, columns, extra)), columns) for extra in (0, 1))
    taken: dict[bool, list[list[float]]] = {True: [], False: []}
    for repetition in range(2 * REPETITIONS):
        kept = repetition % 2 == 0
        with engine.begin() as connection:
            connection.execute(sa.delete(table).where(table.c.date >= FIRST))
        _execute(engine, f"VACUUM ANALYZE {schema}.{TABLE}, {schema}.{TABLE}_monthly, {schema}.{TABLE}_quarterly")
        _execute(engine, f"ALTER TABLE {schema}.{TABLE} {'ENABLE' if kept else 'DISABLE'} TRIGGER USER")
        taken[kept].append([_seconds(engine, schema, frame) for frame in (first, first, restated)])
        _execute(engine, f"ALTER TABLE {schema}.{TABLE} ENABLE TRIGGER USER")
    engine.dispose()
    for kind, with_sums, without in zip(
        KINDS, zip(*taken[True], strict=True), zip(*taken[False], strict=True), strict=True
    ):
        ratio = statistics.median(with_sums) / statistics.median(without)
        yield Figure("reading, the price", f"59 days of every flow {kind}, of the same without sums", ratio)


def _rows(flows: int, columns: Sequence[str], extra: int) -> Iterator[dict[str, Any]]:
    observed_at = ASKED + timedelta(minutes=extra)
    named = {"flow_status": "live", "trigger_type": "Metric", "messages": 3, "observed_at": observed_at}
    for flow in range(flows):
        for day in range((LAST - FIRST).days + 1):
            counts = {name: Decimal(flow * 7 + day + extra) for name in ("recipients", "delivered", "opens", "clicks")}
            key = {"flow_id": f"F{flow}", "date": FIRST + timedelta(days=day), "flow_name": f"Flow {flow}"}
            yield {**dict.fromkeys(columns), **key, **named, **counts}


def _seconds(engine: sa.Engine, schema: str, frame: pd.DataFrame) -> float:
    begun = time.perf_counter()
    with engine.begin() as connection:
        merge(connection, reflect(connection, schema, TABLE), frame, replaces=DaySpan("date", FIRST, LAST, ASKED))
    return time.perf_counter() - begun


def _execute(engine: sa.Engine, statement: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
