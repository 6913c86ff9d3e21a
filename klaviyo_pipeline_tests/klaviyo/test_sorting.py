"""When a query with an end may stop before its last page."""

from __future__ import annotations

from datetime import datetime, timedelta

from klaviyo_pipeline.klaviyo.sorting import SortMonitor

from .fakes import NOON


def minutes(*after_noon: int | None) -> list[datetime | None]:
    return [None if at is None else NOON + timedelta(minutes=at) for at in after_noon]


def ends(*pages: list[int | None]) -> list[bool]:
    """What each page says, times being minutes around an end at noon."""
    monitor, ended = SortMonitor(NOON), []
    for page in pages:
        monitor.add(minutes(*page))
        ended.append(monitor.is_passed)
    return ended


def test_a_query_ends_with_the_first_page_that_has_enough_beyond_its_end() -> None:
    assert ends([-3, -2], [-1, -1], [-1, 1], [2, 3]) == [False, False, False, True]
    assert ends([-3, -2], [-1, 0, 0, 1]) == [False, True]


def test_one_time_far_ahead_of_its_place_ends_nothing() -> None:
    assert ends([-30, -29, 5], [-28, -27], [1, 2, 3]) == [False, False, False]
    assert ends([-30, -29, 5], [5, -28], [1, 2, 3]) == [False, False, False]


def test_times_out_of_order_keep_a_query_going_whatever_comes_after() -> None:
    assert ends([-3, 1, -2], [1, 2], [3, 4]) == [False, False, False]
    assert ends([-3, -2], [1, 0], [3, 4]) == [False, False, False]


def test_a_missing_time_or_an_empty_page_ends_nothing() -> None:
    assert ends([-3, None], [1, 2]) == [False, False]
    assert ends([-3], [], [1, 1, 2]) == [False, False, True]


def test_a_query_without_an_end_is_read_to_its_last_page() -> None:
    monitor = SortMonitor(None)
    monitor.add([NOON] * 5)
    assert not monitor.is_passed
