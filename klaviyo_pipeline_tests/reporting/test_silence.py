"""When a series counts as quiet, on generated histories with known breaks: at least 95% of the breaks are found within
two days, with at most one false alarm in 100 flow-months."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from math import cos, exp, pi

import pytest

from klaviyo_pipeline.reporting.silence import has_fallen, quiet_days

DAYS, MONTH = 150, 30
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
        found += quiet_days([*counts[:stops], *[0.0] * (last + 1 - stops)]) > 0
    assert found >= 0.95 * breaks


def test_flows_that_go_on_raise_fewer_than_one_alarm_in_a_hundred_months() -> None:
    months = raised = 0
    for counts in histories(SHAPES | SEASONS, (0.3, 2.0, 20.0, 300.0)):
        raised += alarms(lambda day, counts=counts: quiet_days(counts[: day + 1]) > 0, range(60, DAYS))  # type: ignore[misc]
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
            lambda day, c=converted, d=delivered: quiet_days(c[: day + 1], d[: day + 1]) > 0,  # type: ignore[misc]
            range(60, DAYS),
        )
        months += (DAYS - 60) / MONTH
        if number % 4 < 2:
            breaks += 1
            found += quiet_days([*converted[:100], 0.0, 0.0], delivered[:102]) > 0
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
        raised += alarms(lambda day, r=rates, p=people: has_fallen(r[: day + 1], p[: day + 1]), range(70, DAYS))  # type: ignore[misc]
        months += (DAYS - 70) / MONTH
        breaks += 1
        broken = [rate and rate * 0.2 for rate in rates[100:102]]
        found += has_fallen([*rates[:100], *broken], people[:102])
    assert found >= 0.95 * breaks
    assert raised <= months / 100


@pytest.mark.parametrize("counts", [[], [0.0] * 90, [5.0] * 20 + [0.0] * 9, [0.0] * 60 + [9.0, 0.0, 0.0]])
def test_a_short_or_silent_history_is_not_judged(counts: list[float]) -> None:
    assert quiet_days(counts) == 0
    assert not has_fallen([0.5] * len(counts), counts)
