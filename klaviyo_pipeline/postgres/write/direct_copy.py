"""Copies rows that are all new straight into their table, without a staging table."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import pandas as pd
import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.schema.tables import DestinationTable
from klaviyo_pipeline.postgres.write.copying import copy_rows

if TYPE_CHECKING:
    from klaviyo_pipeline.postgres.write.merge import ReplaceRange


def insert_if_all_new(
    connection: sa.Connection, target: DestinationTable, frame: pd.DataFrame, span: ReplaceRange | None
) -> bool:
    """Add the rows if the table has none of their keys, and return whether they were added.

    With `span`, the rows are added if the table has no rows at all in the days of `span`. If a concurrent writer adds
    one of the rows first, or a row violates a constraint, nothing is added. The merge that follows handles the former,
    and raises the error of the latter.
    """
    if _are_known(connection, target, frame, span):
        return False
    key = list(target.key)
    # Every writer adds rows in order of the key, so that two writers of the same rows cannot deadlock.
    rows = frame.sort_values(key) if len(frame) else frame
    columns = [name for name in target.written if name in frame.columns]
    savepoint = connection.begin_nested()
    try:
        copy_rows(connection, target.table, rows, columns)
    except psycopg.IntegrityError:
        # Other errors are not caught: rolling back to the savepoint would hide a lost connection.
        savepoint.rollback()
        return False
    savepoint.commit()
    return True


def _are_known(
    connection: sa.Connection, target: DestinationTable, frame: pd.DataFrame, span: ReplaceRange | None
) -> bool:
    if span is not None:
        query = sa.select(sa.exists().where(span.covers(target.table)))
        return bool(connection.execute(query).scalar_one())
    # If any row is stored already, the first one usually is: checking this row alone mostly saves checking all.
    return any(
        connection.execute(_any_of(target), {name: rows[name].tolist() for name in target.key}).scalar_one()
        for rows in (frame.iloc[:1], frame)
    )


@lru_cache(maxsize=64)
def _any_of(target: DestinationTable) -> sa.Select[tuple[bool]]:
    """The query that checks whether the table has one of the given keys. Each key column is passed as an array."""
    types = {name: target.table.c[name].type for name in target.key}
    arrays = [sa.bindparam(name, type_=pg.ARRAY(kind)) for name, kind in types.items()]
    given = (
        sa.func.unnest(*arrays)
        .table_valued(*(sa.column(name, kind) for name, kind in types.items()))
        .render_derived(name="given")
    )
    same = sa.and_(*(given.c[name] == target.table.c[name] for name in target.key))
    return sa.select(sa.exists(sa.select(1).select_from(given.join(target.table, same))))
