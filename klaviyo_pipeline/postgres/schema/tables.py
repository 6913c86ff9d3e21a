"""A table as the writer needs it: its columns, its key and its table of earlier states.

Nothing here is specific to an entity: any table with a primary key can be written. In a table that a migration
created, only the declared columns are read and written. A column that a user added is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

from klaviyo_pipeline.postgres.schema.declarations import declared_tables


class NotMigrated(RuntimeError):
    """The account's schema lacks a table or column that a migration creates."""


OBSERVED_AT = "observed_at"
VALID_FROM, VALID_TO = "valid_from", "valid_to"
REVISION = "revision"
SYSTEM_COLUMNS = frozenset({OBSERVED_AT, REVISION})
"""Columns about when and how a row was read, not about its content. A new value in them is not a new state."""

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
        """The columns with the state of a row: another value in one of them is another state."""
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
    """Return the table as the catalog describes it. Raises `NotMigrated` if it does not exist.

    `ours` means that the schema is an account's: the migrations declare its tables, and its catalog is read only once
    for each engine.

    `filled` are the columns that every frame for the table fills. `NotMigrated` is also raised if the table or its
    table of earlier states lacks one of them, or if a table with earlier states has a declared column that is not among
    them. Such a column would become NULL, and the history would get a state that Klaviyo never had.
    """
    tables = _tables(connection, schema) if ours else _read(connection, schema)
    if name not in tables:
        remedy = "create it, or name its primary_key in the asset's metadata, so that the first write creates it."
        if ours:
            remedy = "run `klaviyo-pipeline migrate` first."
        raise NotMigrated(f'table "{schema}"."{name}" does not exist; {remedy}')
    if not tables[name].key:
        raise ValueError(f'table "{schema}"."{name}" has no primary key; the writer needs one to merge rows.')
    declared = declared_tables().get(name) if ours else None
    only = {*declared.columns, *filled, VALID_FROM, VALID_TO} if declared else None
    superseded = tables.get(f"{name}_superseded")
    target = DestinationTable(tables[name].table(only), superseded.table(only) if superseded else None)
    if filled:
        _check_columns(target, set(filled))
    return target


@dataclass(frozen=True)
class _Reflected:
    """A table as the catalog describes it: its columns, and the names of its key columns, in order."""

    schema: str
    name: str
    columns: Sequence[ReflectedColumn]
    key: Sequence[str]
    made: dict[tuple[str, ...], sa.Table] = field(default_factory=dict)

    def table(self, names: Collection[str] | None) -> sa.Table:
        """Return the table with the columns in `names`, or with all columns if `names` is None.

        The same names return the same object, because SQLAlchemy compiles statements again for a new table object.
        """
        columns = [one for one in self.columns if names is None or one["name"] in names]
        there = tuple(column["name"] for column in columns)
        if there not in self.made:
            parts = (*map(_column, columns), sa.PrimaryKeyConstraint(*self.key))
            self.made[there] = sa.Table(self.name, sa.MetaData(), *parts, schema=self.schema)
        return self.made[there]


def _column(reflected: ReflectedColumn) -> sa.Column[Any]:
    computed = [sa.Computed(reflected["computed"]["sqltext"])] if "computed" in reflected else []
    return sa.Column(reflected["name"], reflected["type"], *computed, nullable=reflected["nullable"])


_known: WeakKeyDictionary[sa.Engine, dict[str, dict[str, _Reflected]]] = WeakKeyDictionary()
"""The tables of each schema that was read through an engine. Tables do not change while a run has an engine open."""


def _tables(connection: sa.Connection, schema: str) -> dict[str, _Reflected]:
    """All tables of an account's schema. The catalog is read only once for each engine."""
    known = _known.setdefault(connection.engine, {})
    if schema not in known:
        known[schema] = _read(connection, schema)
    return known[schema]


def _read(connection: sa.Connection, schema: str) -> dict[str, _Reflected]:
    """All tables of the schema, read in a few queries. To read one table alone takes eight queries."""
    # If this setting is on, Postgres quotes the names of types, and SQLAlchemy does not recognize them.
    connection.exec_driver_sql("SET LOCAL quote_all_identifiers TO off")
    inspector = sa.inspect(connection)
    keys = inspector.get_multi_pk_constraint(schema)
    return {
        name: _Reflected(schema, name, columns, keys[of, name]["constrained_columns"])
        for (of, name), columns in inspector.get_multi_columns(schema).items()
    }


def _check_columns(target: DestinationTable, filled: set[str]) -> None:
    """Raise `NotMigrated` if a table lacks one of these columns, or has others although it has earlier states."""
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
