"""The faults of the matrix as data: the effect on a request, and whether a retry can succeed.

Network faults are raised where httpx would raise them. All other faults are responses over a real connection.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from klaviyo_pipeline.sandbox.faults import Fault

ALWAYS = 1_000_000

Document = dict[str, Any]
MakeFault = Callable[[Document], Fault]
"""Creates the fault from a real first page of the requested listing or report."""


@dataclass(frozen=True)
class Trouble:
    """One fault. `passes`: a retry can succeed, so a single fault must not fail a run."""

    name: str
    passes: bool
    make: MakeFault | None = None
    network: Callable[[httpx.Request], Exception] | None = None
    uncertain: bool = False
    """Whether a single fault may also fail the run, if the next run heals it."""


def _answer(name: str, *, passes: bool, **fault: Any) -> Trouble:
    return Trouble(name, passes, make=lambda document: Fault(**fault))


def _refusal(name: str, status: int, *, passes: bool, detail: str = "A fault.", **headers: str) -> Trouble:
    error = {"id": "fault", "status": status, "code": "fault", "title": "A fault.", "detail": detail}
    reported = {key.replace("_", "-"): value for key, value in headers.items()}
    return _answer(name, passes=passes, status=status, body={"errors": [error]}, headers=reported)


def _truncated(document: Document) -> Fault:
    text = json.dumps(document)
    return Fault(status=200, body=text[: len(text) // 2])


def _without_data(document: Document) -> Fault:
    return Fault(status=200, body={name: value for name, value in document.items() if name != "data"})


def _repeating(document: Document) -> Fault:
    """A page whose link leads back to itself."""
    return Fault(body=lambda request: {**document, "links": {"next": str(request.url)}})


def _endless(document: Document) -> Fault:
    """The same page again and again, with a new cursor each time."""

    def body(request: Request) -> Document:
        place = {"page[cursor]": uuid.uuid4().hex} if request.method == "GET" else {"page_cursor": uuid.uuid4().hex}
        return {**document, "links": {"next": str(request.url.include_query_params(**place))}}

    return Fault(body=body)


HTML = "<html><body>Something went wrong.</body></html>"
CHALLENGE = {"cf-mitigated": "challenge"}
# Fractions of a second: the client really waits, but not for long.
SOON = "0.02"

TROUBLES = (
    Trouble("connection refused", True, network=lambda request: httpx.ConnectError("refused", request=request)),
    Trouble("connect timeout", True, network=lambda request: httpx.ConnectTimeout("timed out", request=request)),
    Trouble("read timeout", True, network=lambda request: httpx.ReadTimeout("timed out", request=request)),
    _answer("reset before the answer", passes=True, cut_connection=True),
    Trouble("reset in mid-body", True, make=lambda document: Fault(body=document, cut_connection=True)),
    _refusal("408", 408, passes=True),
    _refusal("429, Retry-After", 429, passes=True, Retry_After=SOON),
    _refusal("429, no header", 429, passes=True),
    _refusal("429, in words", 429, passes=True, detail=f"Expected available in {SOON} seconds."),
    _refusal(
        "429, day's quota",
        429,
        passes=False,
        Retry_After="1",
        ratelimit_remaining_daily="0",
        ratelimit_reset_daily="7200",
    ),
    *(_refusal(str(status), status, passes=True) for status in (500, 502, 503, 504)),
    *(_answer(str(status), passes=True, status=status, body=HTML) for status in (520, 521, 522, 523, 524)),
    Trouble("200, truncated", True, make=_truncated),
    _answer("200, no JSON", passes=True, status=200, body="no JSON"),
    _answer("200, HTML", passes=True, status=200, body=HTML),
    _answer("200, empty", passes=True, status=200, body=""),
    Trouble("200, no data", True, make=_without_data),
    _answer("403, HTML", passes=True, status=403, body=HTML),
    _answer("403, challenge", passes=True, status=403, body=HTML, headers=CHALLENGE),
    _refusal("403, JSON", 403, passes=False),
    _refusal("401", 401, passes=False),
    _answer("410", passes=False, status=410, body={"message": "This API version has been retired."}),
    _refusal("400", 400, passes=False),
    Trouble("page leads to itself", True, make=_repeating, uncertain=True),
    Trouble("endless cursors", True, make=_endless, uncertain=True),
    Trouble(
        "400, cursor expired",
        True,
        make=_refusal("", 400, passes=True, detail="Invalid cursor provided.").make,
        uncertain=True,
    ),
)


@contextmanager
def broken_network(
    strikes: Callable[[httpx.Request], bool], error: Callable[[httpx.Request], Exception]
) -> Iterator[None]:
    """Makes the requests that `strikes` selects fail with a network error of httpx."""
    true = httpx.HTTPTransport.handle_request

    def handle(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if strikes(request):
            raise error(request)
        return true(self, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.HTTPTransport, "handle_request", handle)
        yield
