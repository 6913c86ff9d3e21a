"""A range of windows as spans, and a span's listings as chains of pages.

Long ranges are cut into a few spans, whose windows are done, and stay done, when all listings of the span have ended.
An endpoint without an upper bound lists up to now each time: its range is one span, read as several chains. A chain
that turns out to be long is cut, whatever its endpoint, as soon as a reader has nothing else to do.
"""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from klaviyo_pipeline.klaviyo.listings import CUT_OVERLAP, MOST_CUTS, Chain, Listing
from klaviyo_pipeline.klaviyo.order import OrderWatch
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.partitions import Window
from klaviyo_pipeline.postgres.loads import Complete

SPAN = timedelta(days=125)
"""How much of a long range is done at once: a year costs two more pages a listing, and keeps what was finished."""

PAGES_WORTH_A_CUT = 6
TIME_WORTH_A_CUT = 10 * CUT_OVERLAP
"""What must lie ahead of a chain for it to be cut, in half: a cut costs up to two pages, and those of the overlap, of
which nothing may have come yet."""


@dataclass(eq=False)
class ChainReading:
    """One chain of a span while it is read. The thread that reads it may cut it short."""

    span: SpanReading
    chain: Chain
    order: OrderWatch = field(init=False)
    is_over: bool = False

    def __post_init__(self) -> None:
        self.order = OrderWatch(self.chain.until)

    def brings(self, record: Record) -> bool:
        """Whether it is this chain that the object comes from, and an overlap has not brought this state before."""
        return self.chain.covers(record.updated_at) and not self.span.has_shown(self.chain, record)

    def end_at(self, moment: datetime) -> None:
        """Leave what comes from then on to another. No object of the day before may have come yet."""
        self.order.until = moment
        self.chain = replace(self.chain, until=moment)


@dataclass(eq=False)
class SpanReading:
    """One span of windows while its listings are read: counts, when it was first asked, the newest time by window."""

    windows: Sequence[Window]
    first_index: int
    readings: list[ChainReading] = field(default_factory=list)
    ended: int = 0
    requests: int = 0
    asked_at: datetime | None = None
    newest: dict[int, datetime] = field(default_factory=dict)
    shown: set[tuple[str, str, datetime | None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._starts = [window.start for window in self.windows]

    def add(self, chain: Chain) -> ChainReading:
        """The reading of one more of its chains."""
        reading = ChainReading(self, chain)
        self.readings.append(reading)
        return reading

    def index_of(self, updated: datetime | None) -> int | None:
        """The load-wide index of the window that holds this time; None outside of the span.

        An object whose time cannot be read is kept, and counted in the last window.
        """
        if updated is None:
            return self.first_index + len(self.windows) - 1
        if not self.windows[0].start <= updated < self.windows[-1].end:
            return None
        return self.first_index + bisect.bisect_right(self._starts, updated) - 1

    def has_shown(self, chain: Chain, record: Record) -> bool:
        """Whether the overlap of two chains of a listing has brought this state of the object before."""
        if not chain.shares(record.updated_at):
            return False
        state = chain.variant, record.id, record.updated_at
        is_known = state in self.shown
        self.shown.add(state)
        return is_known

    def take(self, updated: datetime | None) -> int | None:
        """`index_of` this time, which is remembered if it is its window's newest."""
        index = self.index_of(updated)
        if index is not None and updated is not None:
            self.newest[index] = max(updated, self.newest.get(index, updated))
        return index

    def complete(self) -> list[Complete]:
        """Word that every window of the span is done. What one request brought for many counts on the first."""
        assert self.asked_at is not None
        self.shown.clear()
        return [
            Complete(
                window,
                self.asked_at,
                self.requests if place == 0 else 0,
                self.newest.get(self.first_index + place),
            )
            for place, window in enumerate(self.windows)
        ]


class Cutting:
    """Parts the chain that is the longest to read, for a reader that has nothing to do.

    No cut lies beyond a span's windows, nor `now`: what comes after them stays with the last chain.
    """

    def __init__(self, listing: Listing, readings: Sequence[ChainReading], now: datetime) -> None:
        self._listing = listing
        self._readings = list(readings)
        self._now = now
        self._cuts: Counter[str] = Counter()
        self._one_at_a_time = threading.Lock()

    def part(self, reading: ChainReading) -> ChainReading | None:
        """The later half of what lies ahead of this chain, as a reading of its own; None if it is not worth it.

        Called by the thread that reads the chain, between two pages.
        """
        with self._one_at_a_time:
            pages, time = self._ahead(reading)
            most = max(self._ahead(one)[0] for one in self._readings if not one.is_over)
            if pages < max(PAGES_WORTH_A_CUT, most):
                return None
            # At a day's beginning: the same again is asked again, whichever page came first.
            at = (self._end(reading) - time / 2).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            rest = reading.span.add(self._listing.rest(reading.chain, at, self._now))
            reading.end_at(at)
            self._readings.append(rest)
            self._cuts[reading.chain.variant] += 1
            return rest

    def _ahead(self, reading: ChainReading) -> tuple[float, timedelta]:
        """See `OrderWatch.ahead`; nothing of a chain that may not be cut."""
        pages, time = reading.order.ahead(self._end(reading))
        may_be_cut = self._listing.is_ordered(reading.chain) and self._cuts[reading.chain.variant] < MOST_CUTS
        return (pages, time) if may_be_cut and time >= TIME_WORTH_A_CUT else (0.0, timedelta())

    def _end(self, reading: ChainReading) -> datetime:
        return reading.chain.until or min(self._now, reading.span.windows[-1].end)


def spans_of(listing: Listing, windows: Sequence[Window], now: datetime) -> Iterator[SpanReading]:
    """Cut the windows into spans. An endpoint without an upper bound lists up to now each time: one span."""
    first = 0
    while first < len(windows):
        last = len(windows)
        if listing.time_operators[1] is not None:
            last = bisect.bisect_left([w.start for w in windows], windows[first].start + SPAN)
        part = windows[first:last]
        span = SpanReading(part, first)
        for chain in listing.chains(part[0].start, part[-1].end, now):
            span.add(chain)
        yield span
        first = last
