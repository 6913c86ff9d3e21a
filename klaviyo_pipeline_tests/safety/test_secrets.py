"""No command, successful or not, leaks the API key or a password.

The tests search the output, every table of the database, every file that Dagster writes, the responses of the web
server, and the arguments of every process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil
import psycopg
import pytest
from psycopg import sql

from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.sandbox_account import READ_SCOPES, SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.dev_server import ask, dev_server, ended, launch_of
from klaviyo_pipeline_tests.support import SLUG, empty_shop, environment, put, utc

pytestmark = pytest.mark.slow

PROGRAM = str(Path(sys.executable).with_name("klaviyo-pipeline"))
KEY = "pk_k3y'\"$%40{}[]\\&?=+/#;|<>~^odd"
PASSWORD = "p@ss\"/w%ord's:#?&$\\"
DAYS = ("--from", "2025-03-09", "--to", "2025-03-12")

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


@dataclass
class Watched:
    """A shell with an unusual key and password, and everything that it and its child processes printed."""

    shop: SandboxAccount
    server: SandboxServer
    database: str
    variables: dict[str, str]
    folder: Path
    secrets: tuple[str, ...]
    output: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, **changed: str) -> int:
        """The exit code of a command. Its output, and that of its child processes, is recorded."""
        process = subprocess.Popen(
            [PROGRAM, *arguments],
            env={**os.environ, **self.variables, **changed},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with self.arguments_of(process.pid):
            out, _ = process.communicate(timeout=200)
        self.output[f"{len(self.output)}: {' '.join(arguments)} {sorted(changed)}"] = out
        return process.returncode

    @contextmanager
    def arguments_of(self, pid: int) -> Iterator[None]:
        """Records the arguments of this process and its child processes while the block runs."""
        over, seen = threading.Event(), set[str]()

        def watch() -> None:
            while not over.wait(0.05):
                try:
                    parent = psutil.Process(pid)
                    for process in [parent, *parent.children(recursive=True)]:
                        seen.add("\0".join(process.cmdline()))
                except psutil.Error:
                    continue

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            assert seen
            self.output[f"{len(self.output)}: arguments"] = "\n".join(seen)

    def look_everywhere(self) -> None:
        """Nothing that was printed or stored contains a secret, in any encoding."""
        places = {**self.output, **dict(self._tables()), **dict(self._files())}
        for place, text in places.items():
            for secret in self.secrets:
                assert secret not in text, f"{place}: {_around(text, secret)}"

    def _tables(self) -> Iterator[tuple[str, str]]:
        with psycopg.connect(self.database) as connection:
            tables = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN (%s, 'public')", [SLUG]
            ).fetchall()
            assert len(tables) > 40
            for name in tables:
                # Both as Postgres prints the text, and with JSON escapes decoded.
                query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(*name))
                text = "\n".join(row for (row,) in connection.execute(query))
                yield ".".join(name), text + text.replace('""', '"').replace("\\\\", "\\").replace('\\"', '"')

    def _files(self) -> Iterator[tuple[str, str]]:
        for path in self.folder.rglob("*"):
            if path.is_file():
                yield str(path), path.read_text(errors="replace")


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


def _around(text: str, secret: str) -> str:
    at = text.index(secret)
    return text[max(0, at - 200) : at + 50]


@pytest.fixture
def watched(database: str, tmp_path: Path) -> Iterator[Watched]:
    shop = empty_shop()
    shop.api_keys = {KEY: set(READ_SCOPES)}
    put(shop, "flows", "f1", utc("2025-03-10T12:00:00"))
    put(shop, "forms", "o1", utc("2025-03-10T12:00:00"))
    parts = urlsplit(database)
    role = f"odd_{parts.path[6:18]}"
    url = parts._replace(netloc=f"{role}:{quote(PASSWORD, safe='')}@{parts.hostname}:{parts.port}").geturl()
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in ("CREATE ROLE {} LOGIN PASSWORD {}", "ALTER DATABASE {database} OWNER TO {}"):
            connection.execute(
                sql.SQL(statement).format(
                    sql.Identifier(role), sql.Literal(PASSWORD), database=sql.Identifier(parts.path[1:])
                )
            )
        with SandboxServer(shop, rate_scale=0) as server:
            variables = environment(shop, server.url, url, tmp_path)
            secrets = (KEY, PASSWORD, quote(PASSWORD, safe=""), quote(KEY, safe=""))
            yield Watched(shop, server, database, variables, tmp_path, secrets)
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(parts.path[1:])))
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.timeout(500)
def test_no_command_prints_or_stores_a_secret_whether_it_fails_or_not(watched: Watched) -> None:
    assert watched.run("--debug", "sync", "flows", *DAYS) == 0
    # Klaviyo repeats the key in its response.
    reported = {"errors": [{"code": "refused", "detail": f"The key {KEY} is wrong.", "source": {"pointer": KEY}}]}
    for path, status in (("forms", 401), ("segments", 403), ("campaigns", 400)):
        watched.server.faults.add(path_starts(f"/api/{path}"), Fault(status=status, body=reported))
    watched.server.faults.add(path_starts("/api/flows"), Fault(cut_connection=True), times=2)
    assert watched.run("sync", "flows", "forms", "segments", "campaigns", *DAYS, "--force", "--debug") == 1
    assert watched.run("sync", "flows", *DAYS, "--debug", KLAVIYO_API_KEY=f"{KEY}x") == 1
    url = watched.variables["KLAVIYO_DATABASE_URL"]
    unreachable = urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition(":")[0] + ":9").geturl()
    for command, changed in (
        (("sync", "flows"), unreachable),
        (("status",), url.replace("odd_", "not_odd_")),
        (("migrate",), f"{url}?sslmode={PASSWORD}"),
        (("doctor",), url.replace("%", "")),
    ):
        assert watched.run(*command, "--debug", KLAVIYO_DATABASE_URL=changed) == 1
    # The database's error message contains the rows.
    with psycopg.connect(watched.database, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {SLUG}.forms ADD CONSTRAINT refused CHECK (name = 'nothing')")
    assert watched.run("sync", "forms", *DAYS, "--debug") == 1
    watched.look_everywhere()


@pytest.mark.timeout(500)
def test_the_web_server_listens_on_loopback_only_and_returns_no_secret(watched: Watched) -> None:
    log = watched.folder / "webserver.log"
    with dev_server(watched.variables, log) as client, watched.arguments_of(os.getpid()):
        for fault in (None, Fault(status=401)):
            if fault is not None:
                watched.server.faults.add(path_starts("/api/flows"), fault)
            launched = ask(client, launch_of("2025-03-10", "2025-03-11"))["launchRun"]
            run_id = launched["run"]["runId"]
            run = ended(client, run_id)
            assert run["status"] == ("SUCCESS" if fault is None else "FAILURE")
            events = ask(client, {"query": EVENTS, "variables": {"id": run_id}})
            watched.output[f"events of {run_id}"] = str(events)
        assert listening_on(os.getpid()) == set()
        answer: dict[str, Any] = client.post("/graphql", json={"query": INTROSPECTION}).json()
        watched.output["GraphQL"] = str(answer)
        assert f"klaviyo_account__{SLUG}" in str(answer), answer
    watched.look_everywhere()
