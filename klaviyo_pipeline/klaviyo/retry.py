"""How long to wait before a request is tried again."""

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

_EXPECTED_AVAILABLE = re.compile(r"available in (\d+(?:\.\d+)?) second", re.IGNORECASE)

# No published limit looks back on more than a day: a longer wait is a mistake, which must not be kept for years.
LONGEST_QUOTA = 86_400.0


@dataclass(frozen=True)
class RetryPolicy:
    """At most five attempts: `ceilings` are the longest backoffs between them, in seconds, 20 in all.

    Each backoff is drawn between 0 and its ceiling (full jitter), so that processes that failed together do
    not come back together. A `Retry-After` up to `longest_retry_after` seconds is obeyed on top. After
    `exhausted_in_a_row` requests that used up their attempts the client asks no more, and after `longest_trouble`
    seconds that a run has lost to failures (see `FailureBudget`) it waits for none any more.
    """

    ceilings: tuple[float, ...] = (1.0, 3.0, 8.0, 8.0)
    longest_retry_after: float = 60.0
    exhausted_in_a_row: int = 3
    longest_trouble: float = 1_800.0
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    @property
    def attempts(self) -> int:
        """How often a request is sent at most."""
        return len(self.ceilings) + 1

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after the failed attempt of that number, counted from 1."""
        ceilings = self.ceilings or (0.0,)
        return ceilings[min(attempt, len(ceilings)) - 1] * self.random()


class FailureBudget:
    """The seconds that a run has lost to failures: failed attempts, and the waits that followed them.

    What several threads lose at the same time is lost once. Safe to use from many threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted_until = clock()
        self._seconds = 0.0
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return self._seconds

    def add(self, seconds: float) -> None:
        """So many seconds, which end now, were lost."""
        with self._lock:
            now = self._clock()
            self._seconds += max(0.0, now - max(now - seconds, self._counted_until))
            self._counted_until = now if seconds > 0 else self._counted_until


def requested_wait(headers: Mapping[str, str], detail: str | None, now: datetime) -> float | None:
    """The seconds that a 429 or 503 asks to wait, or None.

    `Retry-After` holds seconds or a date; without it Klaviyo's detail says "Expected available in N
    second(s)". A daily quota that is used up (`ratelimit-remaining-daily: 0` on a refusal) outweighs both:
    it returns after `ratelimit-reset-daily` seconds, not at midnight UTC. No answer is longer than `LONGEST_QUOTA`.
    """
    reported = [_header_wait(headers.get("retry-after"), now), daily_wait(headers)]
    waits = [wait for wait in reported if wait is not None]
    if waits:
        return min(LONGEST_QUOTA, max(waits))
    written = _EXPECTED_AVAILABLE.search(detail or "")
    return min(LONGEST_QUOTA, float(written[1])) if written else None


def daily_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds until a daily quota returns that this answer says is used up; None while something is left.

    A success says it too, when it was the last of the day: somebody else may have spent the rest.
    """
    remaining = headers.get("ratelimit-remaining-daily")
    if remaining is None or _seconds(remaining) != 0:
        return None
    reset = _seconds(headers.get("ratelimit-reset-daily", ""))
    return None if reset is None else min(LONGEST_QUOTA, reset)


def _header_wait(value: str | None, now: datetime) -> float | None:
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _seconds(value: str) -> float | None:
    text = value.strip()
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d+)?", text) else None
