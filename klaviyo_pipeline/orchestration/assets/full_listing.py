"""The full listings of an entity, page by page, with the tags of its objects where the key may see them.

Including tags may need the scope `tags:read` besides the entity's own; a key without it must not lose the entity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from klaviyo_pipeline.klaviyo.errors import Forbidden, MissingScope
from klaviyo_pipeline.klaviyo.listing_pages import Page
from klaviyo_pipeline.klaviyo.listings import Listing, ListingQuery
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.klaviyo.tags import OBJECT_TAGS, with_tags
from klaviyo_pipeline.orchestration.assets.concurrent_reading import CONCURRENT_LISTINGS, read_concurrently
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session

Queries = tuple[ListingQuery, ListingQuery]
"""The same query without tags and with them."""


@dataclass
class FullListing:
    """One reading of everything that an entity's listings show. `untold` counts objects without a word on tags."""

    session: Session
    listing: Listing
    untold: int = 0
    _refusal: Forbidden | None = None

    @property
    def why_not_tags(self) -> str | None:
        """Why the key cannot see the tags; None while nothing is known against it."""
        if isinstance(self._refusal, MissingScope):
            return f"the key lacks {', '.join(self._refusal.scopes)}"
        return None if self._refusal is None else str(self._refusal)

    def pages(self) -> Iterator[Page]:
        """Every page of every listing; the listings concurrently. Raises `Forbidden` where the entity itself is."""
        tagged, now = self._tagged, self.session.now()
        queries = list(zip(self.listing.queries(None, None, now), tagged.queries(None, None, now), strict=True))
        for item in read_concurrently(queries, self._read, workers=CONCURRENT_LISTINGS, stop=self.session.stop):
            if item.page is not None:
                self.untold += sum(map(self._is_untold, item.page.records))
                yield item.page

    def metadata(self) -> Mapping[str, str]:
        """What became of the tags, for a materialization; nothing where the objects carry none."""
        if self._tagged is self.listing:
            return {}
        if self.why_not_tags:
            return {"tags": f"not asked: {self.why_not_tags}"}
        return {"tags": f"not told of {self.untold} objects: theirs stay as they were" if self.untold else "asked"}

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
        # Only an answer without tags tells that it was the tags that were refused.
        first = next(pages)
        self._refusal = refusal
        yield replace(first, requests=first.requests + refused)
        yield from pages

    def _is_untold(self, record: Record) -> bool:
        return OBJECT_TAGS.table not in record.children
