"""Retention: deletes the old records of an account's system tables that no later sync reads."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.system_tables import system_table


def prune_system_tables(
    connection: sa.Connection, schema: str, before: datetime, *, dry_run: bool = False
) -> dict[str, int]:
    """Delete the records from before this moment, and return their number by table. With `dry_run`, only count them.

    The ledger and the history stay, and so do each entity's newest complete census and its newest failed one.
    """
    removed: dict[str, int] = {}
    for table, is_old in _old_records(schema, before):
        if dry_run:
            query = sa.select(sa.func.count()).select_from(table).where(is_old)
            removed[table.name] = connection.execute(query).scalar_one()
        else:
            removed[table.name] = connection.execute(sa.delete(table).where(is_old)).rowcount
    return removed


def _old_records(schema: str, before: datetime) -> list[tuple[sa.TableClause, sa.ColumnElement[bool]]]:
    """The tables with old records, each with the condition that selects them."""
    runs = system_table(schema, "census_runs")
    newer = runs.alias("newer")
    # The newest census of each status stays: the complete one determines when the next census is due.
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
