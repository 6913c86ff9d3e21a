"""How many requests listings take, estimated from the stored rows.

If Klaviyo refuses to include variations in the listing of messages, campaigns take one more request for each message
that is read. No estimate contains these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil

import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.listing_query import ListingQuery
from klaviyo_pipeline.klaviyo.listings import NOW_MARGIN, OVERLAP, Listing, Variant
from klaviyo_pipeline.klaviyo.records import REQUEST_VALUE
from klaviyo_pipeline.klaviyo.sorting import CONFIRMATIONS
from klaviyo_pipeline.klaviyo.variations import IDS_PER_REQUEST
from klaviyo_pipeline.planning.chunks import chunks_of
from klaviyo_pipeline.windows import Window


def pages_of(rows: int, listing: Listing) -> int:
    """Requests for one query that returns this many objects; an empty one takes one too.

    A full last page takes one more request. If objects cannot be sorted by id, each page border takes one more too.
    """
    borders = max(0, rows - 1) // listing.page_size
    return rows // listing.page_size + 1 + (0 if listing.sort in ("id", None) else borders)


@dataclass(frozen=True)
class Pages:
    """Counts the pages of one entity's listings; without a connection, each listing counts as empty."""

    connection: sa.Connection | None
    schema: str
    listing: Listing

    def of_everything(self) -> int:
        """The requests of a census: the pages of the full listings, and the variations of the messages of each page.

        A listing with a parent takes at least one page for each of the parent's objects.
        """
        if self.listing.parent is not None:
            parents = Pages(self.connection, self.schema, self.listing.parent)
            return parents.of_everything() + sum(parents._rows(None, None))
        rows = self._rows(None, None)
        messages = sum(self._messages._rows(None, None)) if self._messages else 0
        ratio = messages / max(1, sum(rows))
        return sum(pages_of(count, self.listing) + self._of_variations(count, ratio) for count in rows)

    def _of_variations(self, count: int, ratio: float) -> int:
        full, rest = divmod(count, self.listing.page_size)
        return full * ceil(self.listing.page_size * ratio / IDS_PER_REQUEST) + ceil(rest * ratio / IDS_PER_REQUEST)

    def of_range(self, windows: Sequence[Window], now: datetime) -> int:
        """The pages of the listing queries that a run over these contiguous windows reads, chunk by chunk."""
        pages = 0
        for chunk in chunks_of(self.listing, windows, now):
            splits = [query for query in chunk.queries if query.since is not None]
            if splits:
                pages += 1 + sum(map(self._of_split, splits))
                continue
            start, end = chunk.windows[0].start - OVERLAP, chunk.windows[-1].end + OVERLAP
            bounded = self.listing.time_operators[1] is not None and end <= now - NOW_MARGIN
            until = end if bounded else None
            pages += self._pages(start, until) + (self._messages._pages(start, until) if self._messages else 0)
        return pages

    @property
    def _messages(self) -> Pages | None:
        """The pages of the listing of the messages, if windows follow their times too."""
        return None if self.listing.messages is None else replace(self, listing=self.listing.messages)

    def _of_split(self, query: ListingQuery) -> int:
        """The pages of a query that stops once enough objects beyond its end were seen, or at the last page."""
        assert query.since is not None
        to_the_end = self._pages(query.since - OVERLAP, None)
        if query.until is None:
            return to_the_end
        own = sum(self._rows(query.since - OVERLAP, query.until))
        return min(to_the_end, -(-(own + CONFIRMATIONS) // self.listing.page_size))

    def _pages(self, start: datetime | None, end: datetime | None) -> int:
        return sum(pages_of(count, self.listing) for count in self._rows(start, end))

    def _rows(self, start: datetime | None, end: datetime | None) -> Sequence[int]:
        """How many rows each variant of the listing returns for that time."""
        if self.connection is None:
            return [0] * len(self.listing.variants)
        names = ("deleted_at", *(column.name for column in self.listing.columns))
        rows = sa.table(self.listing.entity, *(sa.column(name) for name in names), schema=self.schema)
        listed: list[sa.ColumnElement[bool]] = [rows.c.deleted_at.is_(None)]
        listed += [] if start is None else [rows.c.updated_at >= start]
        listed += [] if end is None else [rows.c.updated_at < end]
        counts = [sa.func.count().filter(*self._conditions(rows, variant)) for variant in self.listing.variants]
        return self.connection.execute(sa.select(*counts).select_from(rows).where(*listed)).one()

    def _conditions(self, rows: sa.TableClause, variant: Variant) -> list[sa.ColumnElement[bool]]:
        """This variant as conditions on stored rows. Those without a column are left out: the count is then higher."""
        # A filter names an attribute without the object in which answers have it.
        columns = {column.path.rpartition(".")[2]: column.name for column in self.listing.columns}
        conditions = [
            rows.c[columns[condition.field]] == condition.value
            for condition in variant.conditions
            if condition.field in columns
        ]
        conditions += [
            rows.c[columns[condition.field]].is_distinct_from(condition.value) for condition in variant.leaves_out
        ]
        if variant.stamp is not None:
            conditions.append(rows.c[columns[REQUEST_VALUE]] == variant.stamp)
        return conditions or [sa.true()]
