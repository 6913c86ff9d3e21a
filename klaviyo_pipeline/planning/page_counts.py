"""How many requests listings take, by the rows that the table holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.listings import NOW_MARGIN, OVERLAP, Listing, ListingQuery, Variant
from klaviyo_pipeline.klaviyo.records import REQUEST_VALUE
from klaviyo_pipeline.klaviyo.sorting import CONFIRMATIONS
from klaviyo_pipeline.planning.chunks import chunks_of
from klaviyo_pipeline.windows import Window


def pages_of(rows: int, listing: Listing) -> int:
    """Requests for one query of so many objects; an empty one takes one too.

    A full last page takes one more, and so does each page border where objects cannot be sorted by id.
    """
    borders = max(0, rows - 1) // listing.page_size
    return rows // listing.page_size + 1 + (0 if listing.sort == "id" else borders)


@dataclass(frozen=True)
class Pages:
    """Counts the pages of one entity's listings; without a connection each counts as empty."""

    connection: sa.Connection | None
    schema: str
    listing: Listing

    def of_everything(self) -> int:
        """Of the full listings, as a census reads them."""
        return self._pages(None, None)

    def of_range(self, windows: Sequence[Window], now: datetime) -> int:
        """Of the listing queries that a run over these contiguous windows reads, chunk by chunk."""
        pages = 0
        for chunk in chunks_of(self.listing, windows, now):
            splits = [query for query in chunk.queries if query.since is not None]
            if splits:
                pages += 1 + sum(map(self._of_split, splits))
                continue
            start, end = chunk.windows[0].start - OVERLAP, chunk.windows[-1].end + OVERLAP
            bounded = self.listing.time_operators[1] is not None and end <= now - NOW_MARGIN
            pages += self._pages(start, end if bounded else None)
        return pages

    def _of_split(self, query: ListingQuery) -> int:
        """Of a query that ends with the page that shows enough beyond its end, if it is not the last page before."""
        assert query.since is not None
        to_the_last = self._pages(query.since - OVERLAP, None)
        if query.until is None:
            return to_the_last
        own = sum(self._rows(query.since - OVERLAP, query.until))
        return min(to_the_last, -(-(own + CONFIRMATIONS) // self.listing.page_size))

    def _pages(self, start: datetime | None, end: datetime | None) -> int:
        return sum(pages_of(count, self.listing) for count in self._rows(start, end))

    def _rows(self, start: datetime | None, end: datetime | None) -> Sequence[int]:
        """The rows that each of its listings shows of that time."""
        if self.connection is None:
            return [0] * len(self.listing.variants)
        names = ("deleted_at", *(column.name for column in self.listing.columns))
        rows = sa.table(self.listing.entity, *(sa.column(name) for name in names), schema=self.schema)
        listed: list[sa.ColumnElement[bool]] = [rows.c.deleted_at.is_(None)]
        listed += [] if start is None else [rows.c.updated_at >= start]
        listed += [] if end is None else [rows.c.updated_at < end]
        counts = [sa.func.count().filter(*self._seen(rows, variant)) for variant in self.listing.variants]
        return self.connection.execute(sa.select(*counts).select_from(rows).where(*listed)).one()

    def _seen(self, rows: sa.TableClause, variant: Variant) -> list[sa.ColumnElement[bool]]:
        """What is true of a row that this listing shows. What no column holds is left out: pages are then many."""
        columns = {column.path: column.name for column in self.listing.columns}
        conditions = [rows.c[columns[one.field]] == one.value for one in variant.conditions if one.field in columns]
        if variant.stamp is not None:
            conditions.append(rows.c[columns[REQUEST_VALUE]] == variant.stamp)
        return conditions or [sa.true()]
