"""Serves a simulated account from a separate process. Every response can be delayed, as on the internet.

Responses are cached, so that a repeated request costs almost no CPU time. The benchmarks therefore measure the waiting,
not the simulation.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import IO, Any, NamedTuple

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.sandbox import app as sandbox_app
from klaviyo_pipeline.sandbox.app import create_app
from klaviyo_pipeline.sandbox.endpoints import ENDPOINTS, Endpoint
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.request_context import Call
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer

SEED = 7
FIRST_DAY, LAST_DAY = date(2025, 7, 1), date(2026, 6, 30)
KEY = "pk_benchmark"


@dataclass(frozen=True)
class Size:
    """The number of objects in the account."""

    flows: int
    campaigns: int
    forms: int
    segments: int

    @property
    def total(self) -> int:
        return self.flows + self.campaigns + self.forms + self.segments


MEDIUM = Size(300, 4_000, 200, 1_500)
LARGE = Size(2_000, 20_000, 1_000, 5_000)
SMALL = Size(8, 12, 4, 25)


MEANWHILE = "/since-the-first-request"
"""An additional path of the server. It returns `Meanwhile`, and resets both values to zero."""


class Meanwhile(NamedTuple):
    """Seconds since the first request, and the number of responses that were not in the cache."""

    seconds: float
    answers_made: int


class Kept:
    """Wraps an application: caches its responses to GET requests, and delays each response."""

    def __init__(self, app: ASGIApp, delay: float) -> None:
        self._app = app
        self._delay = delay
        self._answers: dict[tuple[bytes, bytes], list[Message]] = {}
        self._first_at: float | None = None
        self._made_before = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == MEANWHILE:
            seconds = time.perf_counter() - (self._first_at or time.perf_counter())
            meanwhile = Meanwhile(seconds, len(self._answers) - self._made_before)
            self._first_at, self._made_before = None, len(self._answers)
            await JSONResponse(meanwhile)(scope, receive, send)
            return
        self._first_at = self._first_at or time.perf_counter()
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        requested = (scope["raw_path"], scope["query_string"])
        if requested not in self._answers:
            made: list[Message] = []

            async def keep(message: Message) -> None:
                made.append(message)

            await self._app(scope, receive, keep)
            self._answers[requested] = made
        await asyncio.sleep(self._delay)
        for message in self._answers[requested]:
            await send(message)


def _making_each_answer_once(endpoint: Endpoint) -> Endpoint:
    """The endpoint with cached responses. Its rate limits still apply."""
    made: dict[tuple[str, Any, bytes], Any] = {}

    def handler(call: Call) -> Any:
        requested = (call.path, tuple(call.query.pairs), call.body)
        if requested not in made:
            made[requested] = endpoint.handler(call)
        return made[requested]

    return replace(endpoint, handler=handler)


@dataclass
class Served:
    """An account served by another process."""

    url: str
    _orders: IO[str]
    _answers: IO[str]

    def count_from_now(self) -> None:
        """Start to enforce the rate limits. Until then, the account fills its cache without limits."""
        self._orders.write("count\n")
        self._orders.flush()
        self._answers.readline()


@contextmanager
def served(size: Size, delay: float, rate_scale: float = 0.0) -> Iterator[Served]:
    """Serve the account while the block runs. `rate_scale` is a factor on the published rate limits; 0 means none."""
    sizes = [str(size.flows), str(size.campaigns), str(size.forms), str(size.segments)]
    command = [sys.executable, "-m", __name__, "--delay", str(delay), "--rate-scale", str(rate_scale), *sizes]
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield Served(process.stdout.readline().strip(), process.stdin, process.stdout)
        finally:
            process.terminate()


def main() -> None:
    """Serve until standard input ends or the process is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, required=True)
    parser.add_argument("--rate-scale", type=float, required=True)
    parser.add_argument("sizes", type=int, nargs=4)
    given = parser.parse_args()
    size = Size(*given.sizes)
    account = generate_account(SEED, **vars(size), timezone="UTC", start=FIRST_DAY, until=LAST_DAY)
    (scopes,) = account.api_keys.values()
    account.api_keys = {KEY: scopes}
    if given.rate_scale:
        _serve_at_the_rates(account, given.rate_scale)
        return
    server: Any = SandboxServer(create_app(account, rate_scale=0))
    server._server.config.app = Kept(server._server.config.app, given.delay)
    with server:
        print(server.url, flush=True)
        sys.stdin.read()


def _serve_at_the_rates(account: SandboxAccount, rate_scale: float) -> None:
    """Serve with a fast clock, on which rate limits have no effect. A line on standard input slows the clock."""
    vars(sandbox_app)["ENDPOINTS"] = {
        revision: tuple(_making_each_answer_once(endpoint) for endpoint in endpoints)
        for revision, endpoints in ENDPOINTS.items()
    }
    timer = _Timer()
    with SandboxServer(create_app(account, rate_scale=rate_scale, timer=timer)) as server:
        print(server.url, flush=True)
        sys.stdin.readline()
        timer.slow_down()
        print("counting", flush=True)
        sys.stdin.read()


class _Timer:
    """A timer that runs a million times faster than real time until `slow_down` is called."""

    def __init__(self) -> None:
        self._began, self._reported, self._speed = time.monotonic(), 0.0, 1e6

    def __call__(self) -> float:
        return self._reported + (time.monotonic() - self._began) * self._speed

    def slow_down(self) -> None:
        self._reported, self._began, self._speed = self(), time.monotonic(), 1.0


if __name__ == "__main__":
    main()
