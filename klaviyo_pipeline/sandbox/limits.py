"""The published rate limits, as sliding windows per account and endpoint."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from klaviyo_pipeline.sandbox.api_errors import throttled

DAY = 86_400


@dataclass(frozen=True)
class Rate:
    """At most `requests` requests in `seconds` seconds."""

    requests: int
    seconds: int


@dataclass
class Quota:
    """The requests of one account to one endpoint.

    Windows last `rate.seconds / scale` seconds; scale 0 means no limits.
    """

    rates: tuple[Rate, ...]
    scale: float
    timer: Callable[[], float]
    spent: deque[float] = field(default_factory=deque)

    def spend(self) -> None:
        """Count one request. Raises `ApiError` 429, and counts nothing, if a window is full."""
        if self.scale == 0:
            return
        now = self.timer()
        wait = max(self._wait(rate, now) for rate in self.rates)
        if wait > 0:
            raise throttled(wait)
        self.spent.append(now)
        longest = max(rate.seconds for rate in self.rates) / self.scale
        while self.spent[0] <= now - longest:
            self.spent.popleft()

    def headers(self) -> dict[str, str]:
        """The response headers. `ratelimit-remaining` and `ratelimit-reset` are about the first rate of the endpoint.

        Reports also have two headers about their daily rate.
        """
        burst, daily = self.rates[0], self.rates[-1]
        windows = ", ".join(f"{rate.requests};w={rate.seconds}" for rate in self.rates)
        rate_headers = {
            "ratelimit-limit": f"{burst.requests}, {windows}",
            "ratelimit-remaining": str(self._remaining(burst)),
            "ratelimit-reset": str(self._reset(burst)),
        }
        if daily.seconds == DAY:
            rate_headers["ratelimit-remaining-daily"] = str(self._remaining(daily))
            rate_headers["ratelimit-reset-daily"] = str(self._reset(daily))
        return rate_headers

    def _wait(self, rate: Rate, now: float) -> float:
        if len(self.spent) < rate.requests:
            return 0.0
        return self.spent[-rate.requests] + rate.seconds / self.scale - now

    def _inside(self, rate: Rate) -> list[float]:
        since = self.timer() - rate.seconds / self.scale if self.scale else 0.0
        return [moment for moment in self.spent if moment > since]

    def _remaining(self, rate: Rate) -> int:
        return max(0, rate.requests - len(self._inside(rate)))

    def _reset(self, rate: Rate) -> int:
        inside = self._inside(rate)
        return math.ceil(inside[0] + rate.seconds / self.scale - self.timer()) if inside else 0


class RateLimits:
    """The quotas of all accounts of one server."""

    def __init__(self, scale: float, timer: Callable[[], float]) -> None:
        if scale < 0:
            raise ValueError("rate_scale must not be negative")
        self._scale = scale
        self._timer = timer
        self._quotas: dict[tuple[str, str], Quota] = {}

    def quota(self, account_id: str, name: str, rates: tuple[Rate, ...]) -> Quota:
        key = (account_id, name)
        if key not in self._quotas:
            self._quotas[key] = Quota(rates, self._scale, self._timer)
        return self._quotas[key]
