"""Creates the table of an asset at its first write, with column types that fit the frame."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.schema.tables import DestinationTable

BIGINTS = range(-(2**63), 2**63)


class UnfitFrame(ValueError):
    """A frame does not fit its table, or no table can be created for it. Nothing was written."""


def table_for(schema: str, name: str, frame: pd.DataFrame, key: Sequence[str]) -> DestinationTable:
    """The table that `create` creates for this frame. Raises `UnfitFrame` if the type of a column is not clear."""
    if absent := [column for column in key if column not in frame.columns]:
        raise UnfitFrame(f'the frame for "{schema}"."{name}" lacks the column {", ".join(absent)} of its primary_key.')
    columns = [
        sa.Column(str(column), _type(f'"{schema}"."{name}"', str(column), frame[column]), primary_key=column in key)
        for column in frame.columns
    ]
    for column in columns:
        column.autoincrement = False
    return DestinationTable(sa.Table(name, sa.MetaData(), *columns, schema=schema), superseded=None)


def create(connection: sa.Connection, target: DestinationTable) -> None:
    """Create the table and its schema in the caller's transaction, unless they exist. Concurrent runs take turns."""
    table = target.table
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(table.fullname, 0))))
    exists = sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
    # Not IF NOT EXISTS: that needs the right to create a schema even if it exists.
    if connection.execute(exists, {"name": table.schema}).first() is None:
        connection.execute(sa.schema.CreateSchema(str(table.schema)))
    table.create(connection, checkfirst=True)


def _type(table: str, name: str, values: pd.Series[Any]) -> sa.types.TypeEngine[Any]:
    dtype = values.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pg.TIMESTAMP(timezone=True)
    if pd.api.types.is_bool_dtype(dtype) and not isinstance(dtype, pd.CategoricalDtype):
        return sa.BOOLEAN()
    if pd.api.types.is_integer_dtype(dtype):
        return sa.BIGINT()
    if pd.api.types.is_float_dtype(dtype):
        return sa.DOUBLE_PRECISION()
    if pd.api.types.is_datetime64_dtype(dtype):
        return pg.TIMESTAMP(timezone=False)
    if isinstance(dtype, pd.StringDtype):
        return sa.TEXT()
    return _type_of_values(table, name, values)


def _type_of_values(table: str, name: str, values: pd.Series[Any]) -> sa.types.TypeEngine[Any]:
    """The Postgres type for a column of Python objects. An integer too large for bigint makes the column numeric."""
    present = [value for value in values.tolist() if isinstance(value, dict | list) or not pd.isna(value)]
    kinds = {_kind(value) for value in present}
    if kinds <= {"bigint", "numeric"} and kinds:
        return sa.BIGINT() if kinds == {"bigint"} else sa.NUMERIC()
    if kinds <= {"bigint", "double precision"} and kinds:
        return sa.DOUBLE_PRECISION()
    if len(kinds) == 1 and (kind := _TYPES.get(kinds.pop())):
        return kind
    found = ", ".join(sorted({type(value).__name__ for value in present})) or "no value"
    raise UnfitFrame(
        f"the column {name} of the frame for {table} contains {found}, so its type in Postgres is not clear: give the "
        "column one type, or create the table yourself."
    )


_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "text": sa.TEXT(),
    "boolean": sa.BOOLEAN(),
    "timestamptz": pg.TIMESTAMP(timezone=True),
    "timestamp": pg.TIMESTAMP(timezone=False),
    "date": sa.DATE(),
    "jsonb": pg.JSONB(),
}


def _kind(value: object) -> str:
    """The Postgres type of one value; empty if it has none."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "bigint" if value in BIGINTS else "numeric"
    if isinstance(value, datetime):
        return "timestamp" if value.tzinfo is None else "timestamptz"
    kinds = {float: "double precision", Decimal: "numeric", str: "text", date: "date", dict: "jsonb", list: "jsonb"}
    return next((kind for of, kind in kinds.items() if isinstance(value, of)), "")
