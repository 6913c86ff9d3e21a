"""Estimates how many requests a listing takes, from the number of stored rows.

If Klaviyo refuses to include variations in the listing of messages, a sync of campaigns sends one more request for each
message. The estimates do not contain these requests.
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
    """How many requests a query takes that returns this many objects. A query without any object takes one request.

    After a full last page, one more request shows that no object follows. If the listing is sorted by time, one more
    request is counted for every page except the last.
    """
    borders = max(0, rows - 1) // listing.page_size
    return rows // listing.page_size + 1 + (0 if listing.sort in ("id", None) else borders)


@dataclass(frozen=True)
class Pages:
    """Counts the pages of one entity's listings. Without a connection, every listing counts as empty."""

    connection: sa.Connection | None
    schema: str
    listing: Listing

    def of_everything(self) -> int:
        """The number of requests of a census: the pages of all variants, and the requests for variations of messages.

        A listing with a parent, such as form versions, takes the pages of the parent's listing and one page for each
        object in it.
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
        """The number of pages that a run over these contiguous windows reads, summed over the run's chunks."""
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
        """The `Pages` of the listing of messages; None if the listing has no `messages`."""
        return None if self.listing.messages is None else replace(self, listing=self.listing.messages)

    def _of_split(self, query: ListingQuery) -> int:
        """The pages of one of several queries into which a listing is split.

        Such a query ends after `CONFIRMATIONS` objects beyond its end, or with the last page of the listing.
        """
        assert query.since is not None
        to_the_end = self._pages(query.since - OVERLAP, None)
        if query.until is None:
            return to_the_end
        own = sum(self._rows(query.since - OVERLAP, query.until))
        return min(to_the_end, -(-(own + CONFIRMATIONS) // self.listing.page_size))

    def _pages(self, start: datetime | None, end: datetime | None) -> int:
        return sum(pages_of(count, self.listing) for count in self._rows(start, end))

    def _rows(self, start: datetime | None, end: datetime | None) -> Sequence[int]:
        """For each variant of the listing, the number of stored rows whose last update is in [start, end)."""
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
        """The conditions of a variant, for stored rows. A condition on a field without a column is left out."""
        # The last part of a column's path is the name that filters use.
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
