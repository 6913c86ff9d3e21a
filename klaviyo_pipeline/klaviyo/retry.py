"""How long to wait before a request is tried again."""

import random
import re
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
    `exhausted_in_a_row` requests that used up their attempts the client asks no more.
    """

    ceilings: tuple[float, ...] = (1.0, 3.0, 8.0, 8.0)
    longest_retry_after: float = 60.0
    exhausted_in_a_row: int = 3
    random: Callable[[], float] = random.random

    @property
    def attempts(self) -> int:
        """How often a request is sent at most."""
        return len(self.ceilings) + 1

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after the failed attempt of that number, counted from 1."""
        ceilings = self.ceilings or (0.0,)
        return ceilings[min(attempt, len(ceilings)) - 1] * self.random()


def asked_wait(headers: Mapping[str, str], detail: str | None, now: datetime) -> float | None:
    """The seconds that a 429 or 503 asks to wait, or None.

    `Retry-After` holds seconds or a date; without it Klaviyo's detail says "Expected available in N
    second(s)". A daily quota that is used up (`ratelimit-remaining-daily: 0` on a refusal) outweighs both:
    it returns after `ratelimit-reset-daily` seconds, not at midnight UTC. No answer is longer than `LONGEST_QUOTA`.
    """
    told = [_header_wait(headers.get("retry-after"), now), _daily_wait(headers)]
    waits = [wait for wait in told if wait is not None]
    if waits:
        return min(LONGEST_QUOTA, max(waits))
    written = _EXPECTED_AVAILABLE.search(detail or "")
    return min(LONGEST_QUOTA, float(written[1])) if written else None


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


def _daily_wait(headers: Mapping[str, str]) -> float | None:
    remaining = headers.get("ratelimit-remaining-daily")
    if remaining is None or _seconds(remaining) != 0:
        return None
    return _seconds(headers.get("ratelimit-reset-daily", ""))


def _seconds(value: str) -> float | None:
    text = value.strip()
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d+)?", text) else None
