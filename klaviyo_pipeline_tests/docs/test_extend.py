"""A column and an entity that are added with the code of `docs/extend.md` are synced like all others."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.sandbox import endpoints
from klaviyo_pipeline.sandbox.endpoints import LARGE
from klaviyo_pipeline.sandbox.entity_kinds import ENTITIES, TIME_ORDER, Entity, FilterField
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.cli.shell import Outcome
from klaviyo_pipeline_tests.support import SLUG, empty_shop, environment, put, truth, utc

pytestmark = pytest.mark.slow

DOCUMENT = (PROJECT_ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
KIND = "template-universal-content"
"""The entity's name in the simulated account: the last part of its path."""
OBJECTS = 230
"""More than two pages."""
ENDED_WINDOWS = 600
"""Days from the start date in the tests' environment to any day on which they run."""

DEFINED = """
from klaviyo_pipeline.definitions import defs
for spec in defs.resolve_all_asset_specs():
    if spec.key.path[-1] in ("universal_content", "universal_content_census"):
        print(spec.tags["klaviyo/object"], spec.tags["klaviyo/layer"], spec.metadata["klaviyo_page"].value)
"""

SHELL = """
import contextlib, io, json, sys
from klaviyo_pipeline.cli import main

for line in sys.stdin:
    arguments, program = json.loads(line)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(program) if program else main(arguments)
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""
"""Executes one command, or one program, for each line of its input. Importing everything takes longer than most."""

Command = Callable[..., Outcome]


def blocks(language: str) -> list[str]:
    """The document's code blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def change(file: Path, diff: str) -> None:
    """Make the change that a block of the document shows."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    after = "".join(line[1:] for line in lines if not line.startswith("-"))
    text = file.read_text()
    assert text.count(before) == 1, f"the document changes what is not there: {before}"
    file.write_text(text.replace(before, after))


def copied(project: Path) -> Path:
    """A copy of the project, to be changed. The compiled modules are valid in it until their source is changed."""
    for name in ("klaviyo_pipeline", "sql"):
        shutil.copytree(PROJECT_ROOT / name, project / name)
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT_ROOT / name, project)
    return project


def declare_column(project: Path) -> None:
    for module, diff in zip(("nested_campaigns", "flat_campaigns"), blocks("diff"), strict=False):
        change(project / "klaviyo_pipeline" / "klaviyo" / f"{module}.py", diff)


def add_file(project: Path, name: str, text: str) -> None:
    number = len(list((project / "sql").glob("*.sql"))) + 1
    (project / "sql" / f"{number:03}_{name}.sql").write_text(text)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project to which the document was applied."""
    project = copied(tmp_path_factory.mktemp("extended"))
    [declaration], [column, entity] = blocks("python"), blocks("sql")
    declare_column(project)
    add_file(project, "send_timezone", column)
    (project / "klaviyo_pipeline" / "klaviyo" / "universal_content.py").write_text(declaration)
    for diff in blocks("diff")[2:]:
        change(project / "klaviyo_pipeline" / "catalog.py", diff)
    add_file(project, "universal_content", entity)
    return project


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entity in the simulated account, declared as the document says."""
    times = FilterField("datetime", TIME_ORDER)
    entity = Entity(
        name=KIND,
        type=KIND,
        time_field="updated",
        created_field="created",
        page_size=20,
        max_page_size=100,
        sorts=("created", "id", "name", "updated"),
        attributes={"name": "", "definition": None, "created": None, "updated": None},
        filters={"id": FilterField("string", list=("any", "equals")), "created": times, "updated": times},
        relationships=(),
        fields={KIND: ("created", "definition", "id", "name", "updated")},
    )
    monkeypatch.setitem(ENTITIES, KIND, entity)
    scopes = ("templates:read",)
    more = [replace(one, scopes=scopes) for one in (endpoints._listing(entity, LARGE), endpoints._by_id(entity, LARGE))]
    for revision, known in endpoints.ENDPOINTS.items():
        monkeypatch.setitem(endpoints.ENDPOINTS, revision, (*known, *more))


@pytest.fixture
def shop(served: None) -> SandboxAccount:
    shop = empty_shop()
    for number in range(OBJECTS):
        moment = utc("2025-03-03T09:00:00") + timedelta(hours=7 * number)
        put(shop, KIND, f"L{number:03}", moment, created=moment, definition={"content_type": "block"})
    put(shop, KIND, "old", utc("2020-01-01T00:00:00"))
    put(shop, "campaigns", "C1", utc("2025-03-03T09:00:00"), send_settings={"send_timezone": "UTC"})
    put(shop, "campaigns", "C2", utc("2025-03-04T09:00:00"), send_settings=None)
    return shop


@pytest.fixture
def command(shop: SandboxAccount, recordable: str, tmp_path: Path) -> Iterator[Command]:
    """Runs `klaviyo-pipeline`, or another program of Python, with the code of a project: a process for each project."""
    with SandboxServer(shop, rate_scale=0) as server, ExitStack() as stack:
        variables = environment(shop, server.url, recordable, tmp_path)
        log = stack.enter_context((tmp_path / "shells.log").open("w+"))
        shells: dict[Path, subprocess.Popen[str]] = {}

        def begin(project: Path) -> subprocess.Popen[str]:
            shell = subprocess.Popen(
                [sys.executable, "-c", SHELL],
                cwd=project,
                env={**os.environ, **variables, "PYTHONPATH": str(project)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            # Closes the input, at which the shell ends, and waits for the end.
            return stack.enter_context(shell)

        def run(project: Path, *arguments: str, program: str = "") -> Outcome:
            shell = shells.get(project) or shells.setdefault(project, begin(project))
            assert shell.stdin is not None
            assert shell.stdout is not None
            print(json.dumps([arguments, program]), file=shell.stdin, flush=True)
            line = shell.stdout.readline()
            assert line, f"the process ended: {Path(log.name).read_text()}"
            return Outcome(*json.loads(line))

        yield run


@pytest.fixture
def connection(recordable: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the schema, which is migrated without the document's changes."""
    with psycopg.connect(recordable, autocommit=True, options=f"-csearch_path={SLUG}") as connection:
        yield connection


def succeeded(ran: Outcome) -> str:
    assert ran.code == 0, ran.out + ran.err
    return ran.out


def test_the_document_s_entity_is_synced_listed_and_reported(
    extended: Path, shop: SandboxAccount, command: Command, recordable: str
) -> None:
    succeeded(command(extended, "sync", "universal_content"))
    assert stored(recordable) == {id: row for id, row in truth(shop, KIND).items() if id != "old"}
    put(shop, KIND, "L000", utc("2025-03-03T09:00:00"), name="renamed")
    shop.delete(KIND, "L001")
    succeeded(command(extended, "sync", "universal_content_census"))
    assert stored(recordable) == truth(shop, KIND)
    checks = json.loads(succeeded(command(extended, "check", "--format", "json")))
    wanted = {"columns_match_raw", "history_is_unbroken", "attributes_are_known", "census_is_fresh"}
    own = [row for row in checks if row["asset"].startswith("universal_content")]
    assert {row["check"] for row in own if row["outcome"] == "passed"} >= wanted
    status = json.loads(succeeded(command(extended, "status", "--format", "json")))
    [reported] = [row for row in status if row["entity"] == "universal_content"]
    assert reported["row_count"] == OBJECTS
    assert reported["windows_synced"] > ENDED_WINDOWS
    assert "renamed" in succeeded(command(extended, "get", "universal_content", "L000"))
    assert "templates:read" in succeeded(command(extended, "doctor"))
    page = "https://www.klaviyo.com/email-templates/content"
    defined = succeeded(command(extended, program=DEFINED))
    assert sorted(defined.splitlines()) == [
        f"universal_content census {page}",
        f"universal_content objects {page}",
    ]
    with psycopg.connect(recordable, options=f"-csearch_path={SLUG}") as connection:
        history = "SELECT name FROM universal_content_history WHERE id = 'L000' ORDER BY valid_from"
        assert connection.execute(history).fetchall() == [(f"{KIND} L000",), ("renamed",)]
        as_of = "SELECT deleted_at FROM universal_content_as_of(now()) WHERE id = 'L001'"
        [gone] = connection.execute(as_of).fetchall()
        assert gone[0] is not None


def test_the_document_s_column_is_filled_everywhere_and_the_next_sync_changes_nothing(
    extended: Path, shop: SandboxAccount, command: Command, connection: psycopg.Connection[Any]
) -> None:
    succeeded(command(PROJECT_ROOT, "sync", "campaigns_census"))
    put(shop, "campaigns", "C1", utc("2025-03-03T09:00:00"), name="renamed")
    succeeded(command(PROJECT_ROOT, "sync", "campaigns_census"))
    states = "SELECT id, name, valid_from, valid_to FROM campaigns_history ORDER BY id, valid_from"
    before = connection.execute(states).fetchall()
    assert len(before) == 3
    succeeded(command(extended, "sync", "campaigns_census"))
    assert connection.execute(states).fetchall() == before
    zones = "SELECT id, send_timezone FROM {} ORDER BY id, valid_from"
    every = [("C1", "UTC"), ("C1", "UTC"), ("C2", None)]
    assert connection.execute(zones.format("campaigns_history")).fetchall() == every
    assert connection.execute(zones.format("campaigns_as_of(now())")).fetchall() == every[1:]
    put(shop, "campaigns", "C1", utc("2025-03-03T09:00:00"), send_settings={"send_timezone": "Asia/Tokyo"})
    succeeded(command(extended, "sync", "campaigns_census"))
    zone = "SELECT send_timezone FROM campaigns ORDER BY id"
    assert connection.execute(zone).fetchall() == [("Asia/Tokyo",), (None,)]
    assert connection.execute(zones.format("campaigns_history")).fetchall() == [
        *every[:2],
        ("C1", "Asia/Tokyo"),
        every[2],
    ]
    checks = json.loads(succeeded(command(extended, "check", "--format", "json")))
    of_campaigns = {row["check"]: row["outcome"] for row in checks if row["asset"] == "campaigns"}
    assert of_campaigns["columns_match_raw"] == "passed"


@pytest.mark.parametrize("half", ["declared", "in the table"])
def test_half_a_column_is_refused_with_the_recipe_before_a_request_is_sent(
    half: str, shop: SandboxAccount, command: Command, connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    project = copied(tmp_path / "project")
    if half == "declared":
        declare_column(project)
    else:
        add_file(project, "send_timezone", "ALTER TABLE campaigns ADD COLUMN send_timezone text;")
    ran = command(project, "sync", "campaigns_census")
    assert ran.code == 1
    [line] = ran.err.splitlines()
    assert "send_timezone" in line
    assert 'see "Add a column" in docs/extend.md' in line
    assert connection.execute("SELECT count(*) FROM campaigns_history").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM api_calls WHERE endpoint = 'get_campaigns'").fetchone() == (0,)


def stored(database: str) -> dict[str, Any]:
    """The table's rows of all lists that are not deleted, in the form of `truth`."""
    columns = "id, name, updated_at, raw->'attributes'"
    query = f"SELECT {columns} FROM universal_content WHERE deleted_at IS NULL ORDER BY id".encode()
    with psycopg.connect(database, options=f"-csearch_path={SLUG}") as connection:
        return {row[0]: row[1:] for row in connection.execute(query)}
