"""Whether a chain that is cut short may end: only on the strength of an order that was seen to hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime


class OrderWatch:
    """Watches the times of one chain, page by page.

    A page that lies beyond the chain's end as a whole ends it, if every time so far came in order. After a single one
    that did not, or that is missing, nothing but the last page does.
    """

    def __init__(self, until: datetime | None) -> None:
        self._until = until
        self._latest: datetime | None = None
        self._in_order = True

    def is_passed(self, times: Sequence[datetime | None]) -> bool:
        """Whether this page shows that the rest of the chain lies beyond its end."""
        for moment in times:
            if moment is None or (self._latest is not None and moment < self._latest):
                self._in_order = False
            self._latest = moment
        first = times[0] if times else None
        return self._in_order and self._until is not None and first is not None and first >= self._until
