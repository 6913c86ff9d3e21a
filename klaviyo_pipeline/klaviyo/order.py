"""Whether a chain that is cut short may end, or be cut: only on the strength of an order that was seen to hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta


class OrderWatch:
    """Watches the times of one chain, page by page.

    A page that lies beyond the chain's end as a whole ends it, if every time so far came in order. After a single one
    that did not, or that is missing, nothing but the last page does.
    """

    def __init__(self, until: datetime | None) -> None:
        self.until = until
        self._pages = 0
        self._first: datetime | None = None
        self._latest: datetime | None = None
        self._in_order = True
        self._page_begins: datetime | None = None

    def look(self, times: Sequence[datetime | None]) -> None:
        """Note the times of the next page."""
        for moment in times:
            if moment is None or (self._latest is not None and moment < self._latest):
                self._in_order = False
            self._latest = moment
            self._first = self._first or moment
        self._page_begins = times[0] if times else None
        self._pages += 1

    @property
    def is_passed(self) -> bool:
        """Whether the last page showed that the rest of the chain lies beyond its end."""
        begins = self._page_begins
        return self._in_order and self.until is not None and begins is not None and begins >= self.until

    def ahead(self, end: datetime) -> tuple[float, timedelta]:
        """About how many pages there still are, and the span of time that they hold; none where it cannot be told.

        `end` is where the chain ends, if it is not cut short. Pages lie as close as those so far.
        """
        first, latest, end = self._first, self._latest, self.until or end
        if not self._in_order or first is None or latest is None or not first < latest < end:
            return 0.0, timedelta()
        return self._pages * ((end - latest) / (latest - first)), end - latest
