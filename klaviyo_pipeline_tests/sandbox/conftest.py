"""A sandbox with a fixed clock, and a client with its key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from klaviyo_pipeline.sandbox.sandbox_account import SANDBOX_KEY, SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline.sandbox.shop import mapped_metrics, metrics

NOW = datetime(2026, 3, 10, 15, 0, tzinfo=UTC)
HEADERS = {"Authorization": f"Klaviyo-API-Key {SANDBOX_KEY}", "revision": "2026-07-15"}


def client_of(server: SandboxServer, **headers: str) -> httpx.Client:
    # The address is not encrypted. With `verify`, each client would read all certificates.
    return httpx.Client(base_url=server.url, headers=HEADERS | headers, timeout=30, verify=False)


@pytest.fixture
def account() -> SandboxAccount:
    """An account without objects, in New York."""
    return SandboxAccount(id="ACC001", clock=lambda: NOW, metrics=metrics(), mapped_metrics=mapped_metrics())


@pytest.fixture
def server(account: SandboxAccount) -> Iterator[SandboxServer]:
    with SandboxServer(account, rate_scale=0) as server:
        yield server


@pytest.fixture
def client(server: SandboxServer) -> Iterator[httpx.Client]:
    with client_of(server) as client:
        yield client


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["data"]]


def walk(client: httpx.Client, url: str, **params: Any) -> list[list[str]]:
    """The ids of every page of a listing."""
    answer = client.get(url, params=params)
    pages = [ids(answer)]
    while link := answer.json()["links"]["next"]:
        answer = client.get(link)
        pages.append(ids(answer))
    return pages


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The only JSON:API error of an answer with this status."""
    assert answer.status_code == status, answer.text
    [error] = answer.json()["errors"]
    assert error["id"] == answer.headers["x-klaviyo-req-id"]
    assert {"id", "status", "code", "title", "detail"} <= error.keys()
    return dict(error)
