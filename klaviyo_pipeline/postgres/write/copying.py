"""Copies a frame's rows into a table with COPY, in the format that is fastest for the types of its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, cast

import pandas as pd
import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.engine import json_text

BINARY_TYPES: Mapping[type[sa.types.TypeEngine[Any]], str] = {
    sa.TEXT: "text",
    sa.VARCHAR: "text",
    sa.INTEGER: "int4",
    sa.BIGINT: "int8",
    sa.SMALLINT: "int2",
    sa.DOUBLE_PRECISION: "float8",
    sa.REAL: "float4",
    sa.BOOLEAN: "bool",
    sa.DATE: "date",
    pg.TIMESTAMP: "timestamptz",
    pg.JSONB: "bytea",
    pg.ARRAY: "text[]",
}
"""Types that are copied in the binary format, each with psycopg's name. A frame with any other type is copied as text.

This module encodes JSON itself (the wire format is a version byte and the text), because psycopg would take twice as
long. `numeric` is left out, because psycopg encodes a Decimal digit by digit, which takes three times as long as text.
"""

PLAIN_TYPES = frozenset({type(None), str, bool, int, Decimal, date, datetime, dict, list})
"""Python types that psycopg takes unchanged. Apart from None, only a Decimal can be a missing value (NaN)."""

JSONB_VERSION = b"\x01"


def copy_rows(connection: sa.Connection, table: sa.Table, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Add the frame's rows to the table, in the frame's order. Raises psycopg's errors."""
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    types = [table.c[name].type for name in columns]
    binary = all(map(_is_binary, types))
    statement = sql.SQL("COPY {} ({}) FROM STDIN {}").format(
        sql.Identifier(*([table.schema] if table.schema else []), table.name),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL("(FORMAT BINARY)" if binary else ""),
    )
    encode = _binary_document if binary else _text_document
    rows = zip(*(_values(frame[name], kind, encode) for name, kind in zip(columns, types, strict=True)), strict=True)
    try:
        with raw.cursor() as cursor, cursor.copy(statement) as copy:
            if binary:
                copy.set_types([BINARY_TYPES[type(one)] for one in types])
            for row in rows:
                copy.write_row(row)
    except psycopg.Error:
        if raw.closed:
            # Otherwise SQLAlchemy would roll back on the closed connection, and that error would hide this one.
            connection.invalidate()
        raise


def _is_binary(kind: sa.types.TypeEngine[Any]) -> bool:
    if isinstance(kind, pg.TIMESTAMP) and not kind.timezone:
        return False
    if isinstance(kind, pg.ARRAY) and not isinstance(kind.item_type, sa.TEXT):
        return False
    return type(kind) in BINARY_TYPES


def _binary_document(value: object) -> bytes:
    return JSONB_VERSION + json_text(value)


def _text_document(value: object) -> Jsonb:
    return Jsonb(value, dumps=json_text)


def _values(
    series: pd.Series[Any], kind: sa.types.TypeEngine[Any], encode: Callable[[object], bytes | Jsonb]
) -> Iterable[Any]:
    """A column's values for psycopg, with None for every kind of missing value.

    JSON is encoded lazily, while the server reads the previous rows. pandas may store integers and decimals as floats;
    such values are converted to the column's type.
    """
    values = _moments(series) if isinstance(series.dtype, pd.DatetimeTZDtype) else series.tolist()
    if not _are_plain(values):
        values = series.astype(object).where(series.notna(), None).tolist()
    if isinstance(kind, pg.JSONB):
        return (None if value is None else encode(value) for value in values)
    if isinstance(kind, sa.Integer):
        return [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    if isinstance(kind, sa.Numeric) and kind.asdecimal and not set(map(type, values)) <= PLAIN_TYPES:
        return [Decimal(repr(float(value))) if isinstance(value, float) else value for value in values]
    return values


def _moments(series: pd.Series[Any]) -> list[datetime | None]:
    moments = cast("list[datetime | None]", pd.DatetimeIndex(series).to_pydatetime().tolist())
    if not series.hasnans:
        return moments
    return [moment if kept else None for moment, kept in zip(moments, series.notna(), strict=True)]


def _are_plain(values: Sequence[Any]) -> bool:
    """Whether None is the only missing value. Checking types, and only Decimals by value, is ten times as fast as
    pandas' own check."""
    kinds = set(map(type, values))
    if not kinds <= PLAIN_TYPES:
        return False
    return Decimal not in kinds or not any(value.is_nan() for value in values if type(value) is Decimal)
