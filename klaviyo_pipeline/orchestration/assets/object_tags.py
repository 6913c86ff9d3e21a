"""Collects the tags of objects for the next batch."""

from __future__ import annotations

from datetime import UTC, datetime

from klaviyo_pipeline.klaviyo.records import ID, REQUEST_VALUE, Column, Record
from klaviyo_pipeline.klaviyo.tags import OBJECT_TAGS, TAGS
from klaviyo_pipeline.orchestration.assets.child_frames import tag_pairs
from klaviyo_pipeline.orchestration.assets.frames import record_frame
from klaviyo_pipeline.postgres.write.child_rows import Children, ObservedChildren, Rows

PAIR = (
    Column("entity", REQUEST_VALUE, "text"),
    Column("object_id", REQUEST_VALUE, "text"),
    Column("tag_id", ID, "text"),
)

UNSEEN = datetime(1970, 1, 1, tzinfo=UTC)
"""Observation time of a tag whose name is not known. Every real observation is later and replaces the tag."""


class TagBuffer:
    """The tags of a batch's objects. If an object was read more than once, the latest observation counts."""

    def __init__(self, entity: str) -> None:
        self._entity = entity
        self._observed: dict[str, ObservedChildren] = {}
        self._tags: dict[str, tuple[dict[str, object], datetime]] = {}

    def __len__(self) -> int:
        return sum(len(observed.ids) for observed in self._observed.values())

    def add(self, record: Record, observed_at: datetime) -> None:
        """Add the tags of this object, if the response contains them."""
        seen = record.children.get(OBJECT_TAGS.table)
        if seen is None:
            return
        before = self._observed.get(record.id)
        if before is None or before.observed_at <= observed_at:
            self._observed[record.id] = ObservedChildren(observed_at, seen.ids)
        for tag in seen.records:
            if tag.id not in self._tags or self._tags[tag.id][1] <= observed_at:
                self._tags[tag.id] = tag.values, observed_at

    def take(self) -> list[Children]:
        """Return the added tags, and empty the buffer.

        If the response contains only the id of a tag that the table lacks, the tag is stored without a name. The census
        of the tags adds the name.
        """
        observed, tags = self._observed, self._tags
        self._observed, self._tags = {}, {}
        if not observed:
            return []
        pairs = [
            ({"entity": self._entity, "object_id": id, "tag_id": tag}, one.observed_at)
            for id, one in observed.items()
            for tag in one.ids
        ]
        unseen = {tag for one in observed.values() for tag in one.ids} - tags.keys()
        tags |= {id: ({"id": id, "name": None, "raw": {"id": id, "type": "tag"}}, UNSEEN) for id in unseen}
        rows = record_frame(TAGS.columns, [values for values, _ in tags.values()], [at for _, at in tags.values()])
        frame = record_frame(PAIR, [pair for pair, _ in pairs], [at for _, at in pairs])
        return [Children(tag_pairs(self._entity), frame, observed, Rows(TAGS.entity, rows))]
