"""Fixtures of every test: an environment without the developer's settings, and a temporary Postgres."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres
from klaviyo_pipeline_tests.support import Pipeline, recorded_pipeline

# Read here because `clean_environment` removes it; CI names an older major version this way.
GIVEN_SERVER = os.environ.get("KLAVIYO_TEST_DATABASE_URL")
THROW_AWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the developer's `KLAVIYO_*` variables, Dagster instance and `.env` from the tests."""
    for name in list(os.environ):
        if name.startswith("KLAVIYO_") or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)
    monkeypatch.setenv("KLAVIYO_IGNORE_DOTENV", "1")


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """An empty folder. If root runs the tests, the server's unprivileged user can access it."""
    folder = Path(tempfile.mkdtemp(prefix="klaviyo-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_folder: Path) -> Iterator[str]:
    """libpq URL of a role that may create databases, on a temporary server or from `KLAVIYO_TEST_DATABASE_URL`."""
    if GIVEN_SERVER:
        yield GIVEN_SERVER
        return
    server = EmbeddedPostgres(server_folder / "shared", settings=THROW_AWAY)
    yield server.start()
    server.stop()


@pytest.fixture
def database(postgres_server: str) -> Iterator[str]:
    """libpq URL of an empty database that only this test uses."""
    name = f"test_{uuid.uuid4().hex}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
    drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(create.format(sql.Identifier(name)))
        yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
        connection.execute(drop.format(sql.Identifier(name)))


@pytest.fixture
def recorded(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """A pipeline on an empty account. Its runs are recorded in Postgres, like a user's."""
    with recorded_pipeline(database, tmp_path, monkeypatch) as pipeline:
        yield pipeline
