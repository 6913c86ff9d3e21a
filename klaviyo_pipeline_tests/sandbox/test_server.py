from __future__ import annotations

import socket
import threading

import httpx
import pytest

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer, run
from klaviyo_pipeline_tests.sandbox.conftest import HEADERS, NOW, client_of


def test_requests_are_logged_with_their_operation(server: SandboxServer, client: httpx.Client) -> None:
    client.get("/api/flows", params={"sort": "updated"})
    client.get("/api/flows/X")
    client.post("/api/flow-series-reports", content=b"{}")
    client.get("/api/nothing")
    logged = [(entry.method, entry.endpoint, entry.status) for entry in server.requests]
    assert logged == [
        ("GET", "get_flows", 200),
        ("GET", "get_flow", 404),
        ("POST", "query_flow_series", 415),
        ("GET", None, 404),
    ]
    assert server.requests[0].query == {"sort": "updated"}
    assert server.requests[0].at == NOW
    assert server.requests[2].body == "{}"
    assert (server.count("get_flows"), server.count()) == (1, 4)


def test_a_server_without_its_context_has_no_address() -> None:
    with pytest.raises(RuntimeError, match="not being served"):
        _ = SandboxServer(SandboxAccount()).url


def test_only_the_loopback_interface_is_served(server: SandboxServer) -> None:
    assert server.url.startswith("http://127.0.0.1:")


def test_the_port_is_free_again_afterwards(account: SandboxAccount) -> None:
    with SandboxServer(account) as server:
        port = int(server.url.rpartition(":")[2])
    with SandboxServer(account, port=port) as server, client_of(server) as client:
        assert client.get("/api/accounts").status_code == 200


def test_objects_may_be_changed_while_the_server_answers(account: SandboxAccount, client: httpx.Client) -> None:
    def change() -> None:
        for number in range(300):
            account.put("flows", f"F{number}", name=str(number))
            account.delete("flows", f"F{number}")

    changing = threading.Thread(target=change)
    changing.start()
    while changing.is_alive():
        assert client.get("/api/flows").status_code == 200
    changing.join()


def test_a_taken_port_is_reported(account: SandboxAccount) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        run(account, port=taken.getsockname()[1])


def test_run_serves_and_reports_its_url(account: SandboxAccount) -> None:
    reported: list[str] = []
    ready = threading.Event()

    def tell(url: str) -> None:
        reported.append(url)
        ready.set()

    threading.Thread(target=run, args=(account,), kwargs={"port": 0, "ready": tell}, daemon=True).start()
    assert ready.wait(10)
    assert httpx.get(f"{reported[0]}/api/accounts", headers=HEADERS).status_code == 200
