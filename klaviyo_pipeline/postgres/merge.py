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
from functools import lru_cache
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.staging import STAGING, WINDOW, stage
from klaviyo_pipeline.postgres.tables import OBSERVED_AT, Target

CHANGED = "klaviyo_changed"

Ranked = tuple[tuple[str, tuple[str, ...]], ...]
"""`ranked` of `merge`, hashable."""


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
    preferences = tuple((column, tuple(order)) for column, order in (ranked or {}).items() if column in frame.columns)
    frame = _latest(target, frame, preferences)
    if frame.empty and replaces is None:
        return {}
    staged, changed = stage(connection, target, frame), _changed_table(target)
    for column, order in preferences:
        _keep_preferred(connection, target, staged, column, order)
    changed.create(connection)
    tallies: Tallies = {}
    # SQLAlchemy tells no row count of an INSERT … SELECT unless it is asked to.
    upsert = _upsert(target, staged, preferences).execution_options(preserve_rowcount=True)
    if connection.execute(upsert).rowcount:
        tallies = _count(connection, changed)
        for statement in _history_statements(target):
            connection.execute(statement)
    if replaces is not None:
        for index, deleted in _delete_absent(connection, target, staged, replaces).items():
            tallies[index] = tallies.get(index, Tally()) + Tally(deleted=deleted)
    connection.exec_driver_sql(f"DROP TABLE {CHANGED}, {STAGING}")
    return tallies


def _latest(target: Target, frame: pd.DataFrame, ranked: Ranked) -> pd.DataFrame:
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
    for column, order in ranked:
        rank = [order.index(value) if value in order else len(order) for value in frame[column]]
        best = frame.assign(rank=rank).sort_values("rank", kind="stable").drop_duplicates(key, keep="first")
        last = last.drop(columns=column).merge(best[[*key, column]], on=key, how="left")
    return last


def _keep_preferred(
    connection: sa.Connection, target: Target, stage: sa.Table, column: str, order: Sequence[str]
) -> None:
    """Let the table's value stand where it is preferred to the frame's."""
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


@lru_cache(maxsize=64)
def _changed_table(target: Target) -> sa.Table:
    return sa.Table(
        CHANGED,
        sa.MetaData(),
        *(sa.Column(name, target.table.c[name].type) for name in target.key),
        sa.Column("inserted", sa.Boolean),
        sa.Column(WINDOW, sa.Integer),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )


@lru_cache(maxsize=64)
def _upsert(target: Target, stage: sa.Table, ranked: Ranked) -> sa.Insert:
    """Insert what is new and update what differs, and note the keys as changed."""
    table, changed = target.table, _changed_table(target)
    names = [name for name in target.written if name in stage.columns]
    content = [name for name in target.content if name in names]
    fresh = sa.or_(
        table.c[target.key[0]].is_(None),
        sa.and_(
            _look_different([stage.c[name] for name in content], [table.c[name] for name in content]),
            _differ([stage.c[name] for name in content], [table.c[name] for name in content]),
        ),
    )
    source = (
        sa.select(*(stage.c[name] for name in names))
        .select_from(stage.outerjoin(table, _same_key(target, table, stage)))
        .where(fresh)
        .order_by(*(stage.c[name] for name in target.key))
    )
    insert = pg.insert(table).from_select(list(names), source)
    if content:
        allowed, values = _resolve(target, insert, names, dict(ranked))
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
    return statement.add_cte(merged)


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


@lru_cache(maxsize=64)
def _history_statements(target: Target) -> Sequence[sa.Executable]:
    """Close the open row of every changed key, then add the new state; both times are the observation's."""
    history, table, changed = target.history, target.table, _changed_table(target)
    if history is None:
        return ()
    close = (
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
    add = sa.insert(history).from_select(
        [*kept, "valid_from"],
        sa.select(*(table.c[name] for name in kept), table.c[OBSERVED_AT]).join_from(
            table, changed, _same_key(target, table, changed)
        ),
    )
    return close, add


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


def _look_different(
    left: Sequence[sa.ColumnElement[Any]], right: Sequence[sa.ColumnElement[Any]]
) -> sa.ColumnElement[bool]:
    """Whether the stored bytes differ: equal values mostly have equal ones, and documents are slow to compare."""
    return sa.func.record_image_ne(sa.func.row(*left), sa.func.row(*right), type_=sa.Boolean)


def _differ(left: Sequence[sa.ColumnElement[Any]], right: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    if not left:
        return sa.false()
    return sa.tuple_(*left).op("IS DISTINCT FROM")(sa.tuple_(*right))
