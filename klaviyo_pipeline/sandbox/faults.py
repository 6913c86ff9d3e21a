"""Injected faults: failures of a network, an edge or an overloaded server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from klaviyo_pipeline.sandbox.api_errors import ApiError

Match = Callable[[Request], bool]


@dataclass(frozen=True)
class Fault:
    """A change to a response, or its replacement.

    - `status` and `body` (bytes, text, JSON, or a function from the request to JSON) replace the response. With only
      one of them, the status is 200, or the body is a JSON:API error.
    - `headers` are added to the response or its replacement; they can include 'content-type'.
    - `cut_connection` drops the connection: halfway through the body of a replacement, or before the first byte of the
      original response.
    - `delay` is a wait before all this, in seconds.
    """

    status: int | None = None
    body: bytes | str | dict[str, Any] | Callable[[Request], dict[str, Any]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_connection: bool = False
    delay: float = 0.0

    @classmethod
    def refusal(cls, *errors: ApiError) -> Fault:
        """A response with these errors and the status of the first one."""
        documents = [error.document("fault")["errors"][0] for error in errors]
        return cls(status=errors[0].status, body={"errors": documents})

    @property
    def replaces(self) -> bool:
        return self.status is not None or self.body is not None

    def payload(self, request: Request, request_id: str) -> bytes:
        if callable(self.body):
            return json.dumps(self.body(request)).encode()
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return self.body.encode()
        if self.body is not None:
            return json.dumps(self.body).encode()
        code, title = ("throttled", "Request was throttled.") if self.status == 429 else ("error", "A fault.")
        error = {"id": request_id, "status": self.status, "code": code, "title": title, "detail": title}
        return json.dumps({"errors": [{**error, "source": {"pointer": "/data/"}}]}).encode()

    @property
    def content_type(self) -> str:
        html = isinstance(self.body, str) and self.body.lstrip().startswith("<")
        return "text/html" if html else "application/vnd.api+json"


@dataclass
class _Waiting:
    match: Match
    fault: Fault
    times: int
    skip: int


class Faults:
    """Faults that wait for requests. A request takes the first fault that matches it. `taken` counts these requests."""

    def __init__(self) -> None:
        self.taken = 0
        self._waiting: list[_Waiting] = []
        self._lock = threading.Lock()

    def add(self, match: Match, fault: Fault, times: int = 1, skip: int = 0) -> None:
        """Skip the first `skip` requests that `match`, and apply `fault` to the next `times`.

        With `skip=2`, for example, the third page of a listing is affected.
        """
        with self._lock:
            self._waiting.append(_Waiting(match, fault, times, skip))

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def take(self, request: Request) -> Fault | None:
        with self._lock:
            for waiting in self._waiting:
                if waiting.match(request) and self._due(waiting):
                    self.taken += 1
                    return waiting.fault
            return None

    def _due(self, waiting: _Waiting) -> bool:
        if waiting.skip > 0:
            waiting.skip -= 1
            return False
        waiting.times -= 1
        if waiting.times == 0:
            self._waiting.remove(waiting)
        return True


def path_starts(path: str) -> Match:
    """A match for every request whose path starts with `path`."""
    return lambda request: request.url.path.startswith(path)
