"""Compares time zone names. Klaviyo also uses old names, such as US/Eastern for America/New_York."""

from functools import cache
from importlib import resources
from zoneinfo import available_timezones


@cache
def zone_names() -> frozenset[str]:
    """Every known name. The names are cached, because finding them reads hundreds of files."""
    return frozenset(available_timezones())


@cache
def same_zone(one: str, other: str) -> bool:
    """Whether both names have the same rules in the tz database. An unknown name is the same only as itself."""
    return one == other or ((rules := _rules(one)) is not None and rules == _rules(other))


def _rules(name: str) -> bytes | None:
    """The zone's compiled rules from the `tzdata` package; None for an unknown zone.

    The files of the operating system are not used: they may be of another version, and may lack old names.
    """
    if name not in zone_names():
        return None
    file = resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
    # UTC and GMT differ only in their abbreviation, which does not matter here.
    return file.read_bytes().replace(b"GMT", b"UTC") if file.is_file() else None
