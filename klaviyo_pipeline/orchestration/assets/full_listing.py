"""The full listings of an entity, page by page, with the tags of its objects if the key has access to them.

Tags may require the scope `tags:read` in addition to the entity's own scope. If the key lacks that scope, the entity is
synced without tags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.klaviyo.errors import Forbidden, MissingScope, NotFound
from klaviyo_pipeline.klaviyo.listing_pages import Page
from klaviyo_pipeline.klaviyo.listing_query import ListingQuery
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.klaviyo.tags import OBJECT_TAGS, with_tags
from klaviyo_pipeline.orchestration.assets.concurrent_reading import CONCURRENT_LISTINGS, read_concurrently
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session

Queries = tuple[ListingQuery, ListingQuery]
"""A query for objects without their tags, and the same query with their tags."""


@dataclass
class FullListing:
    """Reads all listings of an entity once. `without_tags` counts the objects whose response contains no tags data."""

    session: Session
    listing: Listing
    without_tags: int = 0
    _refusal: Forbidden | None = None

    @property
    def why_not_tags(self) -> str | None:
        """Why the key has no access to tags; None if it has access, or if no request was refused yet."""
        if isinstance(self._refusal, MissingScope):
            return f"the key lacks {', '.join(self._refusal.scopes)}"
        return None if self._refusal is None else str(self._refusal)

    def pages(self) -> Iterator[Page]:
        """Every page of every listing, read concurrently. Raises `Forbidden` if the key has no access to the entity."""
        if self.listing.parent is not None:
            yield from self._of_parents(self.listing.parent)
            return
        tagged, now = self._tagged, self.session.now()
        queries = list(zip(self.listing.queries(None, None, now), tagged.queries(None, None, now), strict=True))
        for item in read_concurrently(queries, self._read, workers=CONCURRENT_LISTINGS, stop=self.session.stop):
            if item.page is not None:
                self.without_tags += sum(map(_lacks_tags, item.page.records))
                yield item.page

    def _of_parents(self, parent: Listing) -> Iterator[Page]:
        """For each parent, the pages of its children. A parent that was deleted after it was listed has no pages."""
        client, now = self.session.client, self.session.now()
        parents, requests = list[str](), 0
        for query in parent.queries(None, None, now):
            for page in client.pages(parent, query):
                parents += [record.id for record in page.records]
                requests += page.requests

        def read(id: str) -> Iterator[Page]:
            own = self.listing.of_parent(id)
            try:
                yield from client.pages(own, own.queries(None, None, now)[0])
            except NotFound as error:
                if not error.denies(id):
                    raise

        unread = list(dict.fromkeys(parents))
        yield Page([], now, requests)
        for item in read_concurrently(unread, read, workers=CONCURRENT_LISTINGS, stop=self.session.stop):
            if item.page is not None:
                yield item.page

    def metadata(self) -> Mapping[str, str]:
        """Materialization metadata about the tags; empty if the entity has no tags."""
        if self._tagged is self.listing:
            return {}
        if self.why_not_tags:
            return {"tags": f"not requested: {self.why_not_tags}"}
        missing = f"not returned for {counted(self.without_tags, 'object')}, whose stored tags are left unchanged"
        return {"tags": missing if self.without_tags else "requested"}

    @property
    def _tagged(self) -> Listing:
        return with_tags(self.listing)

    def _read(self, queries: Queries) -> Iterator[Page]:
        plain, tagged = queries
        refusal, refused = self._refusal, 0
        if refusal is None:
            try:
                yield from self.session.client.pages(self._tagged, tagged)
                return
            except Forbidden as error:
                if plain == tagged:
                    raise
                refusal, refused = error, error.attempts
        pages = self.session.client.pages(self.listing, plain)
        # If the request succeeds without tags, the key lacks access to tags, and not to the entity.
        first = next(pages)
        self._refusal = refusal
        yield replace(first, requests=first.requests + refused)
        yield from pages


def _lacks_tags(record: Record) -> bool:
    return OBJECT_TAGS.table not in record.children
