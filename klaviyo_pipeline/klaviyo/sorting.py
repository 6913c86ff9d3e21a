"""Decides whether a query with an end can stop before its last page: only if its rows are in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime

CONFIRMATIONS = 3
"""How many consecutive times must be at or after the query's end."""


class SortMonitor:
    """Follows the times of one query, page by page.

    A page ends the query if its last times are at or after the end and all times so far were in order. Several times
    are required, because a single row may be far ahead of its place. After a time that is missing or out of order, only
    the last page ends the query.
    """

    def __init__(self, until: datetime | None) -> None:
        self._until = until
        self._latest: datetime | None = None
        self._last: deque[datetime | None] = deque(maxlen=CONFIRMATIONS)
        self._in_order = True

    def add(self, times: Sequence[datetime | None]) -> None:
        """Add the times of the next page."""
        self._last.extend(times)
        for moment in times:
            if moment is None or (self._latest is not None and moment < self._latest):
                self._in_order = False
            self._latest = moment

    @property
    def is_passed(self) -> bool:
        """Whether the remaining rows are after the query's end, judging by the last times."""
        if not self._in_order or self._until is None or len(self._last) < CONFIRMATIONS:
            return False
        return all(moment is not None and moment >= self._until for moment in self._last)
