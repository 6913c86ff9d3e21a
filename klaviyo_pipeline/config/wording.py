"""Formats numbers and lists of names for messages."""

from collections.abc import Iterable

NAMED = 5
"""The most names that a message lists."""


def counted(number: int, what: str) -> str:
    """The number with its noun, such as "1 flow" or "1,200 flows". The plural of `what` must end in s."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def some(names: Iterable[object], total: int | None = None) -> str:
    """The first few names and the number of the others: "A, B and 3 more". `total` is the number of all names."""
    every = [str(name) for name in names]
    more = (len(every) if total is None else total) - len(every[:NAMED])
    return ", ".join(every[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
