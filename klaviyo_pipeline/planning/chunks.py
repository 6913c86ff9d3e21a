"""Chunks: a range of windows is divided before it is read.

When all listing queries of a chunk have ended, its windows are done, even if a later chunk fails. An endpoint without
an upper bound always lists up to now: its range is one chunk.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from klaviyo_pipeline.klaviyo.listing_pages import Page
from klaviyo_pipeline.klaviyo.listing_query import ListingQuery
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.postgres.write.loads import CompletedWindow
from klaviyo_pipeline.windows import Window

SHORTEST_CHUNK = timedelta(days=120)
MAX_CHUNKS = 3
"""A chunk costs up to one more page for each listing; most endpoints allow three requests a second."""


@dataclass(eq=False)
class Chunk:
    """Contiguous windows while their listing is read.

    `first_index` is the load-wide index of the first window; `asked_at` is the time of the first request; `newest` is
    the latest `updated` time by window.
    """

    windows: Sequence[Window]
    first_index: int
    queries: Sequence[ListingQuery]
    ended: int = 0
    requests: int = 0
    asked_at: datetime | None = None
    newest: dict[int, datetime] = field(default_factory=dict)
    _in_splits: set[tuple[str, str, datetime | None]] = field(default_factory=set)
    _objects: dict[int, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._starts = [window.start for window in self.windows]

    def note(self, page: Page) -> None:
        """Count the page's requests."""
        self.requests += page.requests
        self.asked_at = min(self.asked_at or page.observed_at, page.observed_at)

    def index_of(self, query: ListingQuery, record: Record) -> int | None:
        """The load-wide index of the window that a record of this query falls in; its time is recorded in `newest`.

        None if the record falls in no window, or if another query of the chunk returns it. An object without a readable
        time is kept, and counted in the last window.
        """
        updated = record.moved_at or record.updated_at
        if query.since is not None and not self._is_first(query, record):
            return None
        if updated is None:
            index = self.first_index + len(self.windows) - 1
        elif not self.windows[0].start <= updated < self.windows[-1].end:
            return None
        else:
            index = self.first_index + bisect.bisect_right(self._starts, updated) - 1
            self.newest[index] = max(updated, self.newest.get(index, updated))
        self._objects.setdefault(index, set()).add(record.id)
        return index

    def _is_first(self, query: ListingQuery, record: Record) -> bool:
        """Whether this query covers the record, and no overlapping query has returned this state before."""
        state = query.variant, record.id, record.updated_at
        if not query.covers(record.updated_at) or state in self._in_splits:
            return False
        self._in_splits.add(state)
        return True

    def complete(self) -> list[CompletedWindow]:
        """Every window of the chunk, as completed. All requests are counted on the first window."""
        assert self.asked_at is not None
        completed = [
            CompletedWindow(
                window,
                self.asked_at,
                self.requests if place == 0 else 0,
                self.newest.get(self.first_index + place),
                len(self._objects.get(self.first_index + place, ())),
            )
            for place, window in enumerate(self.windows)
        ]
        self._in_splits.clear()
        self._objects.clear()
        return completed


def chunks_of(listing: Listing, windows: Sequence[Window], now: datetime, *, split: bool = True) -> Iterator[Chunk]:
    """The chunks of these contiguous windows. `split` divides a long listing without an upper bound into queries."""
    start, end = windows[0].start, windows[-1].end
    count = 1
    if listing.time_operators[1] is not None:
        count = max(1, min(MAX_CHUNKS, (end - start) // SHORTEST_CHUNK))
    # An object counts at its last update, so recent times contain more of them: later chunks are shorter.
    borders = [round(len(windows) * (place / count) ** 0.5) for place in range(count + 1)]
    for first, last in itertools.pairwise(borders):
        part = windows[first:last]
        bounds = part[0].start, part[-1].end, now
        queries = listing.split(*bounds) if split else []
        yield Chunk(part, first, queries or listing.queries(*bounds))
