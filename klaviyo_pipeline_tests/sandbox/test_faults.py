from __future__ import annotations

import time

import httpx
import pytest

from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.sandbox.conftest import client_of, error_of, ids

FLOWS = path_starts("/api/flows")


def test_a_fault_befalls_its_request_once(server: SandboxServer, client: httpx.Client) -> None:
    server.faults.add(FLOWS, Fault(status=503))
    assert client.get("/api/forms").status_code == 200
    assert error_of(client.get("/api/flows"), 503)["code"] == "error"
    assert client.get("/api/flows").status_code == 200


def test_a_throttling_can_be_had_with_its_header(server: SandboxServer, client: httpx.Client) -> None:
    server.faults.add(FLOWS, Fault(status=429, headers={"Retry-After": "7"}), times=2)
    for _ in range(2):
        answer = client.get("/api/flows")
        assert error_of(answer, 429)["code"] == "throttled"
        assert answer.headers["retry-after"] == "7"
    assert client.get("/api/flows").status_code == 200
    assert [entry.retry_after for entry in server.requests] == [7, 7, None]


def test_a_fault_can_wait_for_a_later_page(
    account: SandboxAccount, server: SandboxServer, client: httpx.Client
) -> None:
    for number in range(3):
        account.put("flows", f"F{number}")
    server.faults.add(FLOWS, Fault(status=500), skip=1)
    first = client.get("/api/flows?page[size]=1")
    link = first.json()["links"]["next"]
    assert client.get(link).status_code == 500
    assert ids(client.get(link)) == ["F1"]


def test_html_can_stand_where_json_should(server: SandboxServer, client: httpx.Client) -> None:
    server.faults.add(FLOWS, Fault(status=403, body="<html>Blocked</html>", headers={"cf-mitigated": "challenge"}))
    answer = client.get("/api/flows")
    assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert answer.headers["cf-mitigated"] == "challenge"
    assert "x-klaviyo-req-id" not in answer.headers


def test_a_body_can_be_broken_off_json(server: SandboxServer, client: httpx.Client) -> None:
    server.faults.add(FLOWS, Fault(body='{"data": ['))
    answer = client.get("/api/flows")
    assert (answer.status_code, answer.text) == (200, '{"data": [')


def test_a_connection_can_be_cut_before_the_answer(
    server: SandboxServer, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults.add(FLOWS, Fault(cut_connection=True))
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/api/flows")
    assert server.requests[-1].status is None
    assert caplog.records == []
    assert client.get("/api/flows").status_code == 200


def test_a_connection_can_be_cut_in_the_middle_of_the_body(server: SandboxServer, client: httpx.Client) -> None:
    server.faults.add(FLOWS, Fault(body={"data": ["x" * 1000]}, cut_connection=True))
    with client.stream("GET", "/api/flows") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_a_delay_keeps_the_true_answer(account: SandboxAccount, server: SandboxServer, client: httpx.Client) -> None:
    account.put("flows", "F")
    server.faults.add(FLOWS, Fault(delay=0.15, headers={"x-slow": "yes"}))
    begun = time.monotonic()
    answer = client.get("/api/flows")
    assert time.monotonic() - begun >= 0.15
    assert (ids(answer), answer.headers["x-slow"]) == (["F"], "yes")


def test_a_fault_spends_no_quota(account: SandboxAccount) -> None:
    with SandboxServer(account) as server, client_of(server) as client:
        server.faults.add(FLOWS, Fault(status=503), times=5)
        assert [client.get("/api/flows").status_code for _ in range(8)] == [503] * 5 + [200] * 3


def test_faults_can_be_taken_back(server: SandboxServer, client: httpx.Client) -> None:
    server.faults.add(FLOWS, Fault(status=503), times=5)
    server.faults.clear()
    assert client.get("/api/flows").status_code == 200


def test_a_body_can_be_made_of_the_request(server: SandboxServer, client: httpx.Client) -> None:
    server.faults.add(FLOWS, Fault(body=lambda request: {"asked": request.query_params["sort"]}))
    assert client.get("/api/flows?sort=updated").json() == {"asked": "updated"}
