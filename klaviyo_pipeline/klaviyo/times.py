"""Reads and writes times in Klaviyo's formats."""

from datetime import UTC, datetime


def parse_time(value: object) -> datetime | None:
    """An aware UTC datetime from a value in an answer; None stays None.

    Klaviyo writes seconds or microseconds, `Z` or an offset that is not always UTC, and sometimes a space instead of
    the `T` (seen in recordings). A time without an offset is read as UTC. Raises `ValueError` for any other value, and
    for a time that is outside the calendar after the conversion to UTC.
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

    `+00:00` does not work, because an unescaped plus sign in a URL means a space. Raises `ValueError` without a time
    zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a bound needs a time zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
