"""`deploy/roles.sql`: a writer with the rights that a sync needs and no others, and a reader."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import errors, sql

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.cli.shell import run_here
from klaviyo_pipeline_tests.support import empty_shop, environment, put, utc

pytestmark = pytest.mark.slow

SCRIPT = (PROJECT_ROOT / "deploy" / "roles.sql").read_bytes()


@pytest.fixture
def slug() -> str:
    """A unique name: roles exist server-wide, so each test needs its own."""
    return f"shop_{secrets.token_hex(4)}"


@pytest.fixture
def admin(database: str, slug: str) -> Iterator[str]:
    """URL of the database's owner, which may create roles and is not a superuser. It is removed after the test."""
    name, made = sql.Identifier(urlsplit(database).path[1:]), [f"{slug}_writer", f"{slug}_reader", f"{slug}_admin"]
    with psycopg.connect(database, autocommit=True) as connection:
        owner = sql.Identifier(made[-1])
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'pw'").format(owner))
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner))
        yield as_role(database, made[-1])
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(name))
        for role in made:
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
        for role in made:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{role}:pw@{parts.hostname}:{parts.port}").geturl()


def run_script(url: str, slug: str) -> None:
    with psycopg.connect(url, autocommit=True, options=f"-cklaviyo.account={slug}") as connection:
        connection.execute(SCRIPT)


def set_passwords(database: str, slug: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for role in (f"{slug}_writer", f"{slug}_reader"):
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD 'pw'").format(sql.Identifier(role)))


def test_the_writer_syncs_without_further_rights_and_the_reader_reads_and_writes_nothing(
    database: str,
    admin: str,
    slug: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for _ in range(2):
        run_script(admin, slug)
    set_passwords(database, slug)
    shop = empty_shop()
    put(shop, "flows", "f1", utc("2025-03-10T12:00:00"))
    with SandboxServer(shop, rate_scale=0) as server:
        variables = environment(shop, server.url, as_role(database, f"{slug}_writer"), tmp_path)
        variables |= {"KLAVIYO_ACCOUNT": slug, "KLAVIYO_DAGSTER_DATABASE_URL": ""}
        for command in (["migrate"], ["sync", "flows", "--from", "2025-03-09", "--to", "2025-03-10"], ["status"]):
            done = run_here(command, variables, monkeypatch, capfd)
            assert done.code == 0, done.err
    with psycopg.connect(database) as connection:
        rights = "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls FROM pg_roles"
        for role in ("writer", "reader"):
            assert connection.execute(f"{rights} WHERE rolname = %s", [f"{slug}_{role}"]).fetchone() == (False,)
        runs = connection.execute(
            "SELECT count(*), max(tableowner) FROM dagster.runs, pg_tables WHERE tablename = 'runs'"
        )
        assert runs.fetchone() == (1, f"{slug}_writer")
    with psycopg.connect(as_role(database, f"{slug}_reader"), autocommit=True) as reader:
        reader.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(slug)))
        assert reader.execute("SELECT id FROM flows").fetchall() == [("f1",)]
        assert reader.execute("SELECT id FROM flows_as_of(now())").fetchall() == [("f1",)]
        assert reader.execute("SELECT windows_synced FROM sync_status WHERE entity = 'flows'").fetchone() == (2,)
        # The reader can change the setting, but not its rights.
        reader.execute("SET default_transaction_read_only = off")
        for statement in (
            "INSERT INTO flows (id) VALUES ('f2')",
            "UPDATE flows SET name = 'x'",
            "DELETE FROM sync_windows",
            "TRUNCATE flows",
            "DROP TABLE flows",
            "CREATE TABLE mine (id text)",
            "SELECT * FROM dagster.runs",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                reader.execute(statement.encode())
