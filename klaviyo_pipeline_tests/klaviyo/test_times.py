"""Reading and writing Klaviyo's times."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klaviyo_pipeline.klaviyo.times import format_bound, parse_time

REPEATABLE = settings(derandomize=True, deadline=None)
TEN = datetime(2026, 6, 30, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-06-30T10:00:00Z", TEN),
        ("2026-06-30T10:00:00+00:00", TEN),
        ("2026-06-30T12:00:00+02:00", TEN),
        ("2026-06-30T05:30:00-04:30", TEN),
        ("2026-06-30 10:00:00+00:00", TEN),
        ("2026-06-30 10:00:00", TEN),
        ("2026-06-30T10:00:00.123456+00:00", TEN.replace(microsecond=123456)),
        ("2026-06-30T10:00:00.5Z", TEN.replace(microsecond=500000)),
    ],
)
def test_every_time_format_is_read_as_utc(written: str, meant: datetime) -> None:
    read = parse_time(written)
    assert read == meant
    assert read is not None
    assert read.tzinfo is UTC


def test_a_null_time_is_none() -> None:
    assert parse_time(None) is None


@pytest.mark.parametrize(
    "written", ["", "yesterday", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+05:00", 1782813600, True, {}]
)
def test_an_invalid_time_is_rejected(written: object) -> None:
    with pytest.raises(ValueError):
        parse_time(written)


def test_a_bound_has_whole_seconds_and_a_z() -> None:
    moment = datetime(2026, 6, 30, 12, 0, 1, 999999, tzinfo=timezone(timedelta(hours=2)))
    assert format_bound(moment) == "2026-06-30T10:00:01Z"


def test_a_bound_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        format_bound(datetime(2026, 6, 30))


@REPEATABLE
@given(st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC)))
def test_a_bound_is_never_later_than_its_moment_and_less_than_a_second_earlier(moment: datetime) -> None:
    bound = parse_time(format_bound(moment))
    assert bound is not None
    assert timedelta(0) <= moment - bound < timedelta(seconds=1)
