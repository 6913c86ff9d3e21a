"""When a request may be sent: slots, reserved before the request and waited for by the caller.

Klaviyo counts per endpoint over a second, a minute and, for reports, a day. Its `ratelimit-remaining`
header speaks of the second alone, so the minute must be counted here. All who share an API key share its
quota: a pacer that several processes share lives in the database and follows the same `padded_windows`.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from klaviyo_pipeline.klaviyo.errors import QuotaSpent
from klaviyo_pipeline.klaviyo.rates import MINUTE, SECOND, Endpoint, Rate

LONGEST_WAIT = 300.0
SECOND_PADDING = 1.05
MINUTE_PADDING = 60.5 / 60
DAY_PADDING_SECONDS = 1.0

# A thread wakes some milliseconds late: nothing to a second, much to a window that a rate scale has shortened.
LATE_WAKING = 0.02

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Slot:
    """Leave to send one request: `wait` seconds from now, at the UTC instant `at` of the pacer's clock.

    `at` is never later than the sending, and so is the time of observation of whatever the answer shows. `blocked`
    seconds of the wait are not the pace of the published rates: Klaviyo has asked for them.
    """

    wait: float
    at: datetime
    blocked: float = 0.0


class Pacer(Protocol):
    """Hands out slots. Safe to use from many threads."""

    def reserve(self, endpoint: Endpoint) -> Slot:
        """The next free slot; raises `QuotaSpent` if it is further away than a run should wait."""
        ...

    def block(self, endpoint: Endpoint, seconds: float) -> None:
        """Klaviyo said 429, or that this was the day's last: nobody asks this endpoint for that many seconds."""
        ...

    def now(self) -> datetime:
        """The pacer's clock, aware and in UTC."""
        ...


def padded_windows(endpoint: Endpoint, scale: float) -> list[tuple[int, float]]:
    """The endpoint's rates as (requests, seconds): no more than that many slots in any span of that length.

    Padded, because a sender that wakes late shifts its request towards the next one's. `scale` multiplies
    the rates (2 is twice as fast); 0 switches them off.
    """
    if scale == 0:
        return []
    return [(rate.requests, _padded(rate, rate.seconds / scale)) for rate in endpoint.rates]


def _padded(rate: Rate, seconds: float) -> float:
    if rate.seconds > MINUTE:
        return seconds + DAY_PADDING_SECONDS
    share = SECOND_PADDING if rate.seconds <= SECOND else MINUTE_PADDING
    return max(seconds * share, seconds + LATE_WAKING)


def quota_spent(
    endpoint: Endpoint, returns_at: datetime, *, status: int | None = None, request_id: str | None = None
) -> QuotaSpent:
    """The error for an endpoint that is free again only at `returns_at` (UTC), too late to wait for."""
    return QuotaSpent(
        f"Klaviyo's quota is spent until {returns_at:%Y-%m-%d %H:%M:%S} UTC. Run again then.",
        returns_at=returns_at,
        endpoint=endpoint.name,
        status=status,
        request_id=request_id,
    )


def utc_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


class _Log:
    """One endpoint's last slots, as many as its largest rate looks back on, and until when it is blocked."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.slots: deque[datetime] = deque(maxlen=max((rate.requests for rate in endpoint.rates), default=1))
        self.blocked_until: datetime | None = None

    def next_free(self, now: datetime, windows: list[tuple[int, float]]) -> datetime:
        bounds = [now]
        if self.blocked_until is not None:
            bounds.append(self.blocked_until)
        if self.slots:
            bounds.append(self.slots[-1] + timedelta(microseconds=1))
        bounds.extend(
            self.slots[-requests] + timedelta(seconds=seconds)
            for requests, seconds in windows
            if len(self.slots) >= requests
        )
        return max(bounds)


class LocalPacer:
    """A pacer for one process: a sliding log of slots for each endpoint.

    `scale` multiplies the published rates, 0 switches them off (blocks are kept all the same).
    `longest_wait` is in seconds. Slots of an endpoint are at least a microsecond apart, so observations
    have an order.
    """

    def __init__(self, scale: float = 1, clock: Clock = utc_now, longest_wait: float = LONGEST_WAIT) -> None:
        if scale < 0:
            raise ValueError(f"a rate scale is 0 or more, not {scale}")
        self._scale = scale
        self._clock = clock
        self._longest_wait = longest_wait
        self._logs: dict[str, _Log] = {}
        self._lock = threading.Lock()

    def reserve(self, endpoint: Endpoint) -> Slot:
        """See `Pacer.reserve`. A refused reservation takes no slot."""
        windows = padded_windows(endpoint, self._scale)
        with self._lock:
            log = self._log(endpoint)
            now = self._clock()
            at = log.next_free(now, windows)
            wait = (at - now).total_seconds()
            if wait > self._longest_wait:
                raise quota_spent(endpoint, at)
            log.slots.append(at)
            blocked = max(0.0, ((log.blocked_until or now) - now).total_seconds())
        return Slot(wait, at, blocked)

    def block(self, endpoint: Endpoint, seconds: float) -> None:
        """See `Pacer.block`. A shorter block never ends a longer one."""
        with self._lock:
            log = self._log(endpoint)
            until = self._clock() + timedelta(seconds=seconds)
            log.blocked_until = until if log.blocked_until is None else max(until, log.blocked_until)

    def now(self) -> datetime:
        """See `Pacer.now`."""
        return self._clock()

    def _log(self, endpoint: Endpoint) -> _Log:
        return self._logs.setdefault(endpoint.name, _Log(endpoint))
