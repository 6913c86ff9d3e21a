"""Collects the children of an entity's objects for the next batch: their rows, and the child ids of each parent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from klaviyo_pipeline.klaviyo.children import ChildKind
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.records import Children as SeenChildren
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.klaviyo.tags import OBJECT_TAGS, TAGGED, TAGS
from klaviyo_pipeline.orchestration.assets.frames import record_frame
from klaviyo_pipeline.postgres.write.child_rows import Children, ChildTable, ObservedChildren


class ChildBuffer:
    """The children of a batch's objects. If a parent was read more than once, the latest observation counts."""

    def __init__(self, entity: str, kinds: Iterable[ChildKind]) -> None:
        self._tables = list(_tables(entity, kinds))
        self._seen: dict[str, dict[str, tuple[datetime, SeenChildren]]] = {kind.table: {} for kind, _ in self._tables}

    def __len__(self) -> int:
        return sum(len(seen.records) for parents in self._seen.values() for _, seen in parents.values())

    def add(self, record: Record, observed_at: datetime) -> None:
        """Add the children of this object and, in turn, the children of each child."""
        for table, parents in self._seen.items():
            seen = record.children.get(table)
            if seen is None:
                continue
            before = parents.get(record.id)
            if before is None or before[0] <= observed_at:
                parents[record.id] = observed_at, seen
            for child in seen.records:
                self.add(child, observed_at)

    def take(self) -> list[Children]:
        """Return the added children, with parents before their own children, and empty the buffer."""
        taken = []
        for kind, table in self._tables:
            parents, self._seen[kind.table] = self._seen[kind.table], {}
            children = [(child.values, at) for at, seen in parents.values() for child in seen.records]
            frame = record_frame(kind.columns, [values for values, _ in children], [at for _, at in children])
            observed = {id: ObservedChildren(at, seen.ids, kind.shape.revision) for id, (at, seen) in parents.items()}
            taken.append(Children(table, frame, observed))
        return taken


def tag_pairs(entity: str) -> ChildTable:
    """The table that assigns tags to this entity's objects, as a child table of the entity."""
    return ChildTable(OBJECT_TAGS.table, entity, OBJECT_TAGS.parent_column, "tag_id", {"entity": entity})


def child_tables(listing: Listing) -> list[ChildTable]:
    """The tables of all children of this entity's objects, parents before their children."""
    if listing is TAGS:
        return [ChildTable(OBJECT_TAGS.table, TAGS.entity, "tag_id", OBJECT_TAGS.parent_column)]
    tags = [tag_pairs(listing.entity)] if listing.entity in TAGGED else []
    return [*(table for _, table in _tables(listing.entity, listing.children)), *tags]


def _tables(parent: str, kinds: Iterable[ChildKind]) -> Iterator[tuple[ChildKind, ChildTable]]:
    for kind in kinds:
        yield (
            kind,
            ChildTable(
                kind.table,
                parent,
                kind.parent_column,
                has_stand_ins=kind.has_stand_ins,
                are_stand_ins=kind.are_stand_ins,
            ),
        )
        yield from _tables(kind.table, kind.children)
