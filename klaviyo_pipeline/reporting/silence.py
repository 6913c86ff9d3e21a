"""Decides whether a daily series has gone quiet, or has left its usual range. Uses only the series itself.

Stopped: A weekday is due if its count was nearly always above zero. A busy series (at least `BUSY` on a usual day) has
stopped if it is zero on at least the last two due days, and on more due days than in any pause of the eight weeks
before. Any other series has stopped if it is zero for more than a week and for more than twice its longest pause,
unless it had faded: in the four weeks before the zeros, it had less than one per day, or less than half as much as in
the four weeks before that.

No conversions: A negative binomial distribution gives the probability that none of the deliveries or form views since
the last conversion leads to another one. The conversion rate and its spread are those of the eight weeks up to the last
conversion; if the rate of the last two of these weeks is lower, that rate is used. Conversions have ended if the
probability is below `UNLIKELY`, and no earlier pause was as long.

Fallen: Each day is compared with the median of the same weekday in the four weeks before. A rate has fallen if it is
lower by more than `RELATIVE_FALL`, and by more than chance explains, on at least the last two days. Each of these falls
must also be larger than every fall of the eight weeks before.

The constants were chosen on generated histories, and tested on further ones. docs/schedule.md has the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import log, sqrt
from statistics import median

WEEK = 7
MONTH = 4 * WEEK
RECENT = 2 * MONTH
LEAST_DAYS = MONTH
"""A shorter series is not judged, because its weekly rhythm is not known yet."""
LEAST_ACTIVE = 4

BUSY = 10
"""If a usual day has at least this count, a day with zero is not chance."""
OFTEN = 0.75
"""A weekday is due if its count was above zero on at least this share of its last eight occurrences."""
UNLIKELY = 1e-3

LEAST_PEOPLE = 20
"""A rate of fewer people is not judged, because chance changes it too much."""
DEVIATIONS = 4.5
"""A fall must exceed this many standard deviations, which depend on the number of people."""
RELATIVE_FALL = 0.5
LONGEST_FALL = 14
"""In days. A rate that has been low for longer counts as the usual rate."""

# The share of a day's conversions that is known on the next day. Orders follow the message by hours or days.
_KNOWN_AT_ONCE = 0.5
_IMMATURE_DAYS = 1


def stopped_days(counts: Sequence[float]) -> int:
    """The number of days with a zero count at the end of the series; 0 if the series has not stopped.

    `counts` has one value for each day, oldest first.
    """
    silent = _zeros_at_end(counts)
    past = _since_first(counts[: len(counts) - silent])
    if not silent or not _is_known(past):
        return 0
    ends = len(counts) - silent
    recent = range(ends - min(len(past), RECENT), ends)
    due = {day for day in range(WEEK) if _share_active(counts, recent, day) >= OFTEN}
    before = [counts[at] for at in recent if at % WEEK in due]
    if before and median(before[-len(due) :]) >= BUSY:
        missed = sum(at % WEEK in due for at in range(ends, len(counts)))
        return silent if missed >= 2 and missed > _longest_pause(before) else 0
    has_faded = sum(past[-MONTH:]) < max(MONTH, sum(past[-2 * MONTH : -MONTH]) / 2)
    return silent if not has_faded and silent > max(WEEK, 2 * _longest_pause(past)) else 0


def unconverted_days(converted: Sequence[float], exposure: Sequence[float]) -> int:
    """The number of days without conversions at the end of the series; 0 if chance can explain them.

    Conversions are expected in proportion to the exposure, such as deliveries. Days without exposure do not count.
    """
    kept = [(count, on) for count, on in zip(converted, exposure, strict=True) if on > 0]
    counts, exposure = [count for count, _ in kept], [on for _, on in kept]
    silent = _zeros_at_end(counts)
    past = _since_first(counts[: len(counts) - silent])
    if not silent or not _is_known(past) or silent <= _longest_pause(past):
        return 0
    recent, ends = past[-RECENT:], len(counts) - silent
    known, expected = _by_exposure(recent, exposure[ends - len(recent) : ends], exposure[ends:])
    return silent if _log_probability_of_zeros(recent, known, expected) < log(UNLIKELY) else 0


def fallen_days(rates: Sequence[float | None], people: Sequence[float]) -> int:
    """The number of days for which the rate has been far below its usual range; 0 if there is only one such day.

    Days with fewer than `LEAST_PEOPLE` people are not judged.
    """
    usable = [
        rate if rate is not None and count >= LEAST_PEOPLE else None for rate, count in zip(rates, people, strict=True)
    ]
    low: list[tuple[int, float]] = []
    past: list[float] = []
    for at in reversed(range(len(usable))):
        if (one := _deviation(usable, at, people[at])) is None:
            continue
        fall, noise, base = one
        if not past and len(low) < LONGEST_FALL and fall < -max(DEVIATIONS * noise, RELATIVE_FALL * base):
            low.append((at, fall))
        else:
            past.append(fall)
        # Stops early if the last two days are not both low, which is the usual case.
        if len(past) == (RECENT if len(low) > 1 else 1):
            break
    if len(low) < 2 or low[0][0] != len(usable) - 1 or len(past) < LEAST_DAYS:
        return 0
    return len(usable) - low[-1][0] if max(fall for _, fall in low) < min(past) else 0


def _deviation(rates: Sequence[float | None], at: int, people: float) -> tuple[float, float, float] | None:
    """A day's difference from the median of its weekday, the standard deviation of chance alone, and the median."""
    before = [rate for week in range(1, 5) if at - WEEK * week >= 0 and (rate := rates[at - WEEK * week]) is not None]
    rate = rates[at]
    if rate is None or len(before) < 3:
        return None
    base = median(before)
    share = min(max(base, 1 / people), 0.5)
    return rate - base, sqrt(share * (1 - share) / people), base


def _by_exposure(
    recent: Sequence[float], past: Sequence[float], silent: Sequence[float]
) -> tuple[list[float], list[float]]:
    rate = _ratio(sum(recent), sum(past))
    last = min(rate, _ratio(sum(recent[-2 * WEEK :]), sum(past[-2 * WEEK :])))
    immature = len(silent) - _IMMATURE_DAYS
    known = [rate * on for on in past]
    return known, [last * on * (_KNOWN_AT_ONCE if at >= immature else 1.0) for at, on in enumerate(silent)]


def _log_probability_of_zeros(counts: Sequence[float], known: Sequence[float], expected: Sequence[float]) -> float:
    """The natural logarithm of the probability that all days of `expected` are zero.

    `counts` and `known` are the observed and the expected counts of the days before.
    """
    variance = sum((count - mean) ** 2 for count, mean in zip(counts, known, strict=True))
    dispersion = _ratio(variance, sum(known))
    mean = sum(expected)
    return -mean if dispersion <= 1.01 else -mean * log(dispersion) / (dispersion - 1)


def _ratio(dividend: float, divisor: float) -> float:
    return dividend / divisor if divisor else 0.0


def _zeros_at_end(counts: Sequence[float]) -> int:
    return next((at for at, count in enumerate(reversed(counts)) if count > 0), len(counts))


def _since_first(counts: Sequence[float]) -> Sequence[float]:
    return counts[next((at for at, count in enumerate(counts) if count > 0), len(counts)) :]


def _is_known(past: Sequence[float]) -> bool:
    return len(past) >= LEAST_DAYS and sum(count > 0 for count in past) >= LEAST_ACTIVE


def _longest_pause(counts: Sequence[float]) -> int:
    return max((len(list(run)) for zero, run in groupby(counts, lambda count: count <= 0) if zero), default=0)


def _share_active(counts: Sequence[float], days: range, weekday: int) -> float:
    chosen = [counts[at] > 0 for at in days if at % WEEK == weekday]
    return _ratio(sum(chosen), len(chosen))
