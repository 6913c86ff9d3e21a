"""Lookup by id: first in the table, then in the API. Objects that the API returns are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.listings import Listing
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
        """The entity's listing at the account's revision of the API."""
        return listing_at(self.session.account.revision, self.entity)

    @cached_property
    def repository(self) -> EntityRepository:
        """The entity's repository. It is kept, because a new repository reads the database's catalog again."""
        return repository(self.session.engine, self.session.account.slug, self.listing)

    def get(self, id: str) -> Row | None:
        """The row with this id; None if neither the table nor Klaviyo has the object.

        An object that the table lacks is requested from Klaviyo and stored, unless a lookup of the last day returned
        404.
        """
        row = self.repository.get(id)
        if row is None and self.repository.absent([id]):
            self.fetch(id)
            row = self.repository.get(id)
        return row

    def fill(self, ids: Sequence[str]) -> tuple[int, int]:
        """Fetch the objects that the table lacks, except those that were not found (404) within the last day.

        Return how many objects were stored and how many were not found.
        """
        stored = missed = 0
        for id in self.repository.absent(ids):
            if self.fetch(id):
                stored += 1
            else:
                missed += 1
        return stored, missed

    def fetch(self, id: str) -> bool:
        """Fetch the object with this id. Store it, or record that it does not exist. Return whether it exists."""
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
