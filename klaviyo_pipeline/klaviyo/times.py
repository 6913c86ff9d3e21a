"""Klaviyo's way of writing times."""

from datetime import UTC, datetime


def parse_time(value: object) -> datetime | None:
    """An aware UTC datetime from what an answer holds; None stays None.

    Klaviyo writes seconds or microseconds, `Z` or an offset that is not always UTC, and now and then a
    space for the `T` (seen in recordings). A missing offset is read as UTC. Raises `ValueError` for
    anything else, also for a time that leaves the calendar on its way to UTC.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"not a time: {value!r}")
    written = datetime.fromisoformat(value.strip())
    if written.tzinfo is None:
        return written.replace(tzinfo=UTC)
    try:
        return written.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"not a time in UTC: {value!r}") from error


def format_bound(moment: datetime) -> str:
    """`moment` as a filter's bound: whole seconds (rounded down) and a `Z`.

    A raw `+00:00` in a URL is refused, since its plus sign reads as a space. Raises `ValueError` without a
    time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a bound needs a time zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
