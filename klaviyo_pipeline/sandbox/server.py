"""Serves the sandbox over HTTP on the loopback interface: in a thread for tests, or blocking for the command line."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from klaviyo_pipeline.sandbox.app import create_app
from klaviyo_pipeline.sandbox.faults import Faults
from klaviyo_pipeline.sandbox.request_log import RequestLog, RequestLogEntry
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.timestamps import Clock

_START_SECONDS = 20.0
_TICK_SECONDS = 0.01


class _QuickServer(uvicorn.Server):
    """A uvicorn server that stops without waiting: a test suite stops hundreds of servers."""

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            await asyncio.sleep(_TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.sleep(0)


class SandboxServer:
    """A context manager that serves the sandbox on 127.0.0.1, on a free port unless `port` is given.

    Pass accounts (with `clock` and `rate_scale` as for `create_app`), or an application from `create_app`.
    """

    def __init__(
        self,
        app_or_accounts: Starlette | SandboxAccount | Sequence[SandboxAccount],
        port: int = 0,
        *,
        clock: Clock | None = None,
        rate_scale: float = 1.0,
    ) -> None:
        self.app = (
            app_or_accounts
            if isinstance(app_or_accounts, Starlette)
            else create_app(app_or_accounts, clock=clock, rate_scale=rate_scale)
        )
        self._port = port
        self._socket: socket.socket | None = None
        self._server = _QuickServer(_config(self.app))
        self._thread = threading.Thread(target=self._serve, name="klaviyo-sandbox", daemon=True)

    @property
    def url(self) -> str:
        """Scheme, host and port, without `/api`."""
        if self._socket is None:
            raise RuntimeError("the sandbox is not being served")
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def log(self) -> RequestLog:
        log: RequestLog = self.app.state.log
        return log

    @property
    def faults(self) -> Faults:
        faults: Faults = self.app.state.faults
        return faults

    @property
    def requests(self) -> list[RequestLogEntry]:
        """The requests so far, oldest first."""
        return self.log.entries()

    def count(self, endpoint: str | None = None) -> int:
        """The number of requests to the operation `endpoint`, such as `get_flows`; without it, of all requests."""
        return sum(1 for entry in self.requests if endpoint in (None, entry.endpoint))

    def __enter__(self) -> SandboxServer:
        self._socket = socket.create_server(("127.0.0.1", self._port))
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the sandbox did not start")
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _serve(self) -> None:
        assert self._socket is not None
        self._server.run(sockets=[self._socket])


def run(
    account: SandboxAccount | Sequence[SandboxAccount],
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    rate_scale: float = 1.0,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted (Ctrl-C). `ready` is called with the URL, without `/api`, once the port is open.

    Raises `OSError` if the port is not available.
    """
    server = uvicorn.Server(_config(create_app(account, rate_scale=rate_scale)))
    with socket.create_server((host, port)) as listening:
        if ready is not None:
            ready(f"http://{host}:{listening.getsockname()[1]}")
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        _with_abort(app),
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        log_config=None,
        timeout_graceful_shutdown=1,
        server_header=False,
    )


def _with_abort(app: Starlette) -> Any:
    """Wraps the application so that it can drop its connection: uvicorn's `send` is a method of an object with the
    transport."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        if transport is not None:
            scope.setdefault("extensions", {})["sandbox.cut"] = transport.abort
        await app(scope, receive, send)

    return serve
