"""Times as the simulated API writes and reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]

_ISO = re.compile(
    r"(?P<wall>\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?)(?P<zone>Z|[+-]\d{2}:\d{2})?\Z", re.ASCII
)


def utcnow() -> datetime:
    return datetime.now(UTC)


def write_time(moment: datetime, *, microseconds: bool = False) -> str:
    """`moment` (aware) with its own offset: to the second, or always with six digits as for campaigns."""
    return moment.isoformat(timespec="microseconds" if microseconds else "seconds")


def read_time(text: object) -> datetime | None:
    """The instant (UTC) of a time as an object shows it, `T` or a space between; None for null and nonsense."""
    if not isinstance(text, str) or _ISO.match(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def read_bound(text: str) -> datetime | None:
    """The instant of a bound in a filter: `T`, and `Z` or an offset, are required; None if it is no such
    time.

    A raw `+` in a URL arrives here as a space, and so is refused like any other malformed bound.
    """
    found = _ISO.match(text)
    if found is None or found["zone"] is None or " " in text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
