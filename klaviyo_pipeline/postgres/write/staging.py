"""A frame's rows in a temporary table: what a merge with rows that are there starts from."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pandas as pd
import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.tables import DestinationTable
from klaviyo_pipeline.postgres.write.copying import copy_rows

WINDOW = "_window"
"""A frame's column, not a table's: the index of the sync window that the row was read for."""

STAGING = "klaviyo_staging"
TEMPORARY = "pg_temp"
"""The schema is named, as for any table: nothing depends on the session's search path."""

REPLACES = "_replaces"
"""True for a staged row that is to replace the one in the table."""

ANALYZE_FROM_ROWS = 5_000
"""Below this, plans by default estimates are as good, and statistics cost more than they save."""


def rows_by_window(frame: pd.DataFrame) -> Counter[int]:
    """How many rows the frame has for each window; rows without one count under 0."""
    if WINDOW not in frame.columns:
        return Counter({0: len(frame)} if len(frame) else {})
    return Counter(frame[WINDOW].tolist())


@lru_cache(maxsize=64)
def staging_table(target: DestinationTable, names: tuple[str, ...]) -> sa.Table:
    """The temporary table for these columns; always the same object, so that statements on it are compiled once."""
    return sa.Table(
        STAGING,
        sa.MetaData(),
        *(sa.Column(name, target.table.c[name].type) for name in names),
        sa.Column(WINDOW, sa.INTEGER),
        sa.Column(REPLACES, sa.BOOLEAN),
        schema=TEMPORARY,
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )


def stage(connection: sa.Connection, target: DestinationTable, frame: pd.DataFrame) -> sa.Table:
    """A temporary table with the frame's rows; its columns have the target's own types and scales."""
    names = tuple(name for name in target.written if name in frame.columns)
    table = staging_table(target, names)
    table.create(connection)
    if len(frame):
        columns = [*names, WINDOW] if WINDOW in frame.columns else names
        copy_rows(connection, table, frame, columns)
        if len(frame) >= ANALYZE_FROM_ROWS:
            keys = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in target.key)
            connection.execute(sa.text(f"ANALYZE {TEMPORARY}.{STAGING} ({keys})"))
    return table
