"""The requests that a server received, for tests. API keys are never stored."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class RequestLogEntry:
    """One request and its response.

    `endpoint` is the operation's name in the API's description (`get_flows`), None for an unknown path. `status` is
    None if the connection was cut. `at` is the time of the account's clock (UTC) when the request arrived. `body` is
    the text of a POST.
    """

    method: str
    path: str
    query: dict[str, str]
    status: int | None
    endpoint: str | None
    at: datetime
    account_id: str | None
    request_id: str
    retry_after: int | None = None
    body: str = ""
    faulty: bool = False


class RequestLog:
    """The latest requests, oldest first. Safe to read while the server runs."""

    def __init__(self) -> None:
        self._entries: deque[RequestLogEntry] = deque(maxlen=100_000)
        self._lock = threading.Lock()

    def add(self, entry: RequestLogEntry) -> None:
        with self._lock:
            self._entries.append(entry)

    def entries(self) -> list[RequestLogEntry]:
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
