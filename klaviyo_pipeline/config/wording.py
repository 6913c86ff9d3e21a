"""Wording that messages of all rooms share."""

from collections.abc import Iterable

NAMED = 5
"""How many of the affected objects a message lists."""


def counted(number: int, what: str) -> str:
    """ "1 flow", "1,200 flows": `what` is a singular noun whose plural ends in s."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def some(names: Iterable[object], total: int | None = None) -> str:
    """The first few names, and the number of the others."""
    every = [str(name) for name in names]
    more = (len(every) if total is None else total) - len(every[:NAMED])
    return ", ".join(every[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
