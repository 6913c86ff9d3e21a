"""Two names of one zone are the same zone, and two zones that merely agree today are not."""

from __future__ import annotations

import pytest

from klaviyo_pipeline.config.time_zones import same_zone


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("US/Eastern", "America/New_York"),
        ("Asia/Calcutta", "Asia/Kolkata"),
        ("GB", "Europe/London"),
        ("Etc/Zulu", "UTC"),
        ("GMT", "UTC"),
        ("Mars/Base", "Mars/Base"),
    ],
)
def test_an_old_name_is_the_same_zone(one: str, other: str) -> None:
    assert same_zone(one, other)
    assert same_zone(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("America/New_York", "America/Toronto"),
        ("GMT", "Europe/London"),
        ("Europe/London", "Europe/Lisbon"),
        ("Mars/Base", "Venus/Base"),
        ("../tzdata.zi", "UTC"),
        ("", "UTC"),
    ],
)
def test_zones_with_different_rules_are_different_whatever_the_hour_now(one: str, other: str) -> None:
    assert not same_zone(one, other)
