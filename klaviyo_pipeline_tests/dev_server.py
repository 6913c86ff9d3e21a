"""Starts the web server and the daemon, like `klaviyo-pipeline dev`, for tests that send requests to them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline_tests.support import SLUG

LAUNCH = """
mutation Launch($run: ExecutionParams!) {
  launchRun(executionParams: $run) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on InvalidSubsetError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
RUN = """
query Run($id: ID!) {
  runOrError(runId: $id) { ... on Run { status assetMaterializations { partition } } }
}
"""
BACKFILL = """
query Backfill($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status runs { id creationTime endTime tags { key value } } }
  }
}
"""
PATIENCE = 120.0
POLL_SECONDS = 1.0
"""Each answer takes the server a noticeable part of its processor."""


@contextmanager
def dev_server(variables: dict[str, str], log: Path) -> Iterator[httpx.Client]:
    """The web server and the daemon on a free loopback port. Yields a client when they respond."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("klaviyo-pipeline")), "dev", "--port", str(port)]
    with (
        running(command, {**os.environ, **variables}, log) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        _wait_for(client, server, log)
        yield client


@contextmanager
def running(command: Sequence[str], variables: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A service in the project's folder that writes to `log`. It is stopped with SIGTERM, like systemd does."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for(client: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            client.get("/server_info").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"the web server does not answer:\n{log.read_text(errors='replace')[-4000:]}")


def ask(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/graphql", json=body).raise_for_status().json()
    assert "errors" not in answer, answer["errors"]
    return dict(answer["data"])


def ended(client: httpx.Client, run_id: str) -> dict[str, Any]:
    """Wait until the run ends, and return it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        run = ask(client, {"query": RUN, "variables": {"id": run_id}})["runOrError"]
        if run["status"] in ("SUCCESS", "FAILURE", "CANCELED"):
            return dict(run)
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"run {run_id} does not end: {run}")


def launch_of(first: str, last: str) -> dict[str, Any]:
    """The body of a request that launches one run of the flows' job over these windows, inclusive."""
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    run = {
        "selector": {
            "repositoryLocationName": "klaviyo_pipeline",
            "repositoryName": "__repository__",
            "jobName": f"{SLUG}_flows",
        },
        "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
    }
    return {"query": LAUNCH, "variables": {"run": run}}


def documented_bodies() -> list[dict[str, Any]]:
    """The request bodies in `docs/backfill.md`: for a backfill, and for a run."""
    document = (PROJECT_ROOT / "docs" / "backfill.md").read_text(encoding="utf-8")
    return [json.loads(body) for body in re.findall(r"^curl [^\n]* -d '(.*?)'$", document, re.MULTILINE | re.DOTALL)]


def as_the_ui_launches(slug: str, assets: Sequence[str], days: Sequence[str]) -> dict[str, Any]:
    """The body that the UI posts for selected assets and a range of partitions: each day by its key."""
    [query] = [body["query"] for body in documented_bodies() if "launchPartitionBackfill" in body["query"]]
    params = {"assetSelection": [{"path": [slug, asset]} for asset in assets], "partitionNames": list(days)}
    return {"query": query, "variables": {"params": params}}


def finished(client: httpx.Client, backfill_id: str, patience: float = PATIENCE) -> dict[str, Any]:
    """The backfill, after the daemon has finished it. It may take `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        backfill = ask(client, {"query": BACKFILL, "variables": {"id": backfill_id}})["partitionBackfillOrError"]
        if backfill["status"] in ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"):
            return dict(backfill)
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"backfill {backfill_id} does not end: {backfill}")
