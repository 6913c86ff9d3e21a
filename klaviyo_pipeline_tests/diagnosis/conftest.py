"""A correct installation, before and after the first sync."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.diagnosis.installation import Set, sync_before
from klaviyo_pipeline_tests.support import empty_shop, key_of, throw_away_database


@pytest.fixture
def shop() -> SandboxAccount:
    return empty_shop("America/New_York")


@pytest.fixture
def server(shop: SandboxAccount) -> Iterator[SandboxServer]:
    with SandboxServer(shop, rate_scale=0) as server:
        yield server


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Sets environment variables; None unsets a variable."""

    def change(**values: str | None) -> None:
        for name, value in values.items():
            if value is None:
                monkeypatch.delenv(name)
            else:
                monkeypatch.setenv(name, value)

    return change


@pytest.fixture
def settings(
    shop: SandboxAccount, server: SandboxServer, setting: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of a correct installation, except the database."""
    setting(
        KLAVIYO_ACCOUNT="shop",
        KLAVIYO_API_URL=server.url,
        KLAVIYO_API_KEY=key_of(shop),
        KLAVIYO_TIMEZONE=shop.timezone,
        KLAVIYO_RATE_SCALE="0",
    )
    monkeypatch.setenv("KLAVIYO_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.0)


@pytest.fixture
def installation(settings: None, database: str, setting: Set) -> None:
    """A correct installation before the first sync."""
    setting(KLAVIYO_DATABASE_URL=database)


@pytest.fixture(scope="session")
def bound_template(postgres_server: str) -> Iterator[str]:
    """URL of a database to copy, whose schema is migrated and belongs to the account."""
    with throw_away_database(postgres_server) as url:
        sync_before(url)
        yield url


@pytest.fixture
def synced(installation: None, postgres_server: str, bound_template: str, setting: Set) -> Iterator[str]:
    """The database of the installation after the account's first sync, instead of the empty one."""
    with throw_away_database(postgres_server, bound_template) as url:
        setting(KLAVIYO_DATABASE_URL=url)
        yield url


@pytest.fixture
def guest(database: str, setting: Set) -> Iterator[str]:
    """A role without any rights, which replaces the role of the warehouse."""
    role = f"guest_{secrets.token_hex(6)}"
    parts = urlsplit(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hush-hush'").format(sql.Identifier(role)))
        setting(KLAVIYO_DATABASE_URL=parts._replace(netloc=f"{role}:hush-hush@{parts.hostname}:{parts.port}").geturl())
        yield role
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
