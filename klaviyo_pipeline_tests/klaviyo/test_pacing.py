"""The pacer never issues more slots than the published rates allow."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klaviyo_pipeline.klaviyo.errors import QuotaSpent
from klaviyo_pipeline.klaviyo.pacing import LocalPacer, padded_windows
from klaviyo_pipeline.klaviyo.rates import GET_FLOWS, GET_FORMS, QUERY_FLOW_SERIES

from .fakes import NOON


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def seconds_of(pacer: LocalPacer, count: int) -> list[float]:
    slots = [pacer.reserve(GET_FLOWS) for _ in range(count)]
    return [round((slot.at - NOON).total_seconds(), 3) for slot in slots]


def test_a_burst_is_free_and_then_the_padded_second_applies(clock: Clock) -> None:
    assert seconds_of(LocalPacer(clock=clock), 7) == [0, 0, 0, 1.15, 1.15, 1.15, 2.3]


def test_the_padded_minute_applies_in_addition_to_the_second(clock: Clock) -> None:
    assert seconds_of(LocalPacer(clock=clock), 61)[60] == 60.5


def test_a_slot_contains_the_wait_from_now(clock: Clock) -> None:
    pacer = LocalPacer(clock=clock)
    for _ in range(3):
        assert pacer.reserve(GET_FLOWS).wait < 0.001
    clock.pass_by(1)
    assert pacer.reserve(GET_FLOWS).wait == pytest.approx(0.15)


@given(gaps=st.lists(st.floats(0, 30), min_size=1, max_size=150), scale=st.sampled_from([0.5, 1.0, 3.0]))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_no_period_ever_contains_more_slots_than_its_rate(gaps: list[float], scale: float) -> None:
    clock = Clock()
    pacer = LocalPacer(scale=scale, clock=clock, longest_wait=1e9)
    slots = []
    for gap in gaps:
        slots.append(pacer.reserve(GET_FLOWS).at)
        clock.pass_by(gap)
    assert all(later - earlier >= timedelta(microseconds=1) for earlier, later in pairwise(slots))
    for requests, seconds in padded_windows(GET_FLOWS, scale):
        pairs = zip(slots, slots[requests:], strict=False)
        assert all(later - earlier >= timedelta(seconds=seconds) for earlier, later in pairs)


def test_many_threads_get_different_slots() -> None:
    pacer = LocalPacer(scale=0)
    with ThreadPoolExecutor(8) as threads:
        slots = [slot.at for slot in threads.map(lambda _: pacer.reserve(GET_FLOWS), range(200))]
    assert len(set(slots)) == 200


def test_endpoints_do_not_share_their_rates(clock: Clock) -> None:
    pacer = LocalPacer(clock=clock)
    seconds_of(pacer, 3)
    assert pacer.reserve(GET_FORMS).wait == 0


def test_windows_are_padded_by_their_length() -> None:
    assert padded_windows(GET_FLOWS, 1) == [(3, 1.15), (60, 60.5)]
    assert padded_windows(QUERY_FLOW_SERIES, 1) == [(1, 1.15), (2, 60.5), (225, 86_401.0)]
    assert padded_windows(GET_FLOWS, 2) == [(3, 0.575), (60, 30.25)]
    assert padded_windows(GET_FLOWS, 0) == []


def test_a_used_up_daily_quota_is_an_error_and_takes_no_slot(clock: Clock) -> None:
    pacer = LocalPacer(clock=clock)
    for _ in range(225):
        clock.pass_by(61)
        pacer.reserve(QUERY_FLOW_SERIES)
    clock.pass_by(61)
    for _ in range(2):
        with pytest.raises(QuotaSpent) as raised:
            pacer.reserve(QUERY_FLOW_SERIES)
        assert raised.value.returns_at == NOON + timedelta(seconds=62, days=1)
    clock.pass_by(86_400)
    assert pacer.reserve(QUERY_FLOW_SERIES).wait == 0


def test_blocks_and_order_apply_without_pacing(clock: Clock) -> None:
    pacer = LocalPacer(scale=0, clock=clock)
    slots = [pacer.reserve(QUERY_FLOW_SERIES) for _ in range(300)]
    assert slots[-1].at == NOON + timedelta(microseconds=299)
    pacer.block(QUERY_FLOW_SERIES, 30)
    assert pacer.reserve(QUERY_FLOW_SERIES).at == NOON + timedelta(seconds=30)


def test_a_block_applies_to_its_endpoint_and_a_shorter_one_does_not_end_it(clock: Clock) -> None:
    pacer = LocalPacer(clock=clock)
    pacer.block(GET_FLOWS, 50)
    pacer.block(GET_FLOWS, 5)
    assert pacer.reserve(GET_FLOWS).wait == 50
    assert pacer.reserve(GET_FORMS).wait == 0


def test_a_block_for_hours_is_a_used_up_quota(clock: Clock) -> None:
    pacer = LocalPacer(clock=clock)
    pacer.block(GET_FLOWS, 7200)
    with pytest.raises(QuotaSpent, match="2026-07-01 14:00:00 UTC"):
        pacer.reserve(GET_FLOWS)


def test_a_clock_that_steps_back_never_repeats_a_slot(clock: Clock) -> None:
    pacer = LocalPacer(scale=0, clock=clock)
    first = pacer.reserve(GET_FLOWS)
    clock.pass_by(-2)
    assert pacer.reserve(GET_FLOWS).at > first.at


def test_a_negative_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="rate scale"):
        LocalPacer(scale=-1)
