"""What a migration made, as the writer needs it: columns, key, earlier states.

Nothing here is particular to an entity: any table with a primary key can be written. Of a table that the migrations
declare only the declared columns are read and written: a column that somebody added is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.postgres.declarations import declared_tables
from klaviyo_pipeline.postgres.engine import NotMigrated
from klaviyo_pipeline.settings import SQL_DIR

OBSERVED_AT = "observed_at"
VALID_FROM, VALID_TO = "valid_from", "valid_to"
BOOKKEEPING = frozenset({OBSERVED_AT})
"""Columns that say when and how a row came, not what it holds: they never make a row differ."""


@dataclass(frozen=True)
class Target:
    """A table to write: its columns as Postgres has them, and that of its earlier states if there is one."""

    table: sa.Table
    superseded: sa.Table | None

    @cached_property
    def key(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.table.primary_key)

    @cached_property
    def written(self) -> tuple[str, ...]:
        """The columns that a frame may fill: all but the generated ones."""
        return tuple(column.name for column in self.table.columns if column.computed is None)

    @cached_property
    def content(self) -> tuple[str, ...]:
        """The columns whose change makes a row differ."""
        return tuple(name for name in self.written if name not in {*self.key, *BOOKKEEPING})

    @property
    def is_observed(self) -> bool:
        return OBSERVED_AT in self.table.columns


def reflect(connection: sa.Connection, schema: str, name: str) -> Target:
    """Read the table from the catalog. Raises `NotMigrated` where it, or the table of its earlier states, is not."""
    metadata = sa.MetaData()
    # Or Postgres quotes the names of types, which nobody recognizes then.
    connection.exec_driver_sql("SET LOCAL quote_all_identifiers TO off")
    declared = declared_tables(SQL_DIR).get(name)
    ours = {"include_columns": [*declared.columns, VALID_FROM, VALID_TO]} if declared else {}
    try:
        table = sa.Table(name, metadata, schema=schema, autoload_with=connection, resolve_fks=False, **ours)
    except sa.exc.NoSuchTableError:
        raise NotMigrated(f'there is no table "{schema}"."{name}"; run `klaviyo-pipeline migrate` first.') from None
    if not table.primary_key.columns:
        raise ValueError(f'table "{schema}"."{name}" has no primary key: the writer needs one to merge by.')
    return Target(table, _superseded(connection, metadata, schema, name, ours))


def _superseded(
    connection: sa.Connection, metadata: sa.MetaData, schema: str, name: str, ours: Mapping[str, Any]
) -> sa.Table | None:
    superseded, catalog = f"{name}_superseded", sa.inspect(connection)
    if not catalog.has_table(superseded, schema=schema):
        # A history that is a table holds the present too: written to without it, the table would lose states silently.
        if f"{name}_history" in catalog.get_table_names(schema=schema):
            raise NotMigrated(
                f'"{schema}"."{name}_history" is a table, and earlier states belong into "{name}_superseded" now; run '
                "`klaviyo-pipeline migrate` first. For a table of your own, see docs/upgrade.md."
            )
        return None
    return sa.Table(superseded, metadata, schema=schema, autoload_with=connection, resolve_fks=False, **ours)
