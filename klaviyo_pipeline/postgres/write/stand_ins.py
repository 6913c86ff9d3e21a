"""Stand-ins: the rows of children that were read at a revision of the API that has no ids for them.

A stand-in is the only child of its parent and has its parent's id. When a later revision returns the child's own id,
the row and its earlier states get that id: no row is deleted or added. If the earlier revision is used again, its child
updates that row, unless the parent has several children in the table. An id from a later revision is the child's own,
even if it equals the parent's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.tables import REVISION, DestinationTable
from klaviyo_pipeline.postgres.unnested import unnested

if TYPE_CHECKING:
    from klaviyo_pipeline.postgres.write.child_rows import Children


def settle_stand_ins(connection: sa.Connection, target: DestinationTable, children: Children) -> Children:
    """Match stand-ins with the children that have their own id, and return the children to write.

    If `children` have their own ids, the stand-ins in the table get them. If `children` are stand-ins, the table may
    already have children of the same parent with their own ids: a stand-in gets the id of the only one, and is left out
    if there are several.
    """
    if not len(children.frame):
        return children
    parents, ids = children.frame[children.table.parent_column], children.frame[children.table.id_column]
    is_parents_id = parents == ids
    if not children.table.are_stand_ins:
        named = dict(sorted(zip(parents, ids, strict=True), reverse=True))
        for parent in parents[is_parents_id]:
            named.pop(parent, None)
        if named:
            _rename(connection, target, children, named)
        return children
    known = _known(connection, target, children, list(ids[is_parents_id]))
    several = {parent for parent, known_ids in known.items() if len(known_ids) > 1}
    only = {parent: known_ids[0] for parent, known_ids in known.items() if len(known_ids) == 1}
    frame = children.frame[~(is_parents_id & ids.isin(list(several)))].copy()
    frame[children.table.id_column] = [
        only.get(id, id) if id == parent else id
        for parent, id in zip(frame[children.table.parent_column], frame[children.table.id_column], strict=True)
    ]
    observed = {
        parent: replace(one, ids=tuple(only.get(id, id) if id == parent else id for id in one.ids))
        for parent, one in children.observed.items()
    }
    return replace(children, frame=frame, observed=observed)


def _rename(connection: sa.Connection, target: DestinationTable, children: Children, named: Mapping[str, str]) -> None:
    """Give each parent's stand-in, and its earlier states, the id of the child."""
    table, id_column, parent_column = target.table, children.table.id_column, children.table.parent_column
    renamed = unnested("renamed", parent=(sa.Text(), list(named)), id=(sa.Text(), list(named.values())))
    is_other_revision = table.c[REVISION] != str(children.frame[REVISION].iloc[0])
    stand_ins = sa.and_(
        table.c[id_column].in_(sa.select(renamed.c.parent)),
        table.c[id_column] == table.c[parent_column],
        is_other_revision,
    )
    # Every writer locks rows in order of id, so that two writers cannot deadlock.
    found = sa.select(table.c[id_column]).where(stand_ins).order_by(table.c[id_column]).with_for_update()
    if not connection.execute(found).scalars().all():
        return
    other = table.alias("other")
    is_free = ~sa.exists().where(other.c[id_column] == renamed.c.id)
    done = connection.execute(
        sa.update(table)
        .values({id_column: renamed.c.id})
        .where(_is_stand_in(table, children, renamed.c.parent), is_other_revision, is_free)
        .returning(renamed.c.parent)
    )
    changed = list(done.scalars())
    if changed and target.superseded is not None:
        earlier = target.superseded
        connection.execute(
            sa.update(earlier)
            .values({id_column: renamed.c.id})
            .where(_is_stand_in(earlier, children, renamed.c.parent), renamed.c.parent.in_(changed))
        )


def _is_stand_in(table: sa.Table, children: Children, parent: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return sa.and_(table.c[children.table.id_column] == parent, table.c[children.table.parent_column] == parent)


def _known(
    connection: sa.Connection, target: DestinationTable, children: Children, parents: list[str]
) -> dict[str, list[str]]:
    """For each parent, the ids of the existing children that have an id of their own."""
    revision = str(children.frame[REVISION].iloc[0])
    table = target.table
    parent, id = table.c[children.table.parent_column], table.c[children.table.id_column]
    wanted = unnested("wanted", parent=(sa.Text(), parents))
    is_own = sa.or_(id != parent, table.c[REVISION] != revision)
    query = sa.select(parent, id).where(parent.in_(sa.select(wanted.c.parent)), is_own, table.c.deleted_at.is_(None))
    known: dict[str, list[str]] = {}
    for row in connection.execute(query):
        known.setdefault(row[0], []).append(row[1])
    return known
