"""A real HTTP server on a loopback port that returns scripted answers, one after the other."""

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Scripted:
    """An answer. `cut` breaks the connection in the middle of the body; `hang_up` closes it without an answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang_up: bool = False


@dataclass(frozen=True)
class Requested:
    """A request that the server received."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


class ScriptedServer:
    """Returns the answers of `script` in their order. A request after the last one gets a 599 that names it."""

    def __init__(self) -> None:
        self.script: deque[Scripted] = deque()
        self.requested: list[Requested] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def will(self, *answers: Scripted) -> None:
        self.script.extend(answers)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.requested.append(Requested(self.command, self.path, headers, body))
                scripted = (
                    server.script.popleft() if server.script else Scripted(599, b"the script has no more answers")
                )
                self._give(scripted)

            do_GET = do_POST = answer

            def _give(self, scripted: Scripted) -> None:
                if scripted.hang_up:
                    self.close_connection = True
                    return
                self.send_response(scripted.status)
                for name, value in scripted.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(scripted.body) + (10 if scripted.cut else 0)))
                self.end_headers()
                self.wfile.write(scripted.body)
                self.close_connection = scripted.cut

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def ok(document: object, **headers: str) -> Scripted:
    return Scripted(200, json.dumps(document).encode(), _named(headers))


def refused(status: int, detail: str = "", code: str = "invalid", **headers: str) -> Scripted:
    error = {"id": "req-body", "status": status, "code": code, "title": "Refused.", "detail": detail}
    return Scripted(status, json.dumps({"errors": [error]}).encode(), _named(headers))


def failed(status: int, *errors: dict[str, object]) -> Scripted:
    """A response with these JSON:API errors."""
    return Scripted(status, json.dumps({"errors": errors}).encode())


def absent(type: str, id: str) -> Scripted:
    """The 404 of a missing object, as in recordings."""
    error: dict[str, object] = {"id": "req-body", "status": 404, "code": "not_found", "title": "Not found."}
    error |= {"detail": f"A {type} with id {id} does not exist.", "source": {"pointer": "/data/"}}
    return failed(404, error)


def html(status: int, **headers: str) -> Scripted:
    return Scripted(status, b"<html><body>Just a moment</body></html>", _named(headers))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
