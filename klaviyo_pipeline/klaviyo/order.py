"""Whether a chain that is cut short may end, or be cut: only on the strength of an order that was seen to hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta

WITNESSES = 3
"""Times in a row that must lie beyond a chain's end."""


class OrderWatch:
    """Watches the times of one chain, page by page.

    A page whose last times lie at or beyond the chain's end ends it, if every time so far came in order: a single one
    may stand far ahead of its place. After one that did not, or that is missing, nothing but the last page does.
    """

    def __init__(self, until: datetime | None) -> None:
        self.until = until
        self._pages = 0
        self._first: datetime | None = None
        self._latest: datetime | None = None
        self._last: deque[datetime | None] = deque(maxlen=WITNESSES)
        self._in_order = True
        self._at_its_last_page = False

    def look(self, times: Sequence[datetime | None], *, is_last: bool = False) -> None:
        """Note the times of the next page."""
        self._last.extend(times)
        self._at_its_last_page = is_last
        for moment in times:
            if moment is None or (self._latest is not None and moment < self._latest):
                self._in_order = False
            self._latest = moment
            self._first = self._first or moment
        self._pages += 1

    @property
    def is_passed(self) -> bool:
        """Whether the last times say that what is left lies beyond the chain's end."""
        if not self._in_order or self.until is None or len(self._last) < WITNESSES:
            return False
        return all(moment is not None and moment >= self.until for moment in self._last)

    def ahead(self, end: datetime) -> tuple[float, timedelta]:
        """About how many pages there still are, and the span of time that they hold; none where it cannot be told.

        `end` is where the chain ends. Pages lie as close as those so far: an estimate, which other threads than the
        chain's own may ask for at any moment.
        """
        first, latest = self._first, self._latest
        if self._at_its_last_page or not self._in_order or first is None or latest is None or not first < latest < end:
            return 0.0, timedelta()
        return self._pages * ((end - latest) / (latest - first)), end - latest
