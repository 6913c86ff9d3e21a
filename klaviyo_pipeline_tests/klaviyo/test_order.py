"""When a chain that is cut short may end, and what is told of what lies ahead of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from klaviyo_pipeline.klaviyo.order import OrderWatch

from .fakes import NOON


def minutes(*after_noon: int | None) -> list[datetime | None]:
    return [None if at is None else NOON + timedelta(minutes=at) for at in after_noon]


def ends(*pages: list[int | None]) -> list[bool]:
    """What each page says, times being minutes around an end at noon."""
    watch, told = OrderWatch(NOON), []
    for page in pages:
        watch.look(minutes(*page))
        told.append(watch.is_passed)
    return told


def test_a_chain_ends_with_the_first_page_that_shows_enough_beyond_its_end() -> None:
    assert ends([-3, -2], [-1, -1], [-1, 1], [2, 3]) == [False, False, False, True]
    assert ends([-3, -2], [-1, 0, 0, 1]) == [False, True]


def test_one_time_far_ahead_of_its_place_ends_nothing() -> None:
    assert ends([-30, -29, 5], [-28, -27], [1, 2, 3]) == [False, False, False]
    assert ends([-30, -29, 5], [5, -28], [1, 2, 3]) == [False, False, False]


def test_times_out_of_order_keep_a_chain_going_whatever_comes_after() -> None:
    assert ends([-3, 1, -2], [1, 2], [3, 4]) == [False, False, False]
    assert ends([-3, -2], [1, 0], [3, 4]) == [False, False, False]


def test_a_missing_time_or_an_empty_page_ends_nothing() -> None:
    assert ends([-3, None], [1, 2]) == [False, False]
    assert ends([-3], [], [1, 1, 2]) == [False, False, True]


def test_a_chain_without_an_end_is_read_to_its_last_page() -> None:
    watch = OrderWatch(None)
    watch.look([NOON] * 5)
    assert not watch.is_passed


def test_an_end_that_was_set_meanwhile_holds_from_then_on() -> None:
    watch = OrderWatch(None)
    watch.look(minutes(0, 10))
    watch.until = NOON + timedelta(minutes=15)
    assert not watch.is_passed
    watch.look(minutes(14, 16, 16, 16))
    assert watch.is_passed


def test_pages_ahead_are_as_close_as_those_that_came() -> None:
    watch = OrderWatch(None)
    assert watch.ahead(NOON) == (0, timedelta())
    watch.look(minutes(-60, -55))
    watch.look(minutes(-50, -40))
    assert watch.ahead(NOON) == (4, timedelta(minutes=40))
    watch.look(minutes(-30, -20), is_last=True)
    assert watch.ahead(NOON) == (0, timedelta())
    watch.look(minutes(-10, 15))
    assert watch.ahead(NOON) == (0, timedelta())


def test_nothing_is_told_of_a_chain_whose_order_does_not_hold() -> None:
    for odd in (minutes(-60, -50, None), minutes(-50, -60, -55), minutes(-50, -50)):
        watch = OrderWatch(None)
        watch.look(odd)
        assert watch.ahead(NOON) == (0, timedelta())
