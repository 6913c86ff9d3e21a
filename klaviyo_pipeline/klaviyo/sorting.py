"""Decides whether a query with an end can stop before its last page, which requires that its rows are in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime

CONFIRMATIONS = 3
"""A query stops early only if the times of this many rows, the last ones read, are at or after its end."""


class SortMonitor:
    """Follows the times of the rows of one query, page by page. `until` is the end of the query, if any.

    The query can stop after a page if the last `CONFIRMATIONS` times are at or after the end, and all times so far are
    in order. Several times are required, because Klaviyo may list a single row far ahead of its place. After a time
    that is missing or out of order, the query must be read to its last page.
    """

    def __init__(self, until: datetime | None) -> None:
        self._until = until
        self._latest: datetime | None = None
        self._last: deque[datetime | None] = deque(maxlen=CONFIRMATIONS)
        self._in_order = True

    def add(self, times: Sequence[datetime | None]) -> None:
        """Adds the times of the next page."""
        self._last.extend(times)
        for moment in times:
            if moment is None or (self._latest is not None and moment < self._latest):
                self._in_order = False
            self._latest = moment

    @property
    def is_passed(self) -> bool:
        """Whether all remaining rows are at or after the query's end, judging by the times so far."""
        if not self._in_order or self._until is None or len(self._last) < CONFIRMATIONS:
            return False
        return all(moment is not None and moment >= self._until for moment in self._last)
