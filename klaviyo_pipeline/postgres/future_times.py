"""Stored times in the future, written while the database's clock was ahead, and how to repair them.

The later observation wins. A row that was observed "tomorrow" therefore wins over every observation until then, and
a window that was requested "tomorrow" counts as done although it has not ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.engine import database_now
from klaviyo_pipeline.postgres.schema.declarations import declared_tables
from klaviyo_pipeline.postgres.schema.system_tables import system_table
from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT, VALID_FROM, VALID_TO
from klaviyo_pipeline.postgres.unnested import unnested

TOLERATED = timedelta(seconds=5)
"""Times that are ahead by less are not counted: they will soon be in the past. After a failover, the clock of the new
server may be this far behind that of the old one."""

REQUEST_TIMES = {
    "sync_windows": "asked_at",
    "census_runs": "started_at",
    "lookup_misses": "missed_at",
    "conversion_refusals": "refused_at",
    "exact_answers": "asked_at",
}
"""The tables that record requests to Klaviyo, each with the column of the request's time."""

REMEDY = (
    "Check that the database's clock is correct now, run `klaviyo-pipeline reset-clock`, then `klaviyo-pipeline sync` "
    "and `klaviyo-pipeline sync census`"
)

_TIME = sa.DateTime(timezone=True)


def ahead_of_clock(connection: sa.Connection, schema: str) -> dict[str, int]:
    """How many rows of each table have a time ahead of the clock. Tables without such rows are left out."""
    tables = {**dict.fromkeys(_observed(connection, schema), OBSERVED_AT), **REQUEST_TIMES}
    counts = {name: _count(connection, schema, name, column) for name, column in tables.items()}
    return {name: rows for name, rows in counts.items() if rows}


def rows_ahead(connection: sa.Connection, schema: str, name: str) -> int:
    """How many rows are ahead of the clock: those of this table, plus those of its windows in the ledger."""
    windows = sa.column("entity") == name
    return _count(connection, schema, name, OBSERVED_AT) + _count(
        connection, schema, "sync_windows", REQUEST_TIMES["sync_windows"], windows
    )


def _count(connection: sa.Connection, schema: str, name: str, column: str, *which: sa.ColumnElement[bool]) -> int:
    table = sa.table(name, schema=schema)
    ahead = sa.column(column) > sa.func.clock_timestamp() + TOLERATED
    return connection.execute(sa.select(sa.func.count()).select_from(table).where(ahead, *which)).scalar_one()


def reset_clock(connection: sa.Connection, schema: str) -> dict[str, int]:
    """Move future observation times to just before now, and delete the records of requests in the future.

    A row whose observation time is in the future was in fact observed before now. The corrected times are the last
    microseconds before now, in the same order. Windows and censuses whose records are deleted are due again. Returns
    the number of changed rows by table.
    """
    now = database_now(connection)
    columns = [
        (sa.table(table, sa.column(column, _TIME), schema=schema), column)
        for table, column in _times(connection, schema)
    ]
    ahead = sa.union(
        *(sa.select(table.c[column].label("moment")).where(table.c[column] > now) for table, column in columns)
    )
    moments = sorted(connection.execute(ahead).scalars())
    corrected = [now - timedelta(microseconds=len(moments) - place) for place in range(len(moments))]
    given = unnested("given", moment=(_TIME, moments), corrected=(_TIME, corrected))
    changed: dict[str, int] = {}
    for table, column in columns if moments else ():
        update = sa.update(table).values({column: given.c.corrected}).where(table.c[column] == given.c.moment)
        changed[table.name] = max(changed.get(table.name, 0), connection.execute(update).rowcount)
    for name, column in REQUEST_TIMES.items():
        table = sa.table(name, sa.column(column), schema=schema)
        changed[name] = connection.execute(sa.delete(table).where(table.c[column] > now)).rowcount
    changed["api_pacing"] = _free_slots(connection, schema, now)
    return {name: rows for name, rows in changed.items() if rows}


def _free_slots(connection: sa.Connection, schema: str, now: datetime) -> int:
    """Delete the request slots and blocks ahead of the clock, for which the next request would wait.

    Past slots stay, because they count toward the rates. Returns the number of changed endpoints.
    """
    pacing = system_table(schema, "api_pacing")
    slot = sa.func.unnest(pacing.c.slots).column_valued("slot")
    past = sa.func.array(sa.select(slot).where(slot <= now).order_by(slot).scalar_subquery(), type_=pg.ARRAY(_TIME))
    is_ahead = sa.or_(pacing.c.blocked_until > now, sa.literal(now, _TIME) < sa.func.any(pacing.c.slots))
    return connection.execute(sa.update(pacing).values(slots=past, blocked_until=None).where(is_ahead)).rowcount


def _observed(connection: sa.Connection, schema: str) -> list[str]:
    """The declared tables that exist in the schema and have observation times."""
    existing = set(sa.inspect(connection).get_table_names(schema=schema))
    return [name for name, table in declared_tables().items() if OBSERVED_AT in table.columns and name in existing]


def _times(connection: sa.Connection, schema: str) -> Iterator[tuple[str, str]]:
    """Yield each table and column with observation times.

    `valid_from` comes before `valid_to`: if both are moved back in this order, `valid_to` stays the later one.
    """
    existing = set(sa.inspect(connection).get_table_names(schema=schema))
    for name in _observed(connection, schema):
        own = [column for column in ("deleted_at",) if column in declared_tables()[name].columns]
        yield from ((name, column) for column in (OBSERVED_AT, *own))
        if f"{name}_superseded" in existing:
            yield from ((f"{name}_superseded", column) for column in (VALID_FROM, VALID_TO, *own))
