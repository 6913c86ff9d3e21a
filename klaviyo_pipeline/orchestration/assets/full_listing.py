"""The full listings of an entity, page by page, with the tags of its objects if the key has access to them.

Tags may require the scope `tags:read` besides the entity's own scope. Without it, the entity is synced without tags.
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
"""The same query without tags and with them."""


@dataclass
class FullListing:
    """One reading of all listings of an entity. `untold` counts the objects that Klaviyo returned without tags data."""

    session: Session
    listing: Listing
    untold: int = 0
    _refusal: Forbidden | None = None

    @property
    def why_not_tags(self) -> str | None:
        """Why the key has no access to the tags; None if it has, or if no request has failed yet."""
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
                self.untold += sum(map(self._is_untold, item.page.records))
                yield item.page

    def _of_parents(self, parent: Listing) -> Iterator[Page]:
        """The pages of each parent's listing. A parent that is deleted meanwhile has none."""
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
        missing = f"missing for {counted(self.untold, 'object')}: theirs are left unchanged"
        return {"tags": missing if self.untold else "requested"}

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
        # If the request succeeds without tags, the tags were forbidden, and not the entity.
        first = next(pages)
        self._refusal = refusal
        yield replace(first, requests=first.requests + refused)
        yield from pages

    def _is_untold(self, record: Record) -> bool:
        return OBJECT_TAGS.table not in record.children
