"""Times that lie ahead of the database's clock, left by a clock that was ahead for a while, and the way out.

The later observation wins. A row that was observed "tomorrow" therefore wins over everything that is observed until
then, and a window that was requested "tomorrow" counts as done although it had not ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.schema.declarations import declared_tables
from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT, VALID_FROM, VALID_TO

TOLERATED = timedelta(seconds=5)
"""A server that takes over from another may be this much behind it; such times are soon past."""

NOTES = {"sync_windows": "asked_at", "census_runs": "started_at", "lookup_misses": "missed_at"}
"""Tables that note when Klaviyo was asked, and the column that says it."""

REMEDY = (
    "Check that the database's clock is right now, run `klaviyo-pipeline reset-clock`, then `klaviyo-pipeline sync` "
    "and `klaviyo-pipeline sync census`"
)

_TIME = sa.DateTime(timezone=True)


def ahead_of_clock(connection: sa.Connection, schema: str) -> dict[str, int]:
    """How many rows of each table are observed, or were requested, ahead of the clock; tables without any left out."""
    tables = {**dict.fromkeys(_observed(connection, schema), OBSERVED_AT), **NOTES}
    counts = {name: _count(connection, schema, name, column) for name, column in tables.items()}
    return {name: rows for name, rows in counts.items() if rows}


def rows_ahead(connection: sa.Connection, schema: str, name: str) -> int:
    """How many rows of this table, or windows of it in the ledger, are ahead of the clock."""
    windows = sa.column("entity") == name
    return _count(connection, schema, name, OBSERVED_AT) + _count(
        connection, schema, "sync_windows", NOTES["sync_windows"], windows
    )


def _count(connection: sa.Connection, schema: str, name: str, column: str, *which: sa.ColumnElement[bool]) -> int:
    table = sa.table(name, schema=schema)
    ahead = sa.column(column) > sa.func.clock_timestamp() + TOLERATED
    return connection.execute(sa.select(sa.func.count()).select_from(table).where(ahead, *which)).scalar_one()


def reset_clock(connection: sa.Connection, schema: str) -> dict[str, int]:
    """Set times that lie ahead to the present, in their order, and forget the requests; how many rows, by table.

    What was observed ahead of the clock was observed before now. Its order stays: the times become the microseconds
    before the present one. Windows and censuses that were requested ahead of the clock are due again.
    """
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    columns = [
        (sa.table(table, sa.column(column, _TIME), schema=schema), column)
        for table, column in _times(connection, schema)
    ]
    ahead = sa.union(
        *(sa.select(table.c[column].label("moment")).where(table.c[column] > now) for table, column in columns)
    )
    moments = sorted(connection.execute(ahead).scalars())
    past = [now - timedelta(microseconds=len(moments) - place) for place in range(len(moments))]
    given = (
        sa.func.unnest(*(sa.bindparam(None, times, type_=pg.ARRAY(_TIME)) for times in (moments, past)))
        .table_valued(sa.column("moment", _TIME), sa.column("past", _TIME))
        .render_derived(name="given")
    )
    changed: dict[str, int] = {}
    for table, column in columns if moments else ():
        update = sa.update(table).values({column: given.c.past}).where(table.c[column] == given.c.moment)
        changed[table.name] = max(changed.get(table.name, 0), connection.execute(update).rowcount)
    for name, column in NOTES.items():
        noted = sa.table(name, sa.column(column), schema=schema)
        changed[name] = connection.execute(sa.delete(noted).where(noted.c[column] > now)).rowcount
    changed["api_pacing"] = _free_slots(connection, schema, now)
    return {name: rows for name, rows in changed.items() if rows}


def _free_slots(connection: sa.Connection, schema: str, now: datetime) -> int:
    """Forget the slots ahead of the clock: the next request would wait for them. Those of the past count on."""
    pacing = sa.table(
        "api_pacing", sa.column("slots", pg.ARRAY(_TIME)), sa.column("blocked_until", _TIME), schema=schema
    )
    slot = sa.func.unnest(pacing.c.slots).column_valued("slot")
    past = sa.func.array(sa.select(slot).where(slot <= now).order_by(slot).scalar_subquery(), type_=pg.ARRAY(_TIME))
    is_ahead = sa.or_(pacing.c.blocked_until > now, sa.literal(now, _TIME) < sa.func.any(pacing.c.slots))
    return connection.execute(sa.update(pacing).values(slots=past, blocked_until=None).where(is_ahead)).rowcount


def _observed(connection: sa.Connection, schema: str) -> list[str]:
    """Our tables whose rows carry the time of their observation."""
    there = set(sa.inspect(connection).get_table_names(schema=schema))
    return [name for name, table in declared_tables().items() if OBSERVED_AT in table.columns and name in there]


def _times(connection: sa.Connection, schema: str) -> Iterator[tuple[str, str]]:
    """Every column that holds the time of an observation, by table. A span's beginning comes before its end."""
    there = set(sa.inspect(connection).get_table_names(schema=schema))
    for name in _observed(connection, schema):
        own = [column for column in ("deleted_at",) if column in declared_tables()[name].columns]
        yield from ((name, column) for column in (OBSERVED_AT, *own))
        if f"{name}_superseded" in there:
            yield from ((f"{name}_superseded", column) for column in (VALID_FROM, VALID_TO, *own))
