"""The write path: COPY into a temporary table, then one set-based merge, inside the caller's transaction.

Why it is built this way:

- Unchanged rows are kept out of the upsert by an anti-join: `ON CONFLICT DO UPDATE … WHERE` alone locks, and so
  writes, every conflicting row even where it then changes nothing.
- The upsert is sorted by key, so that two writers of the same keys never wait for each other in a circle.
- The guard on `observed_at` stands in the conflict clause too: the anti-join sees the snapshot from before a
  concurrent writer committed, the conflict clause sees the row as it is.
- History is written by statements of their own, after the upsert has locked the rows: each then sees what a
  concurrent writer has committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from klaviyo_pipeline.postgres.tables import OBSERVED_AT, Target

WINDOW = "_window"
"""A frame's column, not a table's: the index of the sync window that the row was read for."""

STAGING = "klaviyo_staging"
CHANGED = "klaviyo_changed"

BINARY_TYPES = frozenset(
    {
        sa.TEXT, sa.VARCHAR, sa.INTEGER, sa.BIGINT, sa.SMALLINT, sa.NUMERIC, sa.DOUBLE_PRECISION, sa.REAL,
        sa.BOOLEAN, sa.DATE, pg.TIMESTAMP, pg.JSONB,
    }
)  # fmt: skip
"""Types that psycopg writes in the binary format whatever Python type stands for them; others are copied as text."""

ANALYZE_FROM_ROWS = 1_000
"""Below this, planning by default estimates costs less than gathering statistics."""


@dataclass
class Tally:
    """Rows inserted, updated and deleted."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.inserted + other.inserted, self.updated + other.updated, self.deleted + other.deleted)


Tallies = dict[int, Tally]
"""What a merge changed, by index of the sync window; rows without a window count under 0."""


@dataclass(frozen=True)
class DaySpan:
    """Days of a report, both ends inclusive, that a frame replaces as a whole, by the table's date `column`."""

    column: str
    first: date
    last: date
    asked_at: datetime
    window_of: Mapping[date, int] = field(default_factory=dict)


def merge(
    connection: sa.Connection,
    target: Target,
    frame: pd.DataFrame,
    *,
    ranked: Mapping[str, Sequence[str]] | None = None,
    replaces: DaySpan | None = None,
) -> Tallies:
    """Write `frame` into the table; return what changed. Runs in the caller's transaction.

    `frame` has some of the table's columns, all of its key among them, and may have a `_window` column. Of rows
    with the same key the latest observation wins, then the later row. `ranked` names columns of which several
    answers may be true at once, with the values in order of preference: the first preferred one is kept.
    `replaces` deletes the rows of these days that `frame` lacks.
    """
    frame = _latest(target, frame, ranked or {})
    if frame.empty and replaces is None:
        return {}
    stage = _stage(connection, target, frame)
    for column, order in (ranked or {}).items():
        _keep_preferred(connection, target, stage, column, order)
    changed = _changed_table(connection, target)
    tallies: Tallies = {}
    names = [name for name in target.written if name in frame.columns]
    if _upsert(connection, target, stage, changed, names, ranked or {}):
        tallies = _count(connection, changed)
        _write_history(connection, target, changed)
    if replaces is not None:
        for index, deleted in _delete_absent(connection, target, stage, replaces).items():
            tallies[index] = tallies.get(index, Tally()) + Tally(deleted=deleted)
    changed.drop(connection)
    stage.drop(connection)
    return tallies


def _latest(target: Target, frame: pd.DataFrame, ranked: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    key = list(target.key)
    unknown = set(frame.columns) - set(target.written) - {WINDOW}
    missing = set(key) - set(frame.columns)
    if unknown or missing:
        raise ValueError(
            f"the frame for {target.table.fullname} has unknown columns {sorted(unknown)} or lacks {sorted(missing)}"
        )
    if not frame.duplicated(key).any():
        return frame
    if target.is_observed:
        frame = frame.sort_values(OBSERVED_AT, kind="stable")
    last = frame.drop_duplicates(key, keep="last")
    for column, order in ranked.items():
        rank = [order.index(value) if value in order else len(order) for value in frame[column]]
        best = frame.assign(rank=rank).sort_values("rank", kind="stable").drop_duplicates(key, keep="first")
        last = last.drop(columns=column).merge(best[[*key, column]], on=key, how="left")
    return last


def _stage(connection: sa.Connection, target: Target, frame: pd.DataFrame) -> sa.Table:
    """A temporary table with the frame's rows; its columns have the target's own types and scales."""
    names = [name for name in target.written if name in frame.columns]
    stage = sa.Table(
        STAGING,
        sa.MetaData(),
        *(sa.Column(name, target.table.c[name].type) for name in names),
        sa.Column(WINDOW, sa.Integer),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )
    stage.create(connection)
    if len(frame):
        columns = [*names, WINDOW] if WINDOW in frame.columns else names
        _copy(connection, target, frame, columns)
        if len(frame) >= ANALYZE_FROM_ROWS:
            keys = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in target.key)
            connection.execute(sa.text(f"ANALYZE {STAGING} ({keys})"))
    return stage


def _copy(connection: sa.Connection, target: Target, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    types = [_type_of(target, name) for name in columns]
    binary = all(type(one) in BINARY_TYPES for one in types)
    statement = sql.SQL("COPY {} ({}) FROM STDIN {}").format(
        sql.Identifier(STAGING),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL("(FORMAT BINARY)" if binary else ""),
    )
    rows = zip(*(_values(frame[name], kind) for name, kind in zip(columns, types, strict=True)), strict=True)
    with raw.cursor() as cursor:
        oids = cursor.execute(
            "SELECT attname, atttypid FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
            [f"pg_temp.{STAGING}"],
        ).fetchall()
        by_name = dict(oids)
        with cursor.copy(statement) as copy:
            if binary:
                copy.set_types([by_name[name] for name in columns])
            for row in rows:
                copy.write_row(row)


def _type_of(target: Target, name: str) -> sa.types.TypeEngine[Any]:
    return target.table.c[name].type if name in target.table.columns else sa.INTEGER()


def _values(series: pd.Series[Any], kind: sa.types.TypeEngine[Any]) -> list[Any]:
    """A column's values as psycopg takes them: None for every kind of missing value.

    pandas turns whole numbers with gaps among them, and any figure, into floats: they are given the column's type.
    """
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return [None if value is pd.NaT else value.to_pydatetime() for value in series]
    values = series.astype(object).where(series.notna(), None).tolist()
    if isinstance(kind, pg.JSONB):
        return [None if value is None else Jsonb(value, dumps=json_text) for value in values]
    if isinstance(kind, sa.Integer):
        return [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    if isinstance(kind, sa.Numeric) and kind.asdecimal:
        return [Decimal(repr(float(value))) if isinstance(value, float) else value for value in values]
    return values


def _keep_preferred(
    connection: sa.Connection, target: Target, stage: sa.Table, column: str, order: Sequence[str]
) -> None:
    """Let the table's value stand where it is preferred to the frame's."""
    if column not in stage.columns:
        return
    connection.execute(
        sa.update(stage)
        .values({column: target.table.c[column]})
        .where(
            _same_key(target, target.table, stage),
            _rank(target.table.c[column], order) < _rank(stage.c[column], order),
        )
    )


def _rank(column: sa.ColumnElement[Any], order: Sequence[str]) -> sa.ColumnElement[int]:
    return sa.case({value: place for place, value in enumerate(order)}, value=column, else_=len(order))


def _changed_table(connection: sa.Connection, target: Target) -> sa.Table:
    changed = sa.Table(
        CHANGED,
        sa.MetaData(),
        *(sa.Column(name, target.table.c[name].type) for name in target.key),
        sa.Column("inserted", sa.Boolean),
        sa.Column(WINDOW, sa.Integer),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )
    changed.create(connection)
    return changed


def _upsert(
    connection: sa.Connection,
    target: Target,
    stage: sa.Table,
    changed: sa.Table,
    names: Sequence[str],
    ranked: Mapping[str, Sequence[str]],
) -> int:
    """Insert what is new and update what differs; note the keys in `changed`; return how many."""
    table, content = target.table, [name for name in target.content if name in names]
    fresh = sa.or_(
        table.c[target.key[0]].is_(None),
        _differ([stage.c[name] for name in content], [table.c[name] for name in content]),
    )
    source = (
        sa.select(*(stage.c[name] for name in names))
        .select_from(stage.outerjoin(table, _same_key(target, table, stage)))
        .where(fresh)
        .order_by(*(stage.c[name] for name in target.key))
    )
    insert = pg.insert(table).from_select(list(names), source)
    if content:
        allowed, values = _resolve(target, insert, names, {c: order for c, order in ranked.items() if c in content})
        insert = insert.on_conflict_do_update(
            index_elements=list(target.key),
            set_=values,
            where=sa.and_(allowed, _differ([values[name] for name in content], [table.c[name] for name in content])),
        )
    else:
        insert = insert.on_conflict_do_nothing(index_elements=list(target.key))
    # xmax is 0 for a row that this statement inserted, and this transaction's id for one that it updated.
    merged = insert.returning(
        *(table.c[name] for name in target.key), sa.literal_column("xmax = 0").label("inserted")
    ).cte("merged")
    noted = sa.select(*(merged.c[name] for name in target.key), merged.c.inserted, stage.c[WINDOW]).join_from(
        merged, stage, _same_key(target, merged, stage)
    )
    statement = sa.insert(changed).from_select([*target.key, "inserted", WINDOW], noted, include_defaults=False)
    return connection.execute(statement.add_cte(merged)).rowcount


def _resolve(
    target: Target, insert: pg.Insert, names: Sequence[str], ranked: Mapping[str, Sequence[str]]
) -> tuple[sa.ColumnElement[bool], dict[str, sa.ColumnElement[Any]]]:
    """Whether a row that exists may be replaced, and by which values.

    Pages are not always written in the order in which they were observed: a preferred value counts from an earlier
    observation too, and changes nothing else. That state then follows the row's own by a microsecond, the least
    that history can tell apart.
    """
    old, new = target.table.c, insert.excluded
    later = old[OBSERVED_AT] < new[OBSERVED_AT] if target.is_observed else sa.true()
    values: dict[str, sa.ColumnElement[Any]] = {name: new[name] for name in names if name not in target.key}
    if not ranked:
        return later, values
    better = {name: _rank(new[name], order) < _rank(old[name], order) for name, order in ranked.items()}
    worse = {name: _rank(new[name], order) > _rank(old[name], order) for name, order in ranked.items()}
    values = {name: sa.case((later, value), else_=old[name]) for name, value in values.items()}
    for name in ranked:
        values[name] = sa.case((better[name], new[name]), (worse[name], old[name]), else_=values[name])
    if target.is_observed:
        values[OBSERVED_AT] = sa.case(
            (later, new[OBSERVED_AT]), else_=old[OBSERVED_AT] + sa.text("interval '1 microsecond'")
        )
    return sa.or_(later, *better.values()), values


def _count(connection: sa.Connection, changed: sa.Table) -> Tallies:
    rows = connection.execute(
        sa.select(
            sa.func.coalesce(changed.c[WINDOW], 0),
            sa.func.count().filter(changed.c.inserted),
            sa.func.count().filter(sa.not_(changed.c.inserted)),
        ).group_by(sa.literal_column("1"))
    )
    return {index: Tally(inserted, updated) for index, inserted, updated in rows}


def _write_history(connection: sa.Connection, target: Target, changed: sa.Table) -> None:
    """Close the open row of every changed key and add the new state; both times are the observation's."""
    history, table = target.history, target.table
    if history is None:
        return
    connection.execute(
        sa.update(history)
        .values(valid_to=table.c[OBSERVED_AT])
        .where(
            _same_key(target, history, changed),
            _same_key(target, table, changed),
            history.c.valid_to.is_(None),
            sa.not_(changed.c.inserted),
        )
    )
    kept = [column.name for column in history.columns if column.name not in ("valid_from", "valid_to")]
    connection.execute(
        sa.insert(history).from_select(
            [*kept, "valid_from"],
            sa.select(*(table.c[name] for name in kept), table.c[OBSERVED_AT]).join_from(
                table, changed, _same_key(target, table, changed)
            ),
        )
    )


def _delete_absent(connection: sa.Connection, target: Target, stage: sa.Table, span: DaySpan) -> dict[int, int]:
    """Delete the rows of the span that the answer no longer has; close their history."""
    table, history = target.table, target.history
    gone = connection.execute(
        sa.delete(table)
        .where(
            table.c[span.column].between(span.first, span.last),
            ~sa.exists().where(_same_key(target, table, stage)),
        )
        .returning(table.c[span.column])
    ).scalars()
    counted: dict[int, int] = {}
    for day in gone:
        index = span.window_of.get(day, 0)
        counted[index] = counted.get(index, 0) + 1
    if counted and history is not None:
        connection.execute(
            sa.update(history)
            .values(valid_to=span.asked_at)
            .where(
                history.c[span.column].between(span.first, span.last),
                history.c.valid_to.is_(None),
                ~sa.exists().where(_same_key(target, table, history)),
            )
        )
    return counted


def _same_key(target: Target, left: sa.FromClause, right: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(*(left.c[name] == right.c[name] for name in target.key))


def _differ(left: Sequence[sa.ColumnElement[Any]], right: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    if not left:
        return sa.false()
    return sa.tuple_(*left).op("IS DISTINCT FROM")(sa.tuple_(*right))
