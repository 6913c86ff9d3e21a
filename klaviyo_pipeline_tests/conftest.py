"""Fixtures of every test: an environment without the developer's settings, and a temporary Postgres."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance import InstanceRef

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres
from klaviyo_pipeline_tests.compiled import compiled_once
from klaviyo_pipeline_tests.support import (
    SLUG,
    START,
    Pipeline,
    dagster_home,
    hide_settings,
    put,
    recorded_pipeline,
    throw_away_database,
    utc,
)

# Read here because `clean_environment` removes it; CI names an older major version this way.
GIVEN_SERVER = os.environ.get("KLAVIYO_TEST_DATABASE_URL")
THROW_AWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
MOST_BYTES = 4 * 1024**3


LONGEST = (
    "test_celery.py",
    "test_dagster_ui.py",
    "test_graphql.py",
    "test_all_accounts.py",
    "test_torture_database.py",
    "test_cli.py",
    "test_torture_kills.py",
    "test_conversion_metrics.py",
    "test_schedule_document.py",
    "test_torture_matrix.py",
    "test_extend.py",
    "test_pooler.py",
)
"""The files that take longest, which begin first: the last file to end determines how long all tests take."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Modules and tests live as long as the process, so the garbage collector need not look at them."""
    with gc_frozen():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def shared_statements() -> Iterator[None]:
    with compiled_once():
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_settings(monkeypatch)


def _memory() -> Path | None:
    """Linux's folder in memory, if it has room for the databases. Copying a database is three times as fast there."""
    memory = Path("/dev/shm")
    is_usable = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MOST_BYTES
    return memory if is_usable else None


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """An empty folder. If root runs the tests, the server's unprivileged user can access it."""
    folder = Path(tempfile.mkdtemp(prefix="klaviyo-tests-", dir=_memory()))
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
    with throw_away_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> Iterator[str]:
    """URL of a database to copy, whose schema `SLUG` is migrated."""
    with throw_away_database(postgres_server) as url:
        migrate(url, SLUG, SQL_DIR)
        yield url


@pytest.fixture
def migrated(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """libpq URL of a database that only this test uses, whose schema `SLUG` is migrated."""
    with throw_away_database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def recorded_template(
    postgres_server: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of a database to copy: migrated, and with Dagster's tables in `public`."""
    home = dagster_home(tmp_path_factory.mktemp("dagster"))
    with throw_away_database(postgres_server, migrated_template) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", url)
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home))):
            pass
        yield url


@pytest.fixture
def recordable(postgres_server: str, recorded_template: str) -> Iterator[str]:
    """libpq URL of a database that only this test uses: migrated, and with Dagster's tables in `public`."""
    with throw_away_database(postgres_server, recorded_template) as url:
        yield url


@pytest.fixture
def home(recordable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance of syncs in this process, for this test only. Its runs are recorded in Postgres, like a user's."""
    monkeypatch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", recordable)
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home(tmp_path)))
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def recorded(recordable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """A pipeline on an empty account. Its runs are recorded in Postgres, like a user's."""
    with recorded_pipeline(recordable, tmp_path, monkeypatch) as pipeline:
        yield pipeline


@pytest.fixture
def installed(recordable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """A pipeline whose account is also the one of the environment, as in an installation."""
    monkeypatch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.0)
    monkeypatch.setenv("KLAVIYO_ACCOUNT", SLUG)
    monkeypatch.setenv("KLAVIYO_START_DATE", START.isoformat())
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with recorded_pipeline(recordable, tmp_path, monkeypatch) as pipeline:
        monkeypatch.setenv("KLAVIYO_API_URL", pipeline.server.url)
        monkeypatch.setenv("KLAVIYO_RATE_SCALE", "0")
        put(pipeline.shop, "flows", "f", utc("2025-03-10T12:00:00"))
        yield pipeline
