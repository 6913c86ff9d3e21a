"""A table as the writer needs it: its columns, its key and its table of earlier states.

Nothing here is specific to an entity: any table with a primary key can be written. In a table of the migrations only
the declared columns are read and written: a column that a user added is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.declarations import declared_tables


class NotMigrated(RuntimeError):
    """The account's schema lacks a table or column that a migration creates."""


OBSERVED_AT = "observed_at"
VALID_FROM, VALID_TO = "valid_from", "valid_to"
REVISION = "revision"
SYSTEM_COLUMNS = frozenset({OBSERVED_AT, REVISION})
"""Columns that say when and how a row came, not what it holds: they never make a row differ."""

RECIPE = 'see "Add a column" in docs/extend.md'


@dataclass(frozen=True)
class DestinationTable:
    """A table to write, as reflected from Postgres, and the table of its earlier states if there is one."""

    table: sa.Table
    superseded: sa.Table | None

    @cached_property
    def key(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.table.primary_key)

    @cached_property
    def written(self) -> tuple[str, ...]:
        """The columns that a frame may fill: all except generated ones."""
        return tuple(column.name for column in self.table.columns if column.computed is None)

    @cached_property
    def content(self) -> tuple[str, ...]:
        """The columns whose change makes a row differ."""
        return tuple(name for name in self.written if name not in {*self.key, *SYSTEM_COLUMNS})

    @property
    def is_observed(self) -> bool:
        return OBSERVED_AT in self.table.columns

    @property
    def has_revisions(self) -> bool:
        """Whether its rows are read at several revisions of the API."""
        return REVISION in self.table.columns


def reflect(
    connection: sa.Connection, schema: str, name: str, filled: Collection[str] = (), *, ours: bool = True
) -> DestinationTable:
    """Read the table from the catalog. Raises `NotMigrated` if it does not exist.

    `ours` says that the schema is an account's, where the migrations declare the tables.

    `filled` are the columns that every frame for the table fills. Raises `NotMigrated` also if the table or its table
    of earlier states lacks one of them, or if the migrations declare more: those would become NULL, and the history
    would get a state that Klaviyo never had.
    """
    metadata = sa.MetaData()
    # Otherwise Postgres may quote the names of types, which SQLAlchemy does not recognize.
    connection.exec_driver_sql("SET LOCAL quote_all_identifiers TO off")
    declared = declared_tables().get(name) if ours else None
    only: dict[str, Any] = {"include_columns": [*declared.columns, *filled, VALID_FROM, VALID_TO]} if declared else {}
    try:
        table = sa.Table(name, metadata, schema=schema, autoload_with=connection, resolve_fks=False, **only)
    except sa.exc.NoSuchTableError:
        if ours:
            remedy = "run `klaviyo-pipeline migrate` first."
        else:
            remedy = "create it, or name its primary_key in the asset's metadata to have the first write create it."
        raise NotMigrated(f'table "{schema}"."{name}" does not exist; {remedy}') from None
    if not table.primary_key.columns:
        raise ValueError(f'table "{schema}"."{name}" has no primary key; the writer needs one to merge rows.')
    target = DestinationTable(table, _superseded(connection, metadata, schema, name, only))
    if filled:
        _check_columns(target, set(filled))
    return target


def _superseded(
    connection: sa.Connection, metadata: sa.MetaData, schema: str, name: str, only: Mapping[str, Any]
) -> sa.Table | None:
    superseded = f"{name}_superseded"
    try:
        return sa.Table(superseded, metadata, schema=schema, autoload_with=connection, resolve_fks=False, **only)
    except sa.exc.NoSuchTableError:
        return None


def _check_columns(target: DestinationTable, filled: set[str]) -> None:
    """Raise `NotMigrated` if a table lacks one of these columns, or if a table with earlier states has others."""
    needed = {target.table: filled} | (
        {} if target.superseded is None else {target.superseded: filled - SYSTEM_COLUMNS}
    )
    for table, names in needed.items():
        if lacking := sorted(names - set(table.columns.keys())):
            raise NotMigrated(
                f'"{table.schema}"."{table.name}" lacks the column {", ".join(lacking)}; run `klaviyo-pipeline '
                f"migrate`, and if no file in sql/ adds it, {RECIPE}."
            )
    unknown = sorted(set(target.written) - filled)
    if unknown and target.superseded is not None:
        raise NotMigrated(
            f'"{target.table.schema}"."{target.table.name}" has the column {", ".join(unknown)}, which no declaration '
            f"fills; {RECIPE}."
        )
