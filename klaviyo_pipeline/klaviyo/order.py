"""Whether a chain that is cut short may end, or be cut: only on the strength of an order that was seen to hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta


class OrderWatch:
    """Watches the times of one chain, page by page.

    A page that reaches the chain's end ends it, if every time so far came in order. After a single one that did not, or
    that is missing, nothing but the last page does.
    """

    def __init__(self, until: datetime | None) -> None:
        self.until = until
        self._pages = 0
        self._first: datetime | None = None
        self._latest: datetime | None = None
        self._in_order = True

    def look(self, times: Sequence[datetime | None]) -> None:
        """Note the times of the next page."""
        for moment in times:
            if moment is None or (self._latest is not None and moment < self._latest):
                self._in_order = False
            self._latest = moment
            self._first = self._first or moment
        self._pages += 1

    @property
    def is_passed(self) -> bool:
        """Whether the pages showed that the rest of the chain lies beyond its end."""
        return self._in_order and self.until is not None and self._latest is not None and self._latest >= self.until

    def ahead(self, end: datetime) -> tuple[float, timedelta]:
        """About how many pages there still are, and the span of time that they hold; none where it cannot be told.

        `end` is where the chain ends. Pages lie as close as those so far.
        """
        first, latest = self._first, self._latest
        if not self._in_order or first is None or latest is None or not first < latest < end:
            return 0.0, timedelta()
        return self._pages * ((end - latest) / (latest - first)), end - latest
