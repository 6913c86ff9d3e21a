"""What a migration made, as the writer needs it: columns, key, earlier states.

Nothing here is particular to an entity: any table with a primary key can be written. Of a table that the migrations
declare only the declared columns are read and written: a column that somebody added is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.declarations import declared_tables


class NotMigrated(RuntimeError):
    """The account's schema lacks a table that a migration makes."""


OBSERVED_AT = "observed_at"
VALID_FROM, VALID_TO = "valid_from", "valid_to"
REVISION = "revision"
SYSTEM_COLUMNS = frozenset({OBSERVED_AT, REVISION})
"""Columns that say when and how a row came, not what it holds: they never make a row differ."""

RECIPE = 'see "Add a column" in docs/extend.md'


@dataclass(frozen=True)
class DestinationTable:
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
        return tuple(name for name in self.written if name not in {*self.key, *SYSTEM_COLUMNS})

    @property
    def is_observed(self) -> bool:
        return OBSERVED_AT in self.table.columns

    @property
    def has_revisions(self) -> bool:
        """Whether its rows are read at several revisions of the API."""
        return REVISION in self.table.columns


def reflect(connection: sa.Connection, schema: str, name: str, filled: Collection[str] = ()) -> DestinationTable:
    """Read the table from the catalog. Raises `NotMigrated` where there is none.

    `filled` are the columns that every frame for it fills. Raises `NotMigrated` as well where the table, or that of its
    earlier states, lacks one of them, or the migrations declare others: a row would get NULL there, and a state would
    be added that Klaviyo never had.
    """
    metadata = sa.MetaData()
    # Or Postgres quotes the names of types, which nobody recognizes then.
    connection.exec_driver_sql("SET LOCAL quote_all_identifiers TO off")
    declared = declared_tables().get(name)
    ours: dict[str, Any] = {"include_columns": [*declared.columns, *filled, VALID_FROM, VALID_TO]} if declared else {}
    try:
        table = sa.Table(name, metadata, schema=schema, autoload_with=connection, resolve_fks=False, **ours)
    except sa.exc.NoSuchTableError:
        raise NotMigrated(f'there is no table "{schema}"."{name}"; run `klaviyo-pipeline migrate` first.') from None
    if not table.primary_key.columns:
        raise ValueError(f'table "{schema}"."{name}" has no primary key: the writer needs one to merge by.')
    target = DestinationTable(table, _superseded(connection, metadata, schema, name, ours))
    if filled:
        _check_columns(target, set(filled))
    return target


def _superseded(
    connection: sa.Connection, metadata: sa.MetaData, schema: str, name: str, ours: Mapping[str, Any]
) -> sa.Table | None:
    superseded = f"{name}_superseded"
    try:
        return sa.Table(superseded, metadata, schema=schema, autoload_with=connection, resolve_fks=False, **ours)
    except sa.exc.NoSuchTableError:
        return None


def _check_columns(target: DestinationTable, filled: set[str]) -> None:
    """Raises `NotMigrated` where a table lacks one of these columns, or one with earlier states has others."""
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
