"""Decides how often a request is retried, and how long to wait before each retry."""

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_EXPECTED_AVAILABLE = re.compile(r"available in (\d+(?:\.\d+)?) second", re.IGNORECASE)

# No published limit covers more than a day, so a response that requests a longer wait is wrong. The wait is cut to a
# day: it must not block an endpoint for years.
LONGEST_QUOTA = 86_400.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is sent, how long the client waits between attempts, and when it gives up.

    A request has one attempt more than there are `ceilings`, which are the longest backoffs between attempts: by
    default five attempts and at most 20 seconds of backoff. Each backoff is a random time between 0 and its ceiling
    (full jitter), so that processes that fail together do not retry together.

    If a response requests a longer wait, for example in `Retry-After`, the client waits for up to `longest_retry_after`
    seconds. If a 429 requests more, `QuotaSpent` is raised; for other errors, the wait is cut to this maximum. The
    client stops sending when `consecutive_exhausted` requests in a row have exhausted their attempts. It gives up when
    the run would lose more than `longest_loss` seconds to failures (see `FailureBudget`).
    """

    ceilings: tuple[float, ...] = (1.0, 3.0, 8.0, 8.0)
    longest_retry_after: float = 60.0
    consecutive_exhausted: int = 3
    longest_loss: float = 1_800.0
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    @property
    def attempts(self) -> int:
        """The most attempts of one request."""
        return len(self.ceilings) + 1

    def backoff(self, attempt: int) -> float:
        """The seconds to wait after the failed attempt with this number, counted from 1."""
        ceilings = self.ceilings or (0.0,)
        return ceilings[min(attempt, len(ceilings)) - 1] * self.random()


class FailureBudget:
    """Counts the seconds that a run has lost to failures: failed attempts and the waits after them.

    Time that several threads lose at once counts once. The budget is safe to use from many threads.
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
        """Adds a loss of `seconds` that ends now."""
        with self._lock:
            now = self._clock()
            self._seconds += max(0.0, now - max(now - seconds, self._counted_until))
            self._counted_until = now if seconds > 0 else self._counted_until


def requested_wait(headers: Mapping[str, str], detail: str | None, now: datetime) -> float | None:
    """The wait in seconds that an error response requests, at most `LONGEST_QUOTA`; None if it requests none.

    The wait is that of `Retry-After` (a number of seconds or a date) or `daily_wait`, whichever is longer. If the
    headers contain neither, it is taken from Klaviyo's text: "Expected available in N second(s)".
    """
    requested = [_header_wait(headers.get("retry-after"), now), daily_wait(headers)]
    waits = [wait for wait in requested if wait is not None]
    if waits:
        return min(LONGEST_QUOTA, max(waits))
    written = _EXPECTED_AVAILABLE.search(detail or "")
    return min(LONGEST_QUOTA, float(written[1])) if written else None


def daily_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds until a used-up daily quota is available again; None while some of it is left.

    The quota is used up if `ratelimit-remaining-daily` is 0. It is available again after `ratelimit-reset-daily`
    seconds, not at midnight UTC. The response to the last request of the quota has these headers too, even if it is
    successful.
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
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    # An HTTP date is always in GMT, even if it names no time zone.
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())


def _seconds(value: str) -> float | None:
    text = value.strip()
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None
