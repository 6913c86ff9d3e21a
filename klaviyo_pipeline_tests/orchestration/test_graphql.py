"""Runs that are launched over GraphQL in `klaviyo-pipeline dev`, as by a user's script. The tests share a server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline_tests.dev_server import (
    PATIENCE,
    as_the_ui_launches,
    ask,
    dev_server,
    documented_bodies,
    ended,
    finished,
    launch_of,
)
from klaviyo_pipeline_tests.safety.watched import Watched, watched_on
from klaviyo_pipeline_tests.support import empty_shop, put, throw_away_database, utc

pytestmark = pytest.mark.slow

SLUG = "klaviyo"
"""The account of the document's requests."""
# The tests share a server, so each has its own days.
DAYS = ("2025-03-10", "2025-03-11", "2025-03-12")
CANCELLED_DAYS = ("2025-03-17", "2025-03-18")
WATCHED_DAYS = ("2025-03-03", "2025-03-04")
TERMINATE = """
mutation Terminate($id: String!) { terminateRun(runId: $id) { __typename } }
"""
STOPS_WITHIN_SECONDS = 20.0
INTROSPECTION = """
{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { ... on RepositoryLocation {
    repositories { name allTopLevelResourceDetails { name configuredValues { key value type } configFields {
      name defaultValueAsJson } } jobs { name runConfigSchemaOrError: id } } } } } } }
  instance { info runLauncher { name } daemonHealth { id } }
  runsOrError { ... on Runs { results { runId runConfigYaml tags { key value } } } }
  assetNodes { id metadataEntries { label } } }
"""
EVENTS = """
query Events($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  ... on MessageEvent { message }
  ... on ErrorEvent { error { message stack causes { message stack } } } } } } }
"""


@dataclass(frozen=True)
class Dev:
    """A running `klaviyo-pipeline dev`, and its account with unusual secrets and a flow for each day of March."""

    client: httpx.Client
    watched: Watched
    log: Path

    def rows(self, query: str, *parameters: Any, schema: str = SLUG) -> list[Any]:
        with psycopg.connect(self.watched.database, options=f"-csearch_path={schema}") as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def flows(self, first: str, last: str) -> list[str]:
        """The ids of the stored flows between these ids, inclusive."""
        found = self.rows("SELECT id FROM flows WHERE id BETWEEN %s AND %s ORDER BY id", first, last)
        return [id for (id,) in found]

    def logged(self) -> str:
        return self.log.read_text(errors="replace")


@pytest.fixture(scope="module")
def dev(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    shop = empty_shop("America/New_York")
    for day in range(1, 32):
        put(shop, "flows", f"f{day:02}", utc(f"2025-03-{day:02}T12:00:00"))
    folder = tmp_path_factory.mktemp("dev")
    log = folder / "webserver.log"
    with (
        throw_away_database(postgres_server) as database,
        watched_on(database, folder, shop, SLUG) as watched,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("DAGSTER_HOME", raising=False)
        with dev_server(watched.variables, log) as client:
            yield Dev(client, watched, log)


def launched(dev: Dev, days: Sequence[str]) -> str:
    """The id of a run of the flows' job over these days."""
    body = launch_of(days[0], days[-1])
    body["variables"]["run"]["selector"]["jobName"] = f"{SLUG}_flows"
    answer = ask(dev.client, body)["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


@pytest.mark.timeout(400)
def test_the_documented_backfill_and_run_are_one_run_each_for_their_range(dev: Dev) -> None:
    backfill_body, run_body = documented_bodies()
    # Both at once, because the daemon checks for backfills only twice a minute.
    bodies = (backfill_body, as_the_ui_launches(SLUG, ("flows", "flow_report", "flow_metrics"), DAYS))
    answers = [ask(dev.client, body)["launchPartitionBackfill"] for body in bodies]
    assert [answer["__typename"] for answer in answers] == ["LaunchBackfillSuccess"] * 2, answers
    backfill, from_the_ui = [finished(dev.client, answer["backfillId"]) for answer in answers]
    assert backfill["status"] == "COMPLETED_SUCCESS", dev.logged()[-4000:]
    [run], [both] = backfill["runs"], from_the_ui["runs"]
    again = ask(dev.client, run_body)["launchRun"]
    ended_again = ended(dev.client, again["run"]["runId"])
    assert ended_again["status"] == "SUCCESS", dev.logged()[-4000:]
    assert sorted(event["partition"] for event in ended_again["assetMaterializations"]) == [*DAYS]
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert tags["klaviyo/windows"] == "2025-03-10 to 2025-03-12"
    assert tags["dagster/asset_partition_range_start"] == "2025-03-10"
    assert tags["dagster/asset_partition_range_end"] == "2025-03-12"
    requested = dev.rows("SELECT requests FROM api_calls WHERE run_id = %s AND endpoint = 'get_flows'", run["id"])
    assert requested == [(2,)], "current and archived, a page each"
    assert dev.flows("f08", "f13") == ["f10", "f11", "f12"]
    synced = dev.rows(
        "SELECT entity, attempts, run_id FROM sync_windows WHERE status = 'synced' "
        "AND window_start BETWEEN '2025-03-08' AND '2025-03-13'"
    )
    assert sorted(synced) == [
        *[("flow_metrics", 1, both["id"])] * 3,
        *[("flow_report", 1, both["id"])] * 3,
        *[("flows", 3, again["run"]["runId"])] * 3,
    ]
    assert dev.watched.secrets[0] not in dev.logged()


@pytest.mark.timeout(300)
def test_a_run_that_is_cancelled_while_it_waits_for_klaviyo_ends_within_seconds(dev: Dev) -> None:
    faults = dev.watched.server.faults
    before = faults.taken
    faults.add(path_starts("/api/flows"), Fault(delay=55.0), times=10)
    id = launched(dev, CANCELLED_DAYS)
    deadline = time.monotonic() + PATIENCE
    while faults.taken == before and time.monotonic() < deadline:
        time.sleep(0.1)
    began = time.monotonic()
    answer = ask(dev.client, {"query": TERMINATE, "variables": {"id": id}})["terminateRun"]
    assert answer["__typename"] == "TerminateRunSuccess"
    run = ended(dev.client, id)
    took = time.monotonic() - began
    faults.clear()
    assert run["status"] == "CANCELED", dev.logged()[-4000:]
    assert took < STOPS_WITHIN_SECONDS
    messages = dev.rows(
        "SELECT event::jsonb #>> '{dagster_event,message}' FROM event_logs "
        "WHERE dagster_event_type = 'STEP_FAILURE' AND run_id = %s",
        id,
        schema="public",
    )
    slots = dev.rows("SELECT count(*) FROM concurrency_slots WHERE run_id IS NOT NULL", schema="public")
    assert [str(message).startswith("The run was cancelled.") for (message,) in messages] == [True]
    assert slots == [(0,)]
    windows = "SELECT status FROM sync_windows WHERE status = 'synced' AND window_start >= '2025-03-16 12:00+00'"
    assert dev.rows(windows) == []


@pytest.mark.timeout(500)
def test_the_web_server_listens_on_loopback_only_and_returns_no_secret(dev: Dev) -> None:
    """The search is for the key and the password, in responses, files, tables and the arguments of processes."""
    watched = dev.watched
    with watched.arguments_of(os.getpid()):
        for fault in (None, Fault(status=401)):
            if fault is not None:
                watched.server.faults.add(path_starts("/api/flows"), fault)
            run_id = launched(dev, WATCHED_DAYS)
            run = ended(dev.client, run_id)
            assert run["status"] == ("SUCCESS" if fault is None else "FAILURE")
            events = ask(dev.client, {"query": EVENTS, "variables": {"id": run_id}})
            watched.record(str(events), f"events of {run_id}")
        assert listening_on(os.getpid()) == set()
        answer: dict[str, Any] = dev.client.post("/graphql", json={"query": INTROSPECTION}).json()
        watched.record(str(answer), "GraphQL")
        assert f"klaviyo_account__{SLUG}" in str(answer), answer
    watched.server.faults.clear()
    watched.look_everywhere()


def listening_on(pid: int) -> set[str]:
    """The non-loopback addresses on which a child process listens."""
    listening = [
        connection.laddr.ip
        for process in psutil.Process(pid).children(recursive=True)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    return {address for address in listening if not ip_address(address).is_loopback}
