"""A run that is launched over GraphQL in `klaviyo-pipeline dev`, as by a user's script."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.dev_server import PATIENCE, ask, dev_server, ended, launch_of
from klaviyo_pipeline_tests.support import SLUG, empty_shop, environment, key_of, put, utc

pytestmark = pytest.mark.slow

BACKFILL = """
query Backfill($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status runs { id tags { key value } } } }
}
"""
DAYS = ("2025-03-10", "2025-03-11", "2025-03-12")
TERMINATE = """
mutation Terminate($id: String!) { terminateRun(runId: $id) { __typename } }
"""
STOPS_WITHIN_SECONDS = 20.0


def documented_bodies() -> list[dict[str, Any]]:
    """The request bodies in `docs/backfill.md`: for a backfill, and for a run."""
    document = (PROJECT_ROOT / "docs" / "backfill.md").read_text(encoding="utf-8")
    return [json.loads(body) for body in re.findall(r"^curl [^\n]* -d '(.*?)'$", document, re.MULTILINE | re.DOTALL)]


def as_the_ui_launches(slug: str, assets: Sequence[str], days: Sequence[str]) -> dict[str, Any]:
    """The body that the UI posts for selected assets and a range of partitions: each day by its key."""
    [query] = [body["query"] for body in documented_bodies() if "launchPartitionBackfill" in body["query"]]
    params = {"assetSelection": [{"path": [slug, asset]} for asset in assets], "partitionNames": list(days)}
    return {"query": query, "variables": {"params": params}}


def finished(client: httpx.Client, backfill_id: str) -> dict[str, Any]:
    """The backfill, after the daemon has finished it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        backfill = ask(client, {"query": BACKFILL, "variables": {"id": backfill_id}})["partitionBackfillOrError"]
        if backfill["status"] in ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"):
            return dict(backfill)
        time.sleep(0.3)
    raise AssertionError(f"backfill {backfill_id} does not end: {backfill}")


@pytest.mark.timeout(400)
def test_the_documented_backfill_and_run_are_one_run_each_for_their_range(database: str, tmp_path: Path) -> None:
    shop = empty_shop("America/New_York")
    for day in range(9, 14):
        put(shop, "flows", f"f{day:02}", utc(f"2025-03-{day:02}T12:00:00"))
    backfill_body, run_body = documented_bodies()
    log = tmp_path / "webserver.log"
    with SandboxServer(shop, rate_scale=0) as server:
        variables = environment(shop, server.url, database, tmp_path) | {"KLAVIYO_ACCOUNT": "klaviyo"}
        with dev_server(variables, log) as client:
            launched = ask(client, backfill_body)["launchPartitionBackfill"]
            assert launched["__typename"] == "LaunchBackfillSuccess", launched
            backfill = finished(client, launched["backfillId"])
            assert backfill["status"] == "COMPLETED_SUCCESS", log.read_text(errors="replace")[-4000:]
            [run] = backfill["runs"]
            requested = [one for one in server.requests if one.path == "/api/flows"]
            from_the_ui = ask(client, as_the_ui_launches("klaviyo", ("flows", "flow_report", "flow_metrics"), DAYS))
            [both] = finished(client, from_the_ui["launchPartitionBackfill"]["backfillId"])["runs"]
            again = ask(client, run_body)["launchRun"]
            assert ended(client, again["run"]["runId"])["status"] == "SUCCESS"
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert tags["klaviyo/windows"] == "2025-03-10 to 2025-03-12"
    assert tags["dagster/asset_partition_range_start"] == "2025-03-10"
    assert tags["dagster/asset_partition_range_end"] == "2025-03-12"
    assert len(requested) == 2, "current and archived, a page each"
    with psycopg.connect(database, options="-csearch_path=klaviyo") as connection:
        assert connection.execute("SELECT id FROM flows ORDER BY id").fetchall() == [("f10",), ("f11",), ("f12",)]
        synced = connection.execute(
            "SELECT entity, attempts, run_id FROM sync_windows WHERE status = 'synced'"
        ).fetchall()
    assert sorted(synced) == [
        *[("flow_metrics", 1, both["id"])] * 3,
        *[("flow_report", 1, both["id"])] * 3,
        *[("flows", 3, again["run"]["runId"])] * 3,
    ]


@pytest.mark.timeout(300)
def test_a_range_of_windows_is_launched_over_graphql_as_one_run(database: str, tmp_path: Path) -> None:
    shop = empty_shop("America/New_York")
    for day in (9, 10, 11, 12):
        put(shop, "flows", f"f{day:02}", utc(f"2025-03-{day:02}T12:00:00"))
    log = tmp_path / "webserver.log"
    with SandboxServer(shop, rate_scale=0) as server:
        variables = environment(shop, server.url, database, tmp_path)
        with dev_server(variables, log) as client:
            launched = ask(client, launch_of("2025-03-10", "2025-03-11"))["launchRun"]
            assert launched["__typename"] == "LaunchRunSuccess", launched
            run = ended(client, launched["run"]["runId"])
    assert run["status"] == "SUCCESS", log.read_text(errors="replace")[-4000:]
    assert sorted(event["partition"] for event in run["assetMaterializations"]) == ["2025-03-10", "2025-03-11"]
    with psycopg.connect(database, options=f"-csearch_path={SLUG}") as connection:
        assert connection.execute("SELECT id FROM flows ORDER BY id").fetchall() == [("f10",), ("f11",)]
        synced = connection.execute("SELECT status, run_id FROM sync_windows").fetchall()
    assert synced == [("synced", launched["run"]["runId"])] * 2
    assert key_of(shop) not in log.read_text(errors="replace")


@pytest.mark.timeout(300)
def test_a_run_that_is_cancelled_while_it_waits_for_klaviyo_ends_within_seconds(database: str, tmp_path: Path) -> None:
    shop = empty_shop()
    put(shop, "flows", "f10", utc("2025-03-10T12:00:00"))
    log = tmp_path / "webserver.log"
    with SandboxServer(shop, rate_scale=0) as server:
        variables = environment(shop, server.url, database, tmp_path)
        with dev_server(variables, log) as client:
            server.faults.add(path_starts("/api/flows"), Fault(delay=55.0), times=10)
            launched = ask(client, launch_of("2025-03-10", "2025-03-11"))["launchRun"]
            deadline = time.monotonic() + PATIENCE
            while not server.faults.taken and time.monotonic() < deadline:
                time.sleep(0.1)
            began = time.monotonic()
            id = launched["run"]["runId"]
            assert ask(client, {"query": TERMINATE, "variables": {"id": id}})["terminateRun"]["__typename"] == (
                "TerminateRunSuccess"
            )
            run = ended(client, id)
            took = time.monotonic() - began
    assert run["status"] == "CANCELED", log.read_text(errors="replace")[-4000:]
    assert took < STOPS_WITHIN_SECONDS
    with psycopg.connect(database) as connection:
        messages = connection.execute(
            "SELECT event::jsonb #>> '{dagster_event,message}' FROM event_logs "
            "WHERE dagster_event_type = 'STEP_FAILURE'"
        ).fetchall()
        slots = connection.execute("SELECT count(*) FROM concurrency_slots WHERE run_id IS NOT NULL").fetchall()
    assert [str(message).startswith("The run was cancelled.") for (message,) in messages] == [True]
    assert slots == [(0,)]
    with psycopg.connect(database, options=f"-csearch_path={SLUG}") as connection:
        assert connection.execute("SELECT status FROM sync_windows WHERE status = 'synced'").fetchall() == []
