"""When a daily series has gone quiet, or has left its usual range: plain statistics of the series alone.

Silence: how likely are so many days of zero in a row, if the series went on as before? The days of the last eight weeks
give the expected count, by weekday, and how much the counts vary around it (a negative binomial distribution). A series
is quiet if that probability is below `UNLIKELY`, and if it was never silent for as long before.

Range: each day is compared with the median of the same weekday in the four weeks before. A fall counts if it is far
beyond the usual deviations (their median absolute deviation), and beyond every earlier one, on two days in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import log, sqrt
from statistics import fmean, median

UNLIKELY = 1e-4
WEEK = 7
RECENT = 8 * WEEK
LEAST_DAYS = 4 * WEEK
"""Shorter series are not judged: four weeks show a rhythm."""
LEAST_ACTIVE = 4

LEAST_PEOPLE = 20
"""A rate of fewer people says nothing."""
DEVIATIONS = 4.5
BEYOND = 1.25
"""A fall must exceed the largest earlier one by this factor."""
RELATIVE_FALL = 0.4

# The share of the last day's conversions that are known on the next: orders follow the message by hours or days.
_KNOWN_AT_ONCE = 0.5
_IMMATURE_DAYS = 1


def quiet_days(counts: Sequence[float], exposure: Sequence[float] | None = None) -> int:
    """For how many days the series has been quiet at its end; 0 if it is not, or if that can be chance.

    `counts` has one value for each day, oldest first. With `exposure` (such as deliveries), the expected counts are in
    proportion to it, and days without exposure are left out: the result counts days with exposure.
    """
    if exposure is not None:
        kept = [(count, on) for count, on in zip(counts, exposure, strict=True) if on > 0]
        counts, exposure = [count for count, _ in kept], [on for _, on in kept]
    silent = _zeros_at_end(counts)
    first = next((at for at, count in enumerate(counts) if count > 0), len(counts))
    past = counts[first : len(counts) - silent]
    if not silent or len(past) < LEAST_DAYS or sum(count > 0 for count in past) < LEAST_ACTIVE:
        return 0
    if silent <= max((len(list(run)) for zero, run in groupby(past, lambda count: count <= 0) if zero), default=0):
        return 0
    recent, ends = past[-RECENT:], len(counts) - silent
    if exposure is None:
        known, expected = _by_weekday(recent, ends, silent)
    else:
        known, expected = _by_exposure(recent, exposure[ends - len(recent) : ends], exposure[ends:])
    return silent if _log_probability_of_zeros(recent, known, expected) < log(UNLIKELY) else 0


def has_fallen(rates: Sequence[float | None], people: Sequence[float]) -> bool:
    """Whether the rate has left its usual range downwards on the last two days. Days with few people are left out."""
    usable = [
        rate if rate is not None and count >= LEAST_PEOPLE else None for rate, count in zip(rates, people, strict=True)
    ]
    deviations: list[tuple[float, float, float] | None] = [
        _deviation(usable, at, people[at]) for at in range(len(usable))
    ]
    past = [one[0] for one in deviations[:-2] if one is not None]
    if len(past) < LEAST_DAYS or any(one is None for one in deviations[-2:]):
        return False
    drift = median(past[-WEEK:])
    usual = 1.4826 * median(abs(one) for one in past)
    largest = max(-min(past), 0.0)
    return all(
        -(fall - drift) > max(DEVIATIONS * max(usual, noise), BEYOND * largest, RELATIVE_FALL * base)
        for fall, noise, base in (one for one in deviations[-2:] if one is not None)
    )


def _deviation(rates: Sequence[float | None], at: int, people: float) -> tuple[float, float, float] | None:
    """A day's difference from the same weekday's median, the noise of counting, and that median."""
    before = [rate for week in range(1, 5) if at - WEEK * week >= 0 and (rate := rates[at - WEEK * week]) is not None]
    rate = rates[at]
    if rate is None or len(before) < 3:
        return None
    base = median(before)
    share = min(max(base, 1 / people), 0.5)
    return rate - base, sqrt(share * (1 - share) / people), base


def _by_weekday(recent: Sequence[float], ends: int, silent: int) -> tuple[list[float], list[float]]:
    """The expected counts of the recent days and of the silent ones. A falling series is expected to go on falling."""
    begins = ends - len(recent)
    means = {
        weekday: fmean(chosen)
        for weekday in range(WEEK)
        if (chosen := [count for at, count in enumerate(recent, begins) if at % WEEK == weekday])
    }
    level = min(1.0, _ratio(sum(recent[-2 * WEEK :]), sum(means[at % WEEK] for at in range(ends - 2 * WEEK, ends))))
    last = min(level, _ratio(sum(recent[-WEEK:]), sum(means[at % WEEK] for at in range(ends - WEEK, ends))))
    known = [means[at % WEEK] for at in range(begins, ends)]
    return known, [means[at % WEEK] * last for at in range(ends, ends + silent)]


def _by_exposure(
    recent: Sequence[float], past: Sequence[float], silent: Sequence[float]
) -> tuple[list[float], list[float]]:
    rate = _ratio(sum(recent), sum(past))
    last = min(rate, _ratio(sum(recent[-2 * WEEK :]), sum(past[-2 * WEEK :])))
    immature = len(silent) - _IMMATURE_DAYS
    known = [rate * on for on in past]
    return known, [last * on * (_KNOWN_AT_ONCE if at >= immature else 1.0) for at, on in enumerate(silent)]


def _log_probability_of_zeros(counts: Sequence[float], known: Sequence[float], expected: Sequence[float]) -> float:
    """The logarithm of the probability that all of these days are zero."""
    variance = sum((count - mean) ** 2 for count, mean in zip(counts, known, strict=True))
    dispersion = _ratio(variance, sum(known))
    mean = sum(expected)
    return -mean if dispersion <= 1.01 else -mean * log(dispersion) / (dispersion - 1)


def _ratio(dividend: float, divisor: float) -> float:
    return dividend / divisor if divisor else 0.0


def _zeros_at_end(counts: Sequence[float]) -> int:
    return next((at for at, count in enumerate(reversed(counts)) if count > 0), len(counts))
