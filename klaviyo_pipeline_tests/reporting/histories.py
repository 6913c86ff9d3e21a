"""Generated daily histories of flows, with and without a break, and how well the quiet checks judge them.

They have more shapes and rougher noise than those of `test_silence.py`. The constants of the checks were chosen on the
seeds from 1000 to 1059, and measured on the seeds from 20000. `python -m klaviyo_pipeline_tests.reporting.histories
FIRST_SEED HISTORIES` prints the measured shares.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from klaviyo_pipeline.reporting.silence import fallen_days, stopped_days, unconverted_days

DAYS, MONTH, JUDGED_FROM = 180, 30, 60
FRIDAY = 110
"""The day of Black Friday, and the first day of the holidays is 30 days later."""
HOLIDAYS = FRIDAY + 30

Series = NDArray[np.float64]
Shape = Callable[[Generator], Series]


def weekly(luck: Generator) -> Series:
    """A random pattern by day of the week, of mean 1."""
    pattern = luck.uniform(0.5, 1.5, 7)
    return np.resize(pattern / pattern.mean(), DAYS)


def seasonal(luck: Generator) -> Series:
    wave = 1 + luck.uniform(0.4, 0.9) * np.sin(2 * np.pi * (np.arange(DAYS) / 365 + luck.random()))
    return weekly(luck) * wave


def growing(luck: Generator) -> Series:
    return weekly(luck) * np.exp(np.linspace(0, np.log(luck.uniform(2, 8)), DAYS))


def shrinking(luck: Generator) -> Series:
    return growing(luck)[::-1].copy()


def weekdays_only(luck: Generator) -> Series:
    """From Monday to Friday, and not on public holidays."""
    rate = (np.arange(DAYS) % 7 < 5).astype(float) * luck.uniform(0.8, 1.2)
    rate[[30, 65, 100, FRIDAY - 1, HOLIDAYS + 1]] = 0
    return rate


def black_friday(luck: Generator) -> Series:
    """Many times as many sends in the week of Black Friday, and fewer than before in the weeks after."""
    rate = weekly(luck)
    rate[FRIDAY - 3 : FRIDAY + 4] *= luck.uniform(4, 12)
    rate[FRIDAY + 4 : FRIDAY + 30] *= luck.uniform(0.3, 0.7)
    return rate


def holidays(luck: Generator) -> Series:
    """A tenth to a third of the sends over ten days of holidays."""
    rate = weekly(luck)
    rate[HOLIDAYS : HOLIDAYS + 10] *= luck.uniform(0.1, 0.33)
    return rate


def steps(luck: Generator) -> Series:
    """The audience doubles or halves now and then."""
    factors = np.repeat(2.0 ** luck.integers(-1, 2, DAYS // 30), 30)
    return weekly(luck) * factors


def bursts(luck: Generator) -> Series:
    """One to three days of sends, then four to twelve days without any."""
    rate, day = np.zeros(DAYS), 0
    while day < DAYS:
        length = int(luck.integers(1, 4))
        rate[day : day + length] = luck.uniform(0.5, 1.5)
        day += length + int(luck.integers(4, 13))
    return rate


def fading(luck: Generator) -> Series:
    """A season that ends: over weeks there are fewer and fewer sends, until there are none."""
    return weekly(luck) * np.exp(-((np.maximum(0, np.arange(DAYS) - 80) / luck.uniform(15, 40)) ** 2))


DAILY: dict[str, Shape] = {
    "seasonal": seasonal,
    "growing": growing,
    "shrinking": shrinking,
    "weekdays only, with public holidays": weekdays_only,
    "Black Friday": black_friday,
    "holidays": holidays,
    "steps": steps,
}
UNEVEN: dict[str, Shape] = {"bursts": bursts, "a season that fades": fading}


def counted(luck: Generator, means: Series) -> Series:
    """Counts around these means, which vary more than by chance alone (negative binomial)."""
    evenness = luck.uniform(4, 30)
    spread = luck.gamma(evenness, 1 / evenness, len(means))
    return luck.poisson(means * spread).astype(float)


def usual(rate: Series) -> float:
    """The rate of a usual day with sends."""
    return float(np.median(rate[rate > 0]))


@dataclass
class Measured:
    """What a check found: breaks found of all, and alarms without a break in so many months."""

    found: int = 0
    breaks: int = 0
    alarms: int = 0
    months: float = 0.0
    missed: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)

    @property
    def found_share(self) -> float:
        return self.found / self.breaks

    @property
    def alarms_per_100_months(self) -> float:
        return 100 * self.alarms / self.months

    def watch(self, what: str, judge: Callable[[int], bool]) -> None:
        """Count how often the judgement turns from good to bad, day by day."""
        bad = False
        for day in range(JUDGED_FROM, DAYS):
            before, bad = bad, judge(day)
            if bad and not before:
                self.alarms += 1
                self.raised.append(f"{what}, day {day}")
        self.months += (DAYS - JUDGED_FROM) / MONTH

    def tried(self, what: str, found: bool) -> None:
        self.breaks += 1
        self.found += found
        if not found:
            self.missed.append(what)


def each(seeds: Sequence[int], shapes: dict[str, Shape]) -> Iterator[tuple[Generator, str, Series]]:
    for seed in seeds:
        for number, (name, shape) in enumerate(shapes.items()):
            luck = np.random.default_rng([seed, number])
            yield luck, f"{name}, seed {seed}", shape(luck)


def stopped_flows(seeds: Sequence[int]) -> Measured:
    """Flows of 0.3 to 5,000 sends on a usual day. For the breaks, at least 20: they stop on a random day."""
    measured = Measured()
    for luck, what, rate in each(seeds, DAILY | UNEVEN):
        volume = float(np.exp(luck.uniform(np.log(0.3), np.log(5000))))
        counts = counted(luck, volume * rate)
        measured.watch(what, lambda day, c=counts: stopped_days(c[: day + 1].tolist()) > 0)  # type: ignore[misc]
        if any(what.startswith(name) for name in UNEVEN):
            continue
        stops = int(luck.integers(90, DAYS - 10))
        counts = counted(luck, max(volume, 20) * rate / usual(rate[stops - 28 : stops]))
        # Two days on which the flow would have sent.
        due = np.flatnonzero(rate[stops:] > 0)[1] + 1
        measured.tried(what, stopped_days([*counts[:stops].tolist(), *[0.0] * due]) > 0)
    return measured


KNOWN = (0.5, 0.8, 0.95)
"""The share of a day's conversions that is known after one, two and three days."""


def broken_tracking(seeds: Sequence[int]) -> Measured:
    """Flows with conversions that come in late. Some have at least ten a day, and lose them from one day on."""
    measured = Measured()
    for luck, what, rate in each(seeds, DAILY):
        delivered = counted(luck, luck.uniform(100, 3000) * rate)
        share = float(np.exp(luck.uniform(np.log(0.0003), np.log(0.1)))) * np.exp(np.cumsum(luck.normal(0, 0.03, DAYS)))
        converted = luck.binomial(delivered.astype(int), np.minimum(share, 0.5)).astype(float)

        def seen(day: int, converted: Series = converted, luck: Generator = luck) -> list[float]:
            known = converted[: day + 1].copy()
            for age, part in enumerate(KNOWN, 1):
                known[-age] = luck.binomial(int(known[-age]), part)
            return known.tolist()

        measured.watch(
            what,
            lambda day, d=delivered, s=seen: unconverted_days(s(day), d[: day + 1].tolist()) > 0,  # type: ignore[misc]
        )
        breaks = int(luck.integers(90, DAYS - 10))
        last = breaks + int(np.flatnonzero(delivered[breaks:] > 0)[1])
        lost = converted[: last + 1] * (np.arange(last + 1) < breaks)
        if converted[breaks - 28 : breaks].sum() >= 280:
            measured.tried(what, unconverted_days(lost.tolist(), delivered[: last + 1].tolist()) > 0)
    return measured


def fallen_rates(seeds: Sequence[int]) -> Measured:
    """Open and click rates that drift, differ by weekday, are lower in the week of Black Friday and come in late.

    On one day, most fall to less than half and stay there.
    """
    measured = Measured()
    for luck, what, rate in each(seeds, DAILY):
        people = counted(luck, float(np.exp(luck.uniform(np.log(30), np.log(20000)))) * rate)
        level = luck.choice([0.45, 0.3, 0.15, 0.04]) * np.exp(np.cumsum(luck.normal(0, 0.01, DAYS)))
        pattern = np.resize(luck.uniform(0.85, 1.15, 7), DAYS) * np.exp(luck.normal(0, 0.08, DAYS))
        pattern[FRIDAY - 3 : FRIDAY + 4] *= 0.75
        true = np.minimum(level * pattern, 0.9)
        opened = luck.binomial(people.astype(int), true).astype(float)

        def rates(day: int, opened: Series, people: Series = people) -> list[float | None]:
            known = opened[: day + 1].copy()
            known[-1] *= 0.9
            return [one / of if of else None for one, of in zip(known, people, strict=False)]

        measured.watch(
            what,
            lambda day, o=opened, p=people, r=rates: fallen_days(r(day, o), p[: day + 1].tolist()) > 0,  # type: ignore[misc]
        )
        breaks = int(luck.integers(90, DAYS - 10))
        last = breaks + int(np.flatnonzero(people[breaks:] > 0)[1])
        # Enough people that a fall to a quarter is beyond the noise of counting.
        if people[breaks - 28 : breaks].mean() * level[breaks] >= 60:
            broken = np.where(np.arange(DAYS) < breaks, opened, np.floor(opened * luck.uniform(0, 0.3)))
            measured.tried(what, fallen_days(rates(last, broken), people[: last + 1].tolist()) > 0)
    return measured


MEASURES = {"stopped": stopped_flows, "no conversions": broken_tracking, "rate fell": fallen_rates}


def main() -> None:
    first, number = int(sys.argv[1]), int(sys.argv[2])
    for name, measure in MEASURES.items():
        one = measure(range(first, first + number))
        print(
            f"{name}: {one.found} of {one.breaks} found ({one.found_share:.1%}), "
            f"{one.alarms} alarms in {one.months:,.0f} months ({one.alarms_per_100_months:.2f} per 100)"
        )
        for told in (one.missed, one.raised):
            print("   ", "; ".join(told[:40]))


if __name__ == "__main__":
    main()
