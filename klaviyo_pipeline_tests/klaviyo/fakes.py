"""A pacer and a stop event that record every wait without waiting."""

import threading
from datetime import UTC, datetime, timedelta

from klaviyo_pipeline.klaviyo.pacing import Slot
from klaviyo_pipeline.klaviyo.rates import Endpoint

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


class StillPacer:
    """Slots are a second apart, the first at noon. Every reservation and block is recorded."""

    def __init__(self) -> None:
        self.reserved: list[str] = []
        self.blocks: list[tuple[str, float]] = []

    def reserve(self, endpoint: Endpoint) -> Slot:
        at = NOON + timedelta(seconds=len(self.reserved))
        self.reserved.append(endpoint.name)
        return Slot(0.0, at)

    def block(self, endpoint: Endpoint, seconds: float) -> None:
        self.blocks.append((endpoint.name, seconds))

    def now(self) -> datetime:
        return NOON


class NotedStop(threading.Event):
    """A stop event that records every wait and returns at once."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        if timeout:
            self.waits.append(timeout)
        return self.is_set()
