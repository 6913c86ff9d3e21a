"""The table `api_calls`: how many requests each run sent to Klaviyo, and how long it waited."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.klaviyo.api_usage import EndpointCount
from klaviyo_pipeline.postgres.schema.system_tables import system_table

COUNTS = ("requests", "throttled", "retries", "rows", "waited_seconds", "read_seconds")


@dataclass(frozen=True)
class EndpointWait:
    """How many requests some runs sent to one endpoint, and how long they waited for it."""

    endpoint: str
    requests: int
    throttled: int
    waited_seconds: float


def remember_calls(connection: sa.Connection, schema: str, run_id: str, counts: Mapping[str, EndpointCount]) -> None:
    """Add these counts to the run's stored counts: each asset of a run has its own session, with its own counts."""
    table, now = system_table(schema, "api_calls"), time.monotonic()
    for endpoint, count in sorted(counts.items()):
        insert = pg.insert(table).values(
            run_id=run_id,
            endpoint=endpoint,
            first_at=_ago(now - count.first),
            last_at=_ago(now - count.last),
            **{name: getattr(count, name) for name in COUNTS},
        )
        added = {name: table.c[name] + insert.excluded[name] for name in COUNTS}
        first = sa.func.least(table.c.first_at, insert.excluded.first_at)
        last = sa.func.greatest(table.c.last_at, insert.excluded.last_at)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["run_id", "endpoint"], set_={**added, "first_at": first, "last_at": last}
            )
        )


def waits(connection: sa.Connection, schema: str, run_ids: Sequence[str]) -> list[EndpointWait]:
    """How long these runs waited for each endpoint, longest first."""
    table = system_table(schema, "api_calls")
    waited = sa.func.sum(table.c.waited_seconds)
    query = (
        sa.select(table.c.endpoint, sa.func.sum(table.c.requests), sa.func.sum(table.c.throttled), waited)
        .where(table.c.run_id.in_(run_ids))
        .group_by(table.c.endpoint)
        .order_by(waited.desc(), table.c.endpoint)
    )
    rows = connection.execute(query)
    return [
        EndpointWait(name, int(requests), int(throttled), float(seconds)) for name, requests, throttled, seconds in rows
    ]


def _ago(seconds: float) -> sa.ColumnElement[object]:
    return sa.func.clock_timestamp() - timedelta(seconds=seconds)
