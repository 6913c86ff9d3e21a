"""When a series counts as quiet, on generated histories with known breaks: at least 95% of the breaks are found within
two days, with at most one false alarm in 100 flow-months."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from math import cos, exp, pi

import pytest

from klaviyo_pipeline.reporting.silence import fallen_days, stopped_days, unconverted_days
from klaviyo_pipeline_tests.reporting.histories import MEASURES

DAYS, MONTH = 150, 30
FRIDAY = 95
"""If day 0 is a Monday."""
WEEKDAYS = (1.15, 1.1, 1.0, 1.05, 1.2, 0.8, 0.7)


def poisson(luck: random.Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(luck.gauss(mean, mean**0.5)))
    count, product, limit = 0, luck.random(), exp(-mean)
    while product > limit:
        count, product = count + 1, product * luck.random()
    return count


def sends(luck: random.Random, volume: float, shape: Callable[[int], float] = lambda day: 1.0) -> list[float]:
    """Daily sends around `volume`, more on some days of the week, and more or less by luck."""
    return [poisson(luck, volume * shape(day) * WEEKDAYS[day % 7] * luck.uniform(0.6, 1.4)) for day in range(DAYS)]


SHAPES: dict[str, Callable[[int], float]] = {
    "steady": lambda day: 1.0,
    "growing": lambda day: 0.5 + day / DAYS,
    "falling": lambda day: max(0.3, 1.5 - day / DAYS),
    "on weekdays": lambda day: float(day % 7 < 5),
    "once a week": lambda day: 7.0 * (day % 7 == 2),
}
SEASONS: dict[str, Callable[[int], float]] = {
    "a season that fades": lambda day: exp(-(((day - 60) / 30) ** 2)),
    "twice a month": lambda day: 4.0 * (day % 15 < 3),
    "a yearly wave": lambda day: 1 + 0.8 * cos(2 * pi * day / 365),
}


def histories(shapes: dict[str, Callable[[int], float]], volumes: tuple[float, ...]) -> Iterator[list[float]]:
    luck = random.Random(16)
    for number in range(10):
        for volume in volumes:
            for shape in shapes.values():
                yield sends(luck, volume * (1 + number / 10), shape)


def alarms(judge: Callable[[int], bool], days: range) -> int:
    """How often the judgement turns from good to bad."""
    found = [judge(day) for day in days]
    return sum(now and not before for before, now in zip([False, *found], found, strict=False))


def test_flows_that_stop_are_found_within_two_days_of_their_rhythm() -> None:
    found = breaks = 0
    for counts in histories(SHAPES, (20.0, 100.0, 2000.0)):
        stops = next(day for day in range(100, DAYS) if counts[day] > 0)
        # A flow that sends once a week, or on weekdays, is missed on the next day on which it would send.
        due = [day for day in range(stops, DAYS) if counts[day] > 0][:3]
        last = due[1] if due[1] - due[0] > 3 else due[-1]
        breaks += 1
        found += stopped_days([*counts[:stops], *[0.0] * (last + 1 - stops)]) > 0
    assert found >= 0.95 * breaks


def test_flows_that_go_on_raise_fewer_than_one_alarm_in_a_hundred_months() -> None:
    months = raised = 0
    for counts in histories(SHAPES | SEASONS, (0.3, 2.0, 20.0, 300.0)):
        raised += alarms(lambda day, counts=counts: stopped_days(counts[: day + 1]) > 0, range(60, DAYS))  # type: ignore[misc]
        months += (DAYS - 60) / MONTH
    assert months > 900
    assert raised <= months / 100


def test_broken_tracking_is_found_within_two_days_and_low_rates_raise_no_alarm() -> None:
    luck = random.Random(6)
    found = breaks = raised = 0
    months = 0.0
    for number in range(100):
        delivered = sends(luck, 150 * (1 + number / 20))
        rate = (0.05, 0.1, 0.002, 0.0005)[number % 4]
        converted: list[float] = [poisson(luck, count * rate) for count in delivered]
        raised += alarms(
            lambda day, c=converted, d=delivered: unconverted_days(c[: day + 1], d[: day + 1]) > 0,  # type: ignore[misc]
            range(60, DAYS),
        )
        months += (DAYS - 60) / MONTH
        if number % 4 < 2:
            breaks += 1
            found += unconverted_days([*converted[:100], 0.0, 0.0], delivered[:102]) > 0
    assert found >= 0.95 * breaks
    assert raised <= months / 100


def test_a_rate_that_breaks_is_found_on_the_second_day_and_a_usual_one_raises_no_alarm() -> None:
    luck = random.Random(8)
    found = breaks = raised = 0
    months = 0.0
    for number in range(60):
        people = sends(luck, 100 * (1 + number))
        rates: list[float | None] = []
        for day, count in enumerate(people):
            true = (0.4 - 0.1 * day / DAYS) * (1.1 if day % 7 > 4 else 1.0) * luck.uniform(0.9, 1.1)
            rates.append(poisson(luck, count * true) / count if count else None)
        raised += alarms(lambda day, r=rates, p=people: fallen_days(r[: day + 1], p[: day + 1]) > 0, range(70, DAYS))  # type: ignore[misc]
        months += (DAYS - 70) / MONTH
        breaks += 1
        broken = [rate and rate * 0.2 for rate in rates[100:102]]
        found += fallen_days([*rates[:100], *broken], people[:102]) == 2
    assert found >= 0.95 * breaks
    assert raised <= months / 100


@pytest.mark.parametrize("check", MEASURES)
def test_the_marks_hold_on_histories_of_other_shapes_that_no_constant_was_chosen_on(check: str) -> None:
    measured = MEASURES[check](range(20000, 20016))
    assert measured.breaks >= 50
    assert measured.found_share >= 0.95
    assert measured.alarms_per_100_months <= 1


@pytest.mark.parametrize("since", [2, 3, 9, 14])
def test_a_rate_that_fell_is_named_since_the_same_day_until_it_is_the_usual_one(since: int) -> None:
    usual = [0.4 + 0.01 * (day % 5) for day in range(100)]
    people = [1000.0] * (100 + since)
    assert fallen_days([*usual, *[0.1] * since], people) == since
    assert fallen_days([*usual, *[0.1] * 30], [1000.0] * 130) == 0
    assert fallen_days([*usual, *[0.1] * (since - 1), 0.4], people) == 0


def test_a_fall_over_a_weekend_without_sends_is_found_on_the_second_day_with_sends() -> None:
    people = [1000.0 if day % 7 < 5 else 0.0 for day in range(99)]
    rates = [(0.1 if day >= FRIDAY else 0.4) if count else None for day, count in enumerate(people)]
    assert [fallen_days(rates[: day + 1], people[: day + 1]) for day in range(FRIDAY, 99)] == [0, 0, 0, 4]


def test_a_flow_that_sends_once_a_month_has_stopped_after_twice_its_pause() -> None:
    monthly = [30.0 if day % 28 == 0 else 0.0 for day in range(113)]
    assert stopped_days([*monthly, *[0.0] * 54]) == 0
    assert stopped_days([*monthly, *[0.0] * 55]) == 55


def test_a_public_holiday_before_a_weekend_is_no_break() -> None:
    counts = [100.0 if day % 7 < 5 else 0.0 for day in range(98)]
    assert stopped_days([*counts[:FRIDAY], 0.0, 0.0, 0.0]) == 0
    assert stopped_days([*counts[:FRIDAY], 0.0, 0.0, 0.0, 0.0]) == 4


@pytest.mark.parametrize("counts", [[], [0.0] * 90, [5.0] * 20 + [0.0] * 9, [0.0] * 60 + [9.0, 0.0, 0.0]])
def test_a_short_or_silent_history_is_not_judged(counts: list[float]) -> None:
    assert stopped_days(counts) == 0
    assert unconverted_days(counts, [9.0] * len(counts)) == 0
    assert not fallen_days([0.5] * len(counts), counts)
