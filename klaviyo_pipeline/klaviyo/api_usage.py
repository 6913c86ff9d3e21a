"""Counts the requests that a run sends to Klaviyo."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from klaviyo_pipeline.klaviyo.calls import RequestRecord


@dataclass
class EndpointCount:
    """The counts of one endpoint; every attempt counts as a request.

    `first` and `last` are the times (`time.monotonic`) at which the first and the last request ended.
    """

    first: float
    last: float
    requests: int = 0
    throttled: int = 0
    retries: int = 0
    rows: int = 0
    waited_seconds: float = 0.0
    read_seconds: float = 0.0

    def add(self, record: RequestRecord, now: float) -> None:
        self.last = now
        self.requests += 1
        self.throttled += record.status == 429
        self.retries += record.attempt > 1
        self.rows += record.rows
        self.waited_seconds += record.waited_seconds
        self.read_seconds += record.milliseconds / 1000


@dataclass
class RequestCount:
    """The counts of one run, by endpoint. It is safe to use from many threads."""

    _by_endpoint: dict[str, EndpointCount] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, record: RequestRecord) -> None:
        now = time.monotonic()
        with self._lock:
            self._by_endpoint.setdefault(record.endpoint, EndpointCount(now, now)).add(record, now)

    @property
    def by_endpoint(self) -> Mapping[str, EndpointCount]:
        """The counts so far, by the name of the endpoint."""
        with self._lock:
            return dict(self._by_endpoint)

    def sent_to(self, *endpoints: str) -> int:
        """The number of requests to these endpoints so far, including those that failed."""
        return sum(count.requests for name, count in self.by_endpoint.items() if name in endpoints)

    @property
    def requests(self) -> int:
        """The number of requests to all endpoints so far."""
        return sum(count.requests for count in self.by_endpoint.values())

    def metadata(self) -> dict[str, float]:
        """The sums over all endpoints, as metadata of a materialization."""
        counts = self.by_endpoint.values()
        return {
            "api_requests": self.requests,
            "api_throttled": sum(count.throttled for count in counts),
            "api_retries": sum(count.retries for count in counts),
            "api_waited_seconds": round(sum(count.waited_seconds for count in counts), 1),
            "api_read_seconds": round(sum(count.read_seconds for count in counts), 1),
        }
