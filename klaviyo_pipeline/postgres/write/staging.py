"""The staging table: a frame's rows in a temporary table, from which the merge reads."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pandas as pd
import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.tables import DestinationTable
from klaviyo_pipeline.postgres.write.copying import copy_rows

WINDOW = "_window"
"""A column of frames, not of tables: the index of the row's sync window."""

STAGING = "klaviyo_staging"
TEMPORARY = "pg_temp"
"""The schema of the staging table. Statements name it, so that they do not depend on the session's search path."""

REPLACES = "_replaces"
"""A column of the staging table: true for a row that will replace the row with its key in the table."""

ANALYZE_FROM_ROWS = 5_000
"""With fewer rows, the planner's default estimates are good enough, and ANALYZE costs more than it saves."""


def rows_by_window(frame: pd.DataFrame) -> Counter[int]:
    """How many rows the frame has for each window. Rows without a window count under 0."""
    if WINDOW not in frame.columns:
        return Counter({0: len(frame)} if len(frame) else {})
    return Counter(frame[WINDOW].tolist())


@lru_cache(maxsize=64)
def staging_table(target: DestinationTable, names: tuple[str, ...]) -> sa.Table:
    """The staging table for these columns: always the same object, so that statements on it are compiled once."""
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
    """Create the staging table and copy the frame's rows into it. Its columns have the types of the target's."""
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
