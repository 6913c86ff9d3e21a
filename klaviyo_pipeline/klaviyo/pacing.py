"""Decides when a request may be sent: the client reserves a slot before each attempt and waits for it.

Klaviyo limits each endpoint per second, per minute and, for reports, per day. Its `ratelimit-remaining` header is only
about the limit per second, so a pacer counts the requests itself. All processes of one account share its limits.
`LocalPacer` is for a single process; the pacer for several processes keeps its slots in Postgres and uses the same
`padded_windows`.
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
# Two requests can arrive at Klaviyo closer together than their slots, if the first is late: it has to open a
# connection, or its thread is not scheduled at once. So the periods of the rates are made longer: by a factor for rates
# per second and per minute, by seconds for rates per day.
SECOND_PADDING = 1.15
MINUTE_PADDING = 60.5 / 60
DAY_PADDING_SECONDS = 1.0

# The least padding of a rate per second or minute, in seconds. A thread wakes up a few milliseconds late, which matters
# for periods that the rate scale has shortened.
LATE_WAKING = 0.02

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Slot:
    """Permission to send one request in `wait` seconds, at the time `at` (UTC) of the pacer's clock.

    The request is never sent before `at`, so `at` is the observation time of the data in its answer. `blocked` is the
    time in seconds for which the endpoint is still blocked: the part of the wait that a response of Klaviyo's caused.
    """

    wait: float
    at: datetime
    blocked: float = 0.0


class Pacer(Protocol):
    """Hands out slots. A pacer is safe to use from many threads."""

    def reserve(self, endpoint: Endpoint) -> Slot:
        """Reserves the next free slot. Raises `QuotaSpent` if its wait is longer than a run should wait."""
        ...

    def block(self, endpoint: Endpoint, seconds: float) -> None:
        """Blocks the endpoint for this many seconds, because a response requests a pause or the quota is used up."""
        ...

    def now(self) -> datetime:
        """The current time of the pacer's clock, as an aware datetime in UTC."""
        ...


def padded_windows(endpoint: Endpoint, scale: float) -> list[tuple[int, float]]:
    """The endpoint's rates as (requests, seconds): a period of `seconds` has at most `requests` slots.

    The seconds are padded: see `SECOND_PADDING`. `scale` multiplies the rates (2 is twice as fast); 0 switches them
    off.
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
    """The error for an endpoint without a free slot until `returns_at` (UTC), which is too long to wait."""
    return QuotaSpent(
        f"Klaviyo's quota is used up until {returns_at:%Y-%m-%d %H:%M:%S} UTC. Run again after that time.",
        returns_at=returns_at,
        endpoint=endpoint.name,
        status=status,
        request_id=request_id,
    )


def utc_now() -> datetime:
    """The current time of the machine's clock."""
    return datetime.now(UTC)


class _Log:
    """The last slots of one endpoint, and the end of its block. It keeps as many slots as the largest rate allows."""

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
    """A pacer for one process, with a sliding log of slots for each endpoint.

    `scale` multiplies the published rates; 0 switches them off, but blocks still apply. `longest_wait` is in seconds.
    Slots of an endpoint are at least a microsecond apart, so observations have a strict order.
    """

    def __init__(self, scale: float = 1, clock: Clock = utc_now, longest_wait: float = LONGEST_WAIT) -> None:
        if scale < 0:
            raise ValueError(f"the rate scale must be 0 or more, not {scale}")
        self._scale = scale
        self._clock = clock
        self._longest_wait = longest_wait
        self._logs: dict[str, _Log] = {}
        self._lock = threading.Lock()

    def reserve(self, endpoint: Endpoint) -> Slot:
        """See `Pacer.reserve`. If `QuotaSpent` is raised, no slot is taken."""
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
        """See `Pacer.block`. A new block never ends an earlier one sooner."""
        with self._lock:
            log = self._log(endpoint)
            until = self._clock() + timedelta(seconds=seconds)
            log.blocked_until = until if log.blocked_until is None else max(until, log.blocked_until)

    def now(self) -> datetime:
        """See `Pacer.now`."""
        return self._clock()

    def _log(self, endpoint: Endpoint) -> _Log:
        return self._logs.setdefault(endpoint.name, _Log(endpoint))
