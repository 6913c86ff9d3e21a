"""Finished bookkeeping of an account's schema: what was noted once and decides nothing any more."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.system_tables import system_table


def prune_system_tables(
    connection: sa.Connection, schema: str, before: datetime, *, dry_run: bool = False
) -> dict[str, int]:
    """Remove notes from before this moment; how many rows of each table went, or with `dry_run` would go.

    The ledger, the history and the newest censuses of each entity are no notes: they stay.
    """
    removed: dict[str, int] = {}
    for table, which in _finished(schema, before):
        if dry_run:
            query = sa.select(sa.func.count()).select_from(table).where(which)
            removed[table.name] = connection.execute(query).scalar_one()
        else:
            removed[table.name] = connection.execute(sa.delete(table).where(which)).rowcount
    return removed


def _finished(schema: str, before: datetime) -> list[tuple[sa.TableClause, sa.ColumnElement[bool]]]:
    """Which rows of which tables have served their time."""
    runs = system_table(schema, "census_runs")
    newer = runs.alias("newer")
    # The newest of each outcome: by the complete one a sync knows when the next is due.
    has_newer = (
        sa.exists()
        .select_from(newer)
        .where(newer.c.entity == runs.c.entity, newer.c.status == runs.c.status, newer.c.started_at > runs.c.started_at)
    )
    misses = system_table(schema, "lookup_misses")
    calls = system_table(schema, "api_calls")
    return [
        (calls, calls.c.last_at < before),
        (runs, sa.and_(runs.c.started_at < before, has_newer)),
        (misses, misses.c.missed_at < before),
    ]
