"""Compares time zone names: US/Eastern is the old name of America/New_York, and Klaviyo uses both."""

from functools import cache
from importlib import resources
from zoneinfo import available_timezones


@cache
def zone_names() -> frozenset[str]:
    """Every known name. Finding them reads hundreds of files, so it is done once."""
    return frozenset(available_timezones())


@cache
def same_zone(one: str, other: str) -> bool:
    """Whether both names have the same rules in the tz database. An unknown name equals only itself."""
    return one == other or ((rules := _rules(one)) is not None and rules == _rules(other))


def _rules(name: str) -> bytes | None:
    """The zone's compiled rules, always from the `tzdata` package.

    The system's files may have another version, and may lack the old names.
    """
    if name not in zone_names():
        return None
    file = resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
    # UTC and GMT have the same days, so the abbreviation does not matter.
    return file.read_bytes().replace(b"GMT", b"UTC") if file.is_file() else None
