"""The repository of an entity: reads its rows by id, name, status, trigger type and date, and changes them.

Writes use the same merge as a sync, so that they too keep the history and the order of observations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.engine import in_transaction
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.schema.system_tables import system_table
from klaviyo_pipeline.postgres.schema.tables import DestinationTable, reflect
from klaviyo_pipeline.postgres.unnested import unnested
from klaviyo_pipeline.postgres.write.child_rows import Children, ChildTable, ChildWriter
from klaviyo_pipeline.postgres.write.merge import merge

Row = dict[str, Any]

MISS_TTL = timedelta(days=1)
"""An id that Klaviyo answered with 404 is not requested again for this long."""

BATCH_ROWS = 1_000


class UnknownFilter(ValueError):
    """The entity does not have the column to filter by."""


@dataclass(frozen=True)
class Criteria:
    """The rows to list: exact values of columns, and a half-open range [since, before) of `updated_at`.

    Deleted rows are listed only if `deleted` is true.
    """

    name: str | None = None
    status: str | None = None
    trigger_type: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    deleted: bool = False


class EntityRepository:
    """The rows of one entity in one account's schema; `children` are the tables of its child rows.

    `filled` are the columns that the saved frames fill (see `reflect`).
    """

    def __init__(
        self,
        engine: sa.Engine,
        schema: str,
        entity: str,
        precedence: Mapping[str, Sequence[str]],
        children: Sequence[ChildTable] = (),
        filled: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self._schema = schema
        self._entity = entity
        self._precedence = precedence
        self._child_tables = children
        self._children = ChildWriter(schema)
        self._filled = filled

    @cached_property
    def _target(self) -> DestinationTable:
        with self._engine.connect() as connection:
            return reflect(connection, self._schema, self._entity, self._filled)

    def get(self, id: str) -> Row | None:
        """The row with this id, deleted or not; None if the table lacks it."""
        table = self._target.table
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(table).where(table.c.id == id)).mappings().first()
        return dict(row) if row is not None else None

    def page(self, criteria: Criteria, *, limit: int, after: str | None = None) -> list[Row]:
        """At most `limit` rows in order of id, starting after the id `after`."""
        table = self._target.table
        query = self._matching(sa.select(table), criteria).order_by(table.c.id).limit(limit)
        if after is not None:
            query = query.where(table.c.id > after)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def batches(self, criteria: Criteria, *, rows: int = BATCH_ROWS) -> Iterator[list[Row]]:
        """Yield all matching rows in order of id, in batches of `rows`."""
        after = None
        while page := self.page(criteria, limit=rows, after=after):
            yield page
            after = page[-1]["id"]

    def count(self, criteria: Criteria, *, by: str | None = None) -> dict[Any, int]:
        """How many rows match, for each value of the column `by`; without a column, `{None: n}`."""
        table = self._target.table
        group = self._column(by) if by else sa.null()
        query = self._matching(sa.select(group, sa.func.count()).select_from(table), criteria)
        if by:
            query = query.group_by(group)
        with self._engine.connect() as connection:
            return {value: rows for value, rows, *_ in connection.execute(query).all()}

    def absent(self, ids: Sequence[str]) -> list[str]:
        """The ids that the table lacks, except those that Klaviyo answered with 404 within the last day."""
        table, misses = self._target.table, self._misses
        wanted = unnested("wanted", id=(sa.Text(), list(ids)))
        query = (
            sa.select(wanted.c.id)
            .where(~sa.exists().where(table.c.id == wanted.c.id))
            .where(
                ~sa.exists().where(
                    misses.c.entity == self._entity,
                    misses.c.id == wanted.c.id,
                    misses.c.missed_at > sa.func.now() - MISS_TTL,
                )
            )
            .order_by(wanted.c.id)
        )
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def moments(self, column: str, ids: Sequence[str]) -> dict[str, datetime]:
        """The time in this column for each of these ids. Rows without a time are left out."""
        table = self._target.table
        wanted = unnested("wanted", id=(sa.Text(), list(ids)))
        query = sa.select(table.c.id, self._column(column)).where(
            table.c.id.in_(sa.select(wanted.c.id)), self._column(column).is_not(None)
        )
        with self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def save(self, frame: pd.DataFrame, children: Sequence[Children] = ()) -> RowCounts:
        """Create or update rows and their child rows, from one observation."""

        def write(connection: sa.Connection) -> RowCounts:
            counts_by_window = merge(connection, self._target, frame, precedence=self._precedence)
            self._children.write(connection, children)
            return sum(counts_by_window.values(), RowCounts())

        return in_transaction(self._engine, write)

    def delete(self, ids: Sequence[str], observed_at: datetime) -> int:
        """Mark these rows as deleted at `observed_at`, with their child rows; return how many rows changed.

        Rows that are already deleted, or that were observed later, do not change. A delete is an observation: the next
        census or lookup restores the objects that Klaviyo still has.
        """
        table = self._target.table
        query = (
            sa.select(*(table.c[name] for name in self._target.written))
            .where(table.c.id.in_(list(ids)), table.c.deleted_at.is_(None))
            .order_by(table.c.id)  # in the order of the merge, so that two writers cannot deadlock
            # The key does not change, so that writers of child rows need not wait for this lock.
            .with_for_update(key_share=True)
        )

        def mark(connection: sa.Connection) -> int:
            rows = [dict(row) for row in connection.execute(query).mappings()]
            if not rows:
                return 0
            frame = pd.DataFrame(rows, dtype=object).assign(deleted_at=observed_at, observed_at=observed_at)
            counts_by_window = merge(connection, self._target, frame)
            self._children.forget(connection, self._child_tables, {row["id"]: observed_at for row in rows})
            return sum(counts_by_window.values(), RowCounts()).updated

        return in_transaction(self._engine, mark)

    def remember_miss(self, id: str, missed_at: datetime) -> None:
        """Cache that Klaviyo answered 404 for this id."""
        insert = pg.insert(self._misses).values(entity=self._entity, id=id, missed_at=missed_at)
        upsert = insert.on_conflict_do_update(
            index_elements=["entity", "id"], set_={"missed_at": insert.excluded.missed_at}
        )
        in_transaction(self._engine, lambda connection: connection.execute(upsert))

    @property
    def _misses(self) -> sa.TableClause:
        return system_table(self._schema, "lookup_misses")

    def _matching(self, query: sa.Select[Any], criteria: Criteria) -> sa.Select[Any]:
        for name in ("name", "status", "trigger_type"):
            value = getattr(criteria, name)
            if value is not None:
                query = query.where(self._column(name) == value)
        updated = self._target.table.c.updated_at
        if criteria.since is not None:
            query = query.where(updated >= criteria.since)
        if criteria.before is not None:
            query = query.where(updated < criteria.before)
        if not criteria.deleted:
            query = query.where(self._target.table.c.deleted_at.is_(None))
        return query

    def _column(self, name: str) -> sa.ColumnElement[Any]:
        if name not in self._target.table.columns:
            raise UnknownFilter(f"{self._entity} have no {name.replace('_', ' ')} to filter by.")
        return self._target.table.c[name]
