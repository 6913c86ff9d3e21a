"""Whether a query with an end may stop before its last page: only while its rows were seen to come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime

CONFIRMATIONS = 3
"""Times in a row that must lie at or beyond the query's end."""


class SortMonitor:
    """Follows the times of one query, page by page.

    A page whose last times lie at or beyond the end ends the query, if every time so far came in order: a single one
    may stand far ahead of its place. After one that did not, or that is missing, only the last page ends it.
    """

    def __init__(self, until: datetime | None) -> None:
        self._until = until
        self._latest: datetime | None = None
        self._last: deque[datetime | None] = deque(maxlen=CONFIRMATIONS)
        self._in_order = True

    def add(self, times: Sequence[datetime | None]) -> None:
        """Note the times of the next page."""
        self._last.extend(times)
        for moment in times:
            if moment is None or (self._latest is not None and moment < self._latest):
                self._in_order = False
            self._latest = moment

    @property
    def is_passed(self) -> bool:
        """Whether the last times say that the remaining rows lie beyond the query's end."""
        if not self._in_order or self._until is None or len(self._last) < CONFIRMATIONS:
            return False
        return all(moment is not None and moment >= self._until for moment in self._last)
