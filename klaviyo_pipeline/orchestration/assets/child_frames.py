"""What hangs on an entity's objects, on its way into the next batch: records as frames, with what each parent named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from klaviyo_pipeline.klaviyo.children import ChildKind
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.records import Children as Shown
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.klaviyo.tags import OBJECT_TAGS, TAGGED, TAGS
from klaviyo_pipeline.orchestration.assets.frames import record_frame
from klaviyo_pipeline.postgres.write.child_rows import Children, ChildTable, Said


class PendingChildren:
    """The children of a batch's objects. Of a parent that came more than once, the latest observation counts."""

    def __init__(self, entity: str, kinds: Iterable[ChildKind]) -> None:
        self._tables = list(_tables(entity, kinds))
        self._shown: dict[str, dict[str, tuple[datetime, Shown]]] = {kind.table: {} for kind, _ in self._tables}

    def __len__(self) -> int:
        return sum(len(shown.records) for parents in self._shown.values() for _, shown in parents.values())

    def add(self, record: Record, observed_at: datetime) -> None:
        """Take the children of this object, and theirs."""
        for table, parents in self._shown.items():
            shown = record.children.get(table)
            if shown is None:
                continue
            before = parents.get(record.id)
            if before is None or before[0] <= observed_at:
                parents[record.id] = observed_at, shown
            for child in shown.records:
                self.add(child, observed_at)

    def take(self) -> list[Children]:
        """What has been added, parents before their children; and nothing is pending any more."""
        taken = []
        for kind, table in self._tables:
            parents, self._shown[kind.table] = self._shown[kind.table], {}
            children = [(child.values, at) for at, shown in parents.values() for child in shown.records]
            frame = record_frame(kind.columns, [values for values, _ in children], [at for _, at in children])
            said = {id: Said(at, shown.ids) for id, (at, shown) in parents.items()}
            taken.append(Children(table, frame, said))
        return taken


def tag_pairs(entity: str) -> ChildTable:
    """Where the tags of this entity's objects stand."""
    return ChildTable(OBJECT_TAGS.table, entity, OBJECT_TAGS.parent_column, "tag_id", {"entity": entity})


def child_tables(listing: Listing) -> list[ChildTable]:
    """The tables of everything that hangs on this entity's objects, parents before their children."""
    if listing is TAGS:
        return [ChildTable(OBJECT_TAGS.table, TAGS.entity, "tag_id", OBJECT_TAGS.parent_column)]
    tags = [tag_pairs(listing.entity)] if listing.entity in TAGGED else []
    return [*(table for _, table in _tables(listing.entity, listing.children)), *tags]


def _tables(parent: str, kinds: Iterable[ChildKind]) -> Iterator[tuple[ChildKind, ChildTable]]:
    for kind in kinds:
        yield kind, ChildTable(kind.table, parent, kind.parent_column)
        yield from _tables(kind.table, kind.children)
