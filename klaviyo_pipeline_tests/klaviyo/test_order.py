"""When a chain that is cut short may end."""

from __future__ import annotations

from datetime import timedelta

from klaviyo_pipeline.klaviyo.order import OrderWatch

from .fakes import NOON


def ends(*pages: list[int | None]) -> list[bool]:
    """What each page says, times being minutes around an end at noon."""
    watch = OrderWatch(NOON)
    return [watch.is_passed([None if at is None else NOON + timedelta(minutes=at) for at in page]) for page in pages]


def test_a_chain_ends_with_the_first_page_that_lies_beyond_its_end_as_a_whole() -> None:
    assert ends([-3, -2], [-1, 0], [0, 1]) == [False, False, True]


def test_times_out_of_order_keep_a_chain_going_whatever_comes_after() -> None:
    assert ends([-3, 1, -2], [1, 2], [3, 4]) == [False, False, False]
    assert ends([-3, -2], [1, 0], [3, 4]) == [False, False, False]


def test_a_missing_time_or_an_empty_page_ends_nothing() -> None:
    assert ends([-3, None], [1, 2]) == [False, False]
    assert ends([-3], [], [1]) == [False, False, True]


def test_a_chain_without_an_end_is_read_to_its_last_page() -> None:
    assert not OrderWatch(None).is_passed([NOON])
