"""The statements of a merge from the staging table: add, lock, archive, update, delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.klaviyo.listing_revisions import OTHERWISE_STATED, SHARED_WORDS
from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT, REVISION, VALID_FROM, VALID_TO, DestinationTable
from klaviyo_pipeline.postgres.write.staging import REPLACES, WINDOW

if TYPE_CHECKING:
    from klaviyo_pipeline.postgres.write.merge import ReplaceRange

RAW = "raw"
"""The column with Klaviyo's whole object."""

RELATIONSHIPS: sa.ColumnElement[str] = sa.literal_column("'relationships'::text")
"""The field of an object with the ids of related objects. Not every answer contains it."""

ColumnPrecedence = tuple[tuple[str, tuple[str, ...]], ...]
"""The parameter `precedence` of `merge`, in a form that is hashable."""


def has_changes(
    connection: sa.Connection, target: DestinationTable, staged: sa.Table, precedence: ColumnPrecedence
) -> bool:
    """Whether any staged row is new or differs. If not, as in most repeated syncs, no row is added or updated."""
    return bool(connection.execute(_difference(target, staged, precedence)).scalar_one())


def add_new(connection: sa.Connection, target: DestinationTable, staged: sa.Table) -> Counter[int]:
    """Add the rows whose key the table lacks; return how many, by window.

    If a concurrent writer is adding a row with the same key, the statement waits for its commit. The next statement
    compares that row.
    """
    return Counter({row[0]: row[1] for row in connection.execute(_addition(target, staged))})


def lock_changed(
    connection: sa.Connection, target: DestinationTable, staged: sa.Table, precedence: ColumnPrecedence
) -> Counter[int]:
    """Lock the rows to update, and mark the staged rows that will replace them; return how many, by window."""
    if not _content(target, staged):
        return Counter()
    windows = connection.execute(_marking(target, staged, precedence)).scalars()
    return Counter(0 if window is None else window for window in windows)


def archive_previous(
    connection: sa.Connection, target: DestinationTable, staged: sa.Table, precedence: ColumnPrecedence
) -> None:
    """Copy the current state of the rows that will be updated to the table of earlier states."""
    if target.superseded is not None:
        connection.execute(_supersession(target, staged, precedence))


def update_marked(
    connection: sa.Connection, target: DestinationTable, staged: sa.Table, precedence: ColumnPrecedence
) -> None:
    """Update the locked rows from the marked staged rows."""
    connection.execute(_replacement(target, staged, precedence))


def delete_missing(
    connection: sa.Connection, target: DestinationTable, staged: sa.Table, span: ReplaceRange
) -> Counter[int]:
    """Archive and delete the rows of the days of `span` that are not staged; return how many, by window."""
    table = target.table
    gone = (
        sa.delete(table)
        .where(
            span.covers(table),
            ~sa.exists().where(_same_key(target, table, staged)),
        )
        .returning(*table.c)
        .cte("gone")
    )
    query = sa.select(gone.c[span.column])
    if target.superseded is not None:
        names = _kept(target)
        moments = (gone.c[OBSERVED_AT], sa.literal(span.asked_at, sa.DateTime(timezone=True)))
        kept = sa.insert(target.superseded).from_select(
            [*names, VALID_FROM, VALID_TO], sa.select(*(gone.c[name] for name in names), *moments)
        )
        query = query.add_cte(kept.cte("kept"))
    days = connection.execute(query).scalars()
    return Counter(span.window_of.get(day, 0) for day in days)


@lru_cache(maxsize=64)
def _difference(target: DestinationTable, staged: sa.Table, precedence: ColumnPrecedence) -> sa.Select[tuple[bool]]:
    table = target.table
    matched = staged.outerjoin(table, _same_key(target, table, staged))
    is_new = table.c[target.key[0]].is_(None)
    return sa.select(
        sa.exists(sa.select(1).select_from(matched).where(sa.or_(is_new, _replaceable(target, staged, precedence))))
    )


@lru_cache(maxsize=64)
def _addition(target: DestinationTable, staged: sa.Table) -> sa.Executable:
    table = target.table
    names = [name for name in target.written if name in staged.columns]
    source = (
        sa.select(*(staged.c[name] for name in names))
        .select_from(staged.outerjoin(table, _same_key(target, table, staged)))
        .where(table.c[target.key[0]].is_(None))
        .order_by(*_in_order(target, staged))
    )
    added = (
        pg.insert(table)
        .from_select(names, source)
        .on_conflict_do_nothing(index_elements=list(target.key))
        .returning(*(table.c[name] for name in target.key))
        .cte("added")
    )
    return (
        sa.select(sa.func.coalesce(staged.c[WINDOW], 0), sa.func.count())
        .select_from(added.join(staged, _same_key(target, added, staged)))
        .group_by(sa.literal_column("1"))
    )


@lru_cache(maxsize=64)
def _marking(target: DestinationTable, staged: sa.Table, precedence: ColumnPrecedence) -> sa.Update:
    table = target.table
    locked = (
        sa.select(*(staged.c[name] for name in target.key))
        .join_from(staged, table, _same_key(target, table, staged))
        .where(_replaceable(target, staged, precedence))
        .order_by(*_in_order(target, staged))
        # The key does not change, so that writers of child rows need not wait for this lock.
        .with_for_update(key_share=True, of=table)
        .cte("locked")
        .prefix_with("MATERIALIZED")
    )
    return (
        sa.update(staged)
        .values({REPLACES: True})
        .where(_same_key(target, locked, staged))
        .returning(staged.c[WINDOW])
        .add_cte(locked)
    )


@lru_cache(maxsize=64)
def _supersession(target: DestinationTable, staged: sa.Table, precedence: ColumnPrecedence) -> sa.Insert:
    assert target.superseded is not None
    table, names = target.table, _kept(target)
    _, values = _resolved(target, staged, precedence)
    source = (
        sa.select(*(table.c[name] for name in names), table.c[OBSERVED_AT], values[OBSERVED_AT])
        .join_from(table, staged, _same_key(target, table, staged))
        .where(staged.c[REPLACES], _is_other_state(target, staged, values))
    )
    return sa.insert(target.superseded).from_select([*names, VALID_FROM, VALID_TO], source)


@lru_cache(maxsize=64)
def _replacement(target: DestinationTable, staged: sa.Table, precedence: ColumnPrecedence) -> sa.Update:
    _, values = _resolved(target, staged, precedence)
    if target.is_observed:
        # A row keeps its state and observation time if it only gains the ids of related objects, or is only read at
        # another revision.
        is_other = _is_other_state(target, staged, values)
        values[OBSERVED_AT] = sa.case((is_other, values[OBSERVED_AT]), else_=target.table.c[OBSERVED_AT])
    return sa.update(target.table).values(values).where(_same_key(target, target.table, staged), staged.c[REPLACES])


def _replaceable(target: DestinationTable, staged: sa.Table, precedence: ColumnPrecedence) -> sa.ColumnElement[bool]:
    """Whether the staged row may replace the stored one, and has something new.

    It has another state, adds the ids of related objects, or was read at another revision.
    """
    content = _content(target, staged)
    if not content:
        return sa.false()
    allowed, values = _resolved(target, staged, precedence)
    compared = [*content, REVISION] if _has_revisions(target, staged) else content
    stored = [target.table.c[name] for name in compared]
    return sa.and_(
        allowed,
        _bytes_differ([staged.c[name] for name in compared], stored),
        sa.or_(
            _is_other_state(target, staged, values),
            _gains_relationships(target, staged, values),
            _is_other_revision(target, staged, values),
        ),
    )


def _is_other_state(
    target: DestinationTable, staged: sa.Table, values: Mapping[str, sa.ColumnElement[Any]]
) -> sa.ColumnElement[bool]:
    """Whether these values are another state than the stored row's."""
    differs = _differs(target, staged, values)
    if not _has_revisions(target, staged):
        return differs
    other = _is_other_revision(target, staged, values)
    return sa.case((other, _differs_between_revisions(target, staged, values)), else_=differs)


def _is_other_revision(
    target: DestinationTable, staged: sa.Table, values: Mapping[str, sa.ColumnElement[Any]]
) -> sa.ColumnElement[bool]:
    """Whether these values were read at another revision of the API than the stored row."""
    if not _has_revisions(target, staged):
        return sa.false()
    return values[REVISION].is_distinct_from(target.table.c[REVISION])


def _has_revisions(target: DestinationTable, staged: sa.Table) -> bool:
    return target.has_revisions and REVISION in staged.columns


def _differs_between_revisions(
    target: DestinationTable, staged: sa.Table, values: Mapping[str, sa.ColumnElement[Any]]
) -> sa.ColumnElement[bool]:
    """Whether `deleted_at` differs, or any column that both revisions fill with the same meaning.

    An attribute that one revision leaves out is NULL and is not compared. Empty texts, and values that only one
    revision has, are not compared either.
    """
    otherwise_stated = OTHERWISE_STATED.get(target.table.name, frozenset())
    shared_words = SHARED_WORDS.get(target.table.name, {})
    differences = [values[name].is_distinct_from(target.table.c[name]) for name in ("deleted_at",) if name in values]
    for name in _content(target, staged):
        old = target.table.c[name]
        if name in otherwise_stated or name == "deleted_at" or isinstance(old.type, pg.JSONB):
            continue
        new: sa.ColumnElement[Any] = values[name]
        if isinstance(old.type, sa.Text):
            words = shared_words.get(name)
            differences.append(_comparable(new, words) != _comparable(old, words))
        else:
            differences.append(new != old)
    # A comparison with NULL has no result, which counts as no difference.
    return sa.func.coalesce(sa.or_(*differences), sa.false())


def _comparable(text: sa.ColumnElement[Any], words: Collection[str] | None) -> sa.ColumnElement[Any]:
    """A text as it is compared between revisions; NULL if it is empty.

    `words` are the values that all revisions have. If they are given, only the part before a colon is compared, because
    older revisions write the reason of "Cancelled" after a colon. A part that is not among the words becomes NULL.
    """
    if words is None:
        return sa.func.nullif(text, "")
    word = sa.func.split_part(text, ":", 1)
    return sa.case((word.in_(sorted(words)), word))


def _differs(
    target: DestinationTable, staged: sa.Table, values: Mapping[str, sa.ColumnElement[Any]]
) -> sa.ColumnElement[bool]:
    """Whether any value differs from the stored row's. Relationships count only if both objects contain them."""
    pairs: list[tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]] = [
        (values[name], target.table.c[name]) for name in _content(target, staged)
    ]
    if _has_objects(target, staged):
        place = _content(target, staged).index(RAW)
        new, old = pairs[place]
        both = sa.and_(_has_relationships(new), _has_relationships(old))
        pairs[place] = (
            sa.case((both, new), else_=new.op("-")(RELATIONSHIPS)),
            sa.case((both, old), else_=old.op("-")(RELATIONSHIPS)),
        )
    return sa.tuple_(*(new for new, _ in pairs)).op("IS DISTINCT FROM", is_comparison=True)(
        sa.tuple_(*(old for _, old in pairs))
    )


def _gains_relationships(
    target: DestinationTable, staged: sa.Table, values: Mapping[str, sa.ColumnElement[Any]]
) -> sa.ColumnElement[bool]:
    if not _has_objects(target, staged):
        return sa.false()
    new, old = values[RAW], target.table.c[RAW]
    return sa.and_(_has_relationships(new), sa.not_(_has_relationships(old)))


def _has_relationships(raw: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return raw.op("?", return_type=sa.Boolean())(RELATIONSHIPS)


def _has_objects(target: DestinationTable, staged: sa.Table) -> bool:
    return RAW in staged.columns and isinstance(target.table.c[RAW].type, pg.JSONB)


def _resolved(
    target: DestinationTable, staged: sa.Table, precedence: ColumnPrecedence
) -> tuple[sa.ColumnElement[bool], dict[str, sa.ColumnElement[Any]]]:
    """Whether the stored row may be replaced, and by which values.

    Pages are not always written in the order of their observation. If the staged row is an earlier observation with a
    preferred value, only this value is taken. The new state then starts a microsecond after the stored one, which is
    the smallest difference that the history can record.
    """
    old, new = target.table.c, staged.c
    later = old[OBSERVED_AT] < new[OBSERVED_AT] if target.is_observed else sa.true()
    names = [name for name in target.written if name in staged.columns and name not in target.key]
    values: dict[str, sa.ColumnElement[Any]] = {name: new[name] for name in names}
    if not precedence:
        return later, values
    better = {name: _rank(new[name], order) < _rank(old[name], order) for name, order in precedence}
    worse = {name: _rank(new[name], order) > _rank(old[name], order) for name, order in precedence}
    values = {name: sa.case((later, value), else_=old[name]) for name, value in values.items()}
    for name, _ in precedence:
        values[name] = sa.case((better[name], new[name]), (worse[name], old[name]), else_=values[name])
    if target.is_observed:
        values[OBSERVED_AT] = sa.case(
            (later, new[OBSERVED_AT]), else_=old[OBSERVED_AT] + sa.text("interval '1 microsecond'")
        )
    return sa.or_(later, *better.values()), values


def _rank(column: sa.ColumnElement[Any], order: Sequence[str]) -> sa.ColumnElement[int]:
    return sa.case({value: place for place, value in enumerate(order)}, value=column, else_=len(order))


def _content(target: DestinationTable, staged: sa.Table) -> list[str]:
    return [name for name in target.content if name in staged.columns]


def _kept(target: DestinationTable) -> list[str]:
    """The columns that the table and its table of earlier states share."""
    assert target.superseded is not None
    return [column.name for column in target.superseded.columns if column.name not in (VALID_FROM, VALID_TO)]


def _same_key(target: DestinationTable, left: sa.FromClause, right: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(*(left.c[name] == right.c[name] for name in target.key))


def _in_order(target: DestinationTable, table: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """The key columns to order by. Texts are ordered by code point, so that all writers have the same order."""
    columns: Mapping[str, sa.ColumnElement[Any]] = {name: table.c[name] for name in target.key}
    return [sa.collate(one, "C") if isinstance(one.type, sa.Text) else one for one in columns.values()]


def _bytes_differ(
    left: Sequence[sa.ColumnElement[Any]], right: Sequence[sa.ColumnElement[Any]]
) -> sa.ColumnElement[bool]:
    """Whether the stored bytes differ. This quick test precedes the exact one, because JSON compares slowly.

    Equal values mostly have equal bytes, and equal bytes are always equal values.
    """
    return sa.func.record_image_ne(sa.func.row(*left), sa.func.row(*right), type_=sa.Boolean)
