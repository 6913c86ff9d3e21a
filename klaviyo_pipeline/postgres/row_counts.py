"""How many rows a write inserted, updated and deleted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RowCounts:
    """The counts of one write, or the sum over several writes."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(self.inserted + other.inserted, self.updated + other.updated, self.deleted + other.deleted)
