"""Finished bookkeeping of an account's schema: what was noted once and decides nothing any more."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa


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
    runs = _table(schema, "census_runs", "entity", "started_at", "status")
    newer = runs.alias("newer")
    # The newest of each outcome: by the complete one a sync knows when the next is due.
    has_newer = (
        sa.exists()
        .select_from(newer)
        .where(newer.c.entity == runs.c.entity, newer.c.status == runs.c.status, newer.c.started_at > runs.c.started_at)
    )
    misses = _table(schema, "lookup_misses", "missed_at")
    calls = _table(schema, "api_calls", "last_at")
    return [
        (calls, calls.c.last_at < before),
        (runs, sa.and_(runs.c.started_at < before, has_newer)),
        (misses, misses.c.missed_at < before),
    ]


def _table(schema: str, name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns), schema=schema)
