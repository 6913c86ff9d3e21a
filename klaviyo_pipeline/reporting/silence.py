"""When a daily series has gone quiet, or has left its usual range: plain statistics of the series alone.

Stopped: a series with at least `BUSY` on a usual day has stopped if it misses two due days in a row, and never missed
as many in the last eight weeks. A weekday is due if it nearly always counted something. Any other series has stopped
once it is silent for more than a week and for more than twice its longest pause, unless it had faded before: in its
last four weeks it counted less than one a day, or less than half of the four weeks before.

No conversions: how likely are no conversions of so many deliveries, if their share and its spread are those of the last
eight weeks (a negative binomial distribution)? That must be below `UNLIKELY`, and never have lasted as long before.

Fallen: each day is compared with the median of the same weekday in the four weeks before. A rate has fallen if on two
days in a row it is lower by `RELATIVE_FALL`, by more than chance explains, and by more than ever in eight weeks.

The constants were chosen on some generated histories and measured on others: docs/schedule.md has the results.
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
"""Shorter series are not judged: four weeks show a rhythm."""
LEAST_ACTIVE = 4

BUSY = 10
"""If a usual day has at least this count, a day with zero is not chance."""
OFTEN = 0.75
"""A weekday is due if the count was above zero on this share of its last eight occurrences."""
UNLIKELY = 1e-3

LEAST_PEOPLE = 20
"""A rate of fewer people is not judged."""
DEVIATIONS = 4.5
"""A fall must exceed this many standard deviations of the chance in counting these people."""
RELATIVE_FALL = 0.5
LONGEST_FALL = 14
"""After two weeks a lower rate is the usual one."""

# The share of the last day's conversions that are known on the next: orders follow the message by hours or days.
_KNOWN_AT_ONCE = 0.5
_IMMATURE_DAYS = 1


def stopped_days(counts: Sequence[float]) -> int:
    """For how many days nothing was counted at the end of the series; 0 if its own rhythm explains that.

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
    """For how many days with exposure (such as deliveries) nothing converted; 0 if that can be chance.

    Conversions are expected in proportion to the exposure. Days without exposure are left out and do not count.
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
    """The number of days for which the rate has been far below its usual range. A single such day counts as 0.

    Days with few people are left out. Such a day is not judged.
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
        # Most rates are not low on the last day: the rest need not be computed.
        if len(past) == (RECENT if len(low) > 1 else 1):
            break
    if len(low) < 2 or low[0][0] != len(usable) - 1 or len(past) < LEAST_DAYS:
        return 0
    return len(usable) - low[-1][0] if max(fall for _, fall in low) < min(past) else 0


def _deviation(rates: Sequence[float | None], at: int, people: float) -> tuple[float, float, float] | None:
    """A day's difference from the same weekday's median, the noise of counting, and that median."""
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
    """The logarithm of the probability that all of these days are zero."""
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
