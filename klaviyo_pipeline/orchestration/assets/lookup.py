"""Lookup by id, database first: the table, then the API for what it lacks, and what that brought is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.revisions import listing_at
from klaviyo_pipeline.orchestration.assets.child_frames import child_tables
from klaviyo_pipeline.orchestration.assets.entity_assets import RowBuffer
from klaviyo_pipeline.orchestration.assets.frames import filled_columns
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.postgres.write.repositories import EntityRepository, Row


@dataclass(frozen=True)
class Lookup:
    """Looks up the objects of one entity."""

    session: Session
    entity: Listing

    @cached_property
    def listing(self) -> Listing:
        """How the account's revision lists the entity."""
        return listing_at(self.session.account.revision, self.entity)

    @cached_property
    def repository(self) -> EntityRepository:
        """The entity's; one for all objects, since each reads the catalog."""
        return repository(self.session.engine, self.session.account.slug, self.listing)

    def get(self, id: str) -> Row | None:
        """The row of this id; asked of Klaviyo, and stored, where the table lacks it. None where nobody has it."""
        row = self.repository.get(id)
        if row is None and self.repository.absent([id]):
            self.ask(id)
            row = self.repository.get(id)
        return row

    def fill(self, ids: Sequence[str]) -> tuple[int, int]:
        """Fetch those of `ids` that the table lacks; return how many were stored, and how many Klaviyo lacks too."""
        stored = missed = 0
        for id in self.repository.absent(ids):
            if self.ask(id):
                stored += 1
            else:
                missed += 1
        return stored, missed

    def ask(self, id: str) -> bool:
        """Ask Klaviyo for this id and store the answer: the object, or that there is none."""
        found = self.session.client.get(self.listing, id)
        if found.record is None:
            if not self.repository.delete([id], found.observed_at):
                self.repository.remember_miss(id, found.observed_at)
            return False
        buffer = RowBuffer(self.listing)
        buffer.add(found.record, found.observed_at)
        batch = buffer.batch(windowed=False)
        self.repository.save(batch.frame, batch.children)
        return True


def repository(engine: sa.Engine, schema: str, listing: Listing) -> EntityRepository:
    """The repository of this entity in one account's schema."""
    return EntityRepository(
        engine,
        schema,
        listing.entity,
        listing.precedence,
        child_tables(listing),
        filled_columns(listing.columns),
    )
