"""An entity that is added as `docs/extend.md` says, with the document's own code, is synced like the others."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from klaviyo_pipeline.sandbox.account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline.settings import PROJECT_ROOT
from klaviyo_pipeline_tests.support import SLUG, empty_shop, environment, put, truth, utc

DOCUMENT = (PROJECT_ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
VIEWS = ("expected_windows", "sync_status")
LISTS = 23
"""More than two pages."""
ENDED_WINDOWS = 600
"""Days from the start date in the tests' environment to any day on which they run."""


def blocks(language: str) -> list[str]:
    """The document's code blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def changed(text: str, diff: str) -> str:
    """The text with the change that a block of the document shows."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    after = "".join(line[1:] for line in lines if not line.startswith("-"))
    if len(lines) == 2 and lines[0].startswith("-"):
        # Within a line.
        before, after = before.strip(), after.strip()
    assert text.count(before) == 1, f"the document changes what is not there: {before}"
    return text.replace(before, after)


def latest_view(name: str) -> str:
    """The statement that defined the view last, as one that replaces it."""
    files = sorted((PROJECT_ROOT / "sql").glob("*.sql"))
    pattern = rf"CREATE (?:OR REPLACE )?VIEW {name} AS\n.*?;\n"
    found = [statement for file in files for statement in re.findall(pattern, file.read_text(), re.DOTALL)]
    return re.sub(r"^CREATE (OR REPLACE )?VIEW", "CREATE OR REPLACE VIEW", found[-1])


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project to which the document was applied."""
    project = tmp_path_factory.mktemp("extended")
    for name in ("klaviyo_pipeline", "sql"):
        shutil.copytree(PROJECT_ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT_ROOT / name, project)
    [declaration], [tables], diffs = blocks("python"), blocks("sql"), blocks("diff")
    (project / "klaviyo_pipeline" / "klaviyo" / "lists.py").write_text(declaration)
    entities = project / "klaviyo_pipeline" / "klaviyo" / "entities.py"
    entities.write_text(changed(changed(entities.read_text(), diffs[0]), diffs[1]))
    views = [changed(latest_view(name), diff) for name, diff in zip(VIEWS, diffs[2:], strict=True)]
    number = len(list((project / "sql").glob("*.sql"))) + 1
    (project / "sql" / f"{number:03}_lists.sql").write_text("\n".join([tables, *views]))
    return project


@pytest.fixture
def shop() -> SandboxAccount:
    shop = empty_shop()
    for number in range(LISTS):
        moment = utc("2025-03-03T09:00:00") + timedelta(hours=7 * number)
        put(shop, "lists", f"L{number:02}", moment, created=moment, opt_in_process="double_opt_in")
    put(shop, "lists", "old", utc("2020-01-01T00:00:00"))
    return shop


def test_the_document_s_entity_is_synced_listed_and_told_of(
    extended: Path, shop: SandboxAccount, database: str, tmp_path: Path
) -> None:
    with SandboxServer(shop, rate_scale=0) as server:
        variables = environment(shop, server.url, database, tmp_path) | {"PYTHONPATH": str(extended)}

        def command(*arguments: str) -> str:
            line = [sys.executable, "-c", "from klaviyo_pipeline.cli import main; main()", *arguments]
            ran = subprocess.run(
                line, cwd=extended, env={**os.environ, **variables}, capture_output=True, text=True, check=False
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
            return ran.stdout

        command("sync", "lists")
        assert stored(database) == {id: row for id, row in truth(shop, "lists").items() if id != "old"}
        put(shop, "lists", "L00", utc("2025-03-03T09:00:00"), name="renamed")
        shop.delete("lists", "L01")
        command("sync", "lists_census")
        assert stored(database) == truth(shop, "lists")
        checked = [row for row in json.loads(command("check", "--format", "json")) if row["asset"].startswith("lists")]
        wanted = {"rows_are_their_objects", "history_is_unbroken", "attributes_are_known", "census_is_fresh"}
        assert {row["check"] for row in checked if row["outcome"] == "passed"} >= wanted
        [told] = [row for row in json.loads(command("status", "--format", "json")) if row["entity"] == "lists"]
        assert told["row_count"] == LISTS
        assert told["windows_synced"] > ENDED_WINDOWS
        assert "renamed" in command("get", "lists", "L00")
        assert "lists:read" in command("doctor")
    with psycopg.connect(database, options=f"-csearch_path={SLUG}") as connection:
        kept = connection.execute("SELECT name FROM lists_history WHERE id = 'L00' ORDER BY valid_from").fetchall()
        assert kept == [("lists L00",), ("renamed",)]
        [gone] = connection.execute("SELECT deleted_at FROM lists_as_of(now()) WHERE id = 'L01'").fetchall()
        assert gone[0] is not None


def stored(database: str) -> dict[str, Any]:
    """What the table says of every list that is not deleted, comparable with `truth`."""
    query = "SELECT id, name, updated_at, raw->'attributes' FROM lists WHERE deleted_at IS NULL ORDER BY id"
    with psycopg.connect(database, options=f"-csearch_path={SLUG}") as connection:
        return {row[0]: row[1:] for row in connection.execute(query)}
