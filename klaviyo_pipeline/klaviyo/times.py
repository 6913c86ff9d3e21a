"""Reads and writes times in Klaviyo's formats."""

from datetime import UTC, datetime


def parse_time(value: object) -> datetime | None:
    """The time in a value of an answer, as an aware datetime in UTC; None for None.

    Klaviyo writes times with seconds or microseconds, with `Z` or an offset that is not always UTC, and sometimes with
    a space instead of the `T` (seen in recorded responses). A time without an offset is read as UTC. Raises
    `ValueError` for a value that is not a time, or that is outside the calendar after the conversion to UTC.
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
    """`moment` as a bound in a filter: in UTC, with whole seconds (rounded down) and a `Z`.

    `+00:00` in place of the `Z` does not work, because an unescaped plus sign in a URL means a space. Raises
    `ValueError` if `moment` has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a bound needs a time zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
