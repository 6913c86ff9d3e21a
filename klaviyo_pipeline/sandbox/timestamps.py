"""Reads and writes times in the formats of the simulated API."""

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
    """`moment` (aware) with its own offset, in whole seconds or with microseconds (campaigns)."""
    return moment.isoformat(timespec="microseconds" if microseconds else "seconds")


def read_time(text: object) -> datetime | None:
    """The instant (UTC) of a time in an object, with a `T` or a space; None for null and for invalid text."""
    if not isinstance(text, str) or _ISO.match(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def read_bound(text: str) -> datetime | None:
    """The instant of a bound in a filter; None if it is invalid. A `T`, and `Z` or an offset, are required.

    An unescaped `+` in a URL arrives as a space, so the bound is invalid.
    """
    found = _ISO.match(text)
    if found is None or found["zone"] is None or " " in text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
