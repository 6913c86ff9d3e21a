"""Accounts in the environment of commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.cli.shell import DAYS, Here, Outcome, Shell, shell_for
from klaviyo_pipeline_tests.support import empty_shop, put, throw_away_database, utc


@pytest.fixture(scope="module")
def first_sync(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shell, Outcome]]:
    """A generated account, synced once by the command line."""
    begun, until = date(2025, 2, 1), date(2025, 5, 1)
    shop = generate_account(3, flows=12, campaigns=20, forms=5, segments=8, start=begun, until=until)
    shop.api_keys = empty_shop().api_keys
    shop.clock = lambda: utc("2025-03-20T12:00:00")
    home = tmp_path_factory.mktemp("dagster")
    with throw_away_database(postgres_server) as database, SandboxServer(shop, rate_scale=0) as server:
        shell = shell_for(shop, server, database, home)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("DAGSTER_HOME", raising=False)
            yield shell, shell.run("sync", *DAYS)


@pytest.fixture
def synced_shell(first_sync: tuple[Shell, Outcome]) -> Shell:
    return first_sync[0]


@contextmanager
def small_account(database: str, home: Path) -> Iterator[Shell]:
    """An account with a flow and a form."""
    shop = empty_shop()
    put(shop, "flows", "f1", utc("2025-03-10T12:00:00"))
    put(shop, "forms", "o1", utc("2025-03-10T12:00:00"))
    with SandboxServer(shop, rate_scale=0) as server:
        yield shell_for(shop, server, database, home)


@pytest.fixture
def fresh(database: str, tmp_path: Path) -> Iterator[Shell]:
    """A small account, and an empty database."""
    with small_account(database, tmp_path) as shell:
        yield shell


@pytest.fixture
def prepared(recordable: str, tmp_path: Path) -> Iterator[Shell]:
    """A small account, and a database with its empty tables and Dagster's."""
    with small_account(recordable, tmp_path) as shell:
        yield shell


@pytest.fixture
def here(fresh: Shell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    """Runs commands in this process, which is faster."""
    return Here(fresh, monkeypatch, capfd)


@pytest.fixture
def prepared_here(prepared: Shell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    return Here(prepared, monkeypatch, capfd)


@pytest.fixture
def reader(synced_shell: Shell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    """Runs commands in this process, on the data of the first sync."""
    return Here(synced_shell, monkeypatch, capfd)
