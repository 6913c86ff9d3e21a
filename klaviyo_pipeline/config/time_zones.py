"""Whether two names mean the same time zone: US/Eastern is the old name of America/New_York, and Klaviyo uses both."""

from functools import cache
from importlib import resources
from zoneinfo import available_timezones


@cache
def same_zone(one: str, other: str) -> bool:
    """Whether both names have the same rules in the tz database. A name that it lacks equals itself alone."""
    return one == other or ((rules := _rules(one)) is not None and rules == _rules(other))


def _rules(name: str) -> bytes | None:
    """The zone's compiled rules.

    Of the package alone: the system's files may be of another release, and may lack the old names.
    """
    if name not in available_timezones():
        return None
    file = resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
    # UTC and GMT cut the same days: how an offset is abbreviated does not matter.
    return file.read_bytes().replace(b"GMT", b"UTC") if file.is_file() else None
