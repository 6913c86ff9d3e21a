"""Divides a range of windows into chunks, which are read one after the other.

When all listing queries of a chunk have ended, its windows are done, even if a later chunk fails. If an endpoint takes
no upper bound, it always lists up to now, so the whole range is one chunk.
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
"""A range is divided only if the chunks are at least this long on average."""
MAX_CHUNKS = 3
"""The most chunks of a range. Each further chunk takes up to one more page for each of its listing queries."""


@dataclass(eq=False)
class Chunk:
    """Contiguous windows, and what is known about them while they are read.

    `first_index` is the index of the chunk's first window among all windows of the range. `ended` is the number of
    queries that have ended. `asked_at` is the time of the first request. `newest` is the latest `updated` time in each
    window, by the window's index in the range.
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
        """Add a page's requests, and the time of its request if it is the earliest."""
        self.requests += page.requests
        self.asked_at = min(self.asked_at or page.observed_at, page.observed_at)

    def index_of(self, query: ListingQuery, record: Record) -> int | None:
        """The index, among all windows of the range, of the window to which a record of this query belongs.

        None if the record belongs to none of the chunk's windows, or if another query of the chunk covers it or has
        returned it in the same state. An object without a readable time belongs to the last window.
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
        """Whether this query covers the record, and no query of this chunk returned it in the same state before."""
        state = query.variant, record.id, record.updated_at
        if not query.covers(record.updated_at) or state in self._in_splits:
            return False
        self._in_splits.add(state)
        return True

    def complete(self) -> list[CompletedWindow]:
        """Every window of the chunk, as complete. All requests of the chunk are counted for its first window."""
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
    """The chunks of these contiguous windows.

    With `split`, a long listing without an upper bound is split into several queries, to be read concurrently.
    """
    start, end = windows[0].start, windows[-1].end
    count = 1
    if listing.time_operators[1] is not None:
        count = max(1, min(MAX_CHUNKS, (end - start) // SHORTEST_CHUNK))
    # An object belongs to the window of its last update, so recent windows have more objects and get shorter chunks.
    borders = [round(len(windows) * (place / count) ** 0.5) for place in range(count + 1)]
    for first, last in itertools.pairwise(borders):
        part = windows[first:last]
        bounds = part[0].start, part[-1].end, now
        queries = listing.split(*bounds) if split else []
        yield Chunk(part, first, queries or listing.queries(*bounds))
