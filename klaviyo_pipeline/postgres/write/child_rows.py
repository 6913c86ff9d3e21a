"""Child rows: written with their parents, and marked deleted when their parent no longer lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd
import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT, REVISION, DestinationTable, reflect
from klaviyo_pipeline.postgres.unnested import unnested
from klaviyo_pipeline.postgres.write.merge import merge
from klaviyo_pipeline.postgres.write.stand_ins import settle_stand_ins


@dataclass(frozen=True)
class ChildTable:
    """A table whose rows are children of rows in the table `parent`.

    `parent_column` has the parent's id, `id_column` identifies a child within its parent. `fixed` are columns with the
    same value in all rows of these parents. `has_stand_ins` and `are_stand_ins` are explained in `ChildKind`.
    """

    name: str
    parent: str
    parent_column: str
    id_column: str = "id"
    fixed: Mapping[str, str] = field(default_factory=dict)
    has_stand_ins: bool = False
    are_stand_ins: bool = False


@dataclass(frozen=True)
class ObservedChildren:
    """The ids of the children that a parent listed, and the time of this observation (UTC).

    `revision` is the revision of the API, if revisions list different children. A child that was read at another
    revision and is not listed does not count as deleted, because this revision may be unable to return it.
    """

    observed_at: datetime
    ids: tuple[str, ...] = ()
    revision: str | None = None


@dataclass(frozen=True)
class Rows:
    """Rows of a table whose rows have no parent."""

    table: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class Children:
    """Children to write: `frame` has columns of their table; `observed` has the ids that each parent listed.

    `refers_to` are the rows of another table that the children reference. They are written first.
    """

    table: ChildTable
    frame: pd.DataFrame
    observed: Mapping[str, ObservedChildren]
    refers_to: Rows | None = None


@dataclass(frozen=True)
class ChildWriter:
    """Writes children in the caller's transaction, after their parents."""

    schema: str
    _targets: dict[tuple[str, tuple[str, ...]], DestinationTable] = field(default_factory=dict)

    def write(self, connection: sa.Connection, children: Sequence[Children]) -> None:
        """Merge the rows, parents before their children, and mark the children that are no longer listed as deleted.

        A listed child without a row in the frame does not change. Nor does a child that was observed later.
        """
        self._write(connection, children, {})

    def forget(self, connection: sa.Connection, tables: Sequence[ChildTable], gone: Mapping[str, datetime]) -> None:
        """Mark the children of deleted objects as deleted. `gone` has the time of each deletion, by the object's id.

        `tables` begin with the table of the direct children; each other table follows its parents' table.
        """
        if not tables:
            return
        observed = {tables[0].parent: {id: ObservedChildren(moment) for id, moment in gone.items()}}
        self._write(connection, [Children(table, pd.DataFrame(), {}) for table in tables], observed)

    def _write(
        self, connection: sa.Connection, children: Sequence[Children], gone: dict[str, dict[str, ObservedChildren]]
    ) -> None:
        for one in children:
            if one.refers_to is not None and len(one.refers_to.frame):
                others = one.refers_to
                merge(connection, self._target(connection, others.table, others.frame), others.frame)
            target = self._target(connection, one.table.name, one.frame)
            if one.table.has_stand_ins:
                one = settle_stand_ins(connection, target, one)
            if len(one.frame):
                merge(connection, target, one.frame)
            # The children of a deleted child are deleted too.
            observed = {**one.observed, **gone.get(one.table.parent, {})}
            absent = _absent(connection, target, one.table, observed) if observed else pd.DataFrame()
            if len(absent):
                merge(connection, target, absent)
                gone[one.table.name] = {
                    row[one.table.id_column]: ObservedChildren(row[OBSERVED_AT]) for row in absent.to_dict("records")
                }

    def _target(self, connection: sa.Connection, name: str, frame: pd.DataFrame) -> DestinationTable:
        filled = tuple(frame.columns)
        key = name, filled
        if key not in self._targets:
            self._targets[key] = reflect(connection, self.schema, name, filled)
        return self._targets[key]


def _absent(
    connection: sa.Connection, target: DestinationTable, table: ChildTable, observed: Mapping[str, ObservedChildren]
) -> pd.DataFrame:
    """The rows that their parents did not list, with the time when the parent was observed as `deleted_at`."""
    columns = target.table.c
    parents = unnested(
        "parents",
        parent=(sa.Text(), list(observed)),
        observed_at=(sa.DateTime(timezone=True), [one.observed_at for one in observed.values()]),
        revision=(sa.Text(), [one.revision for one in observed.values()]),
    )
    pairs = [(parent, id) for parent, one in observed.items() for id in one.ids]
    listed = unnested(
        "listed",
        parent=(sa.Text(), [parent for parent, _ in pairs]),
        child=(sa.Text(), [id for _, id in pairs]),
    )
    query = (
        sa.select(*(columns[name] for name in target.written), parents.c.observed_at.label("gone_at"))
        .join_from(target.table, parents, columns[table.parent_column] == parents.c.parent)
        .where(
            columns.deleted_at.is_(None),
            columns[OBSERVED_AT] < parents.c.observed_at,
            *(columns[name] == value for name, value in table.fixed.items()),
            ~sa.exists().where(
                listed.c.parent == columns[table.parent_column], listed.c.child == columns[table.id_column]
            ),
        )
    )
    if target.has_revisions:
        is_judged = sa.or_(parents.c.revision.is_(None), columns[REVISION] == parents.c.revision)
        is_stand_in = columns[table.id_column] == columns[table.parent_column] if table.has_stand_ins else sa.false()
        query = query.where(sa.or_(is_judged, is_stand_in))
    rows = [dict(row) for row in connection.execute(query).mappings()]
    gone_at = [row.pop("gone_at") for row in rows]
    return pd.DataFrame(rows, dtype=object).assign(deleted_at=gone_at, observed_at=gone_at)
