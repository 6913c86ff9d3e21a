"""What `doctor` finds about the warehouse: connection, encoding, version, role, migrations and owner."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.diagnosis import warehouse_access
from klaviyo_pipeline_tests.diagnosis.installation import NOBODY, Set, diagnose, query_rows, sync_before

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("installation")]


def test_an_unreachable_database_fails_without_printing_its_password(
    setting: Set, capsys: pytest.CaptureFixture[str]
) -> None:
    setting(KLAVIYO_DATABASE_URL=NOBODY)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    output = capsys.readouterr()
    assert "cannot connect to Postgres at 127.0.0.1:1/db" in output.out
    assert "hush" not in output.out + output.err
    assert "Traceback" not in output.out + output.err
    findings = diagnose()
    assert findings["scope flows:read"].verdict == "ok"
    assert findings["Dagster instance"].verdict == findings["migrations"].verdict == "skipped"


def test_a_password_that_breaks_the_url_is_not_printed(setting: Set, capsys: pytest.CaptureFixture[str]) -> None:
    setting(KLAVIYO_DATABASE_URL="postgresql://me:hush/hush@127.0.0.1:5432/db")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    output = capsys.readouterr()
    assert "KLAVIYO_DATABASE_URL must have the form" in output.out
    assert "hush" not in output.out + output.err


def test_a_schema_of_another_account_fails(database: str) -> None:
    sync_before(database, account_id="OTHER1")
    finding = diagnose()["account in schema"]
    assert finding.verdict == "failed"
    assert "OTHER1" in finding.found
    assert "KLAVIYO_ACCOUNT" in finding.found


def test_an_edited_migration_fails(synced: str) -> None:
    with psycopg.connect(synced) as connection:
        connection.execute("UPDATE shop.schema_migrations SET sha256 = 'other' WHERE version = 1")
    finding = diagnose()["migrations"]
    assert finding.verdict == "failed"
    assert "001_functions.sql" in finding.found


def test_a_role_that_may_not_create_the_schema_fails_with_the_grant(guest: str) -> None:
    findings = diagnose()
    assert findings["role"].verdict == "failed"
    assert "GRANT CREATE ON DATABASE" in str(findings["role"].remedy)
    assert guest in str(findings["role"].remedy)


def test_a_role_that_may_not_write_the_tables_fails_with_the_grant(guest: str, database: str) -> None:
    sync_before(database)
    finding = diagnose()["role"]
    assert finding.verdict == "failed"
    assert "flows_superseded" in finding.found
    [(owner,)] = query_rows(database, "SELECT current_user")
    assert f"role {owner} owns the schema" in finding.found
    grant = f'GRANT "{owner}" TO "{guest}"'
    assert grant in str(finding.remedy)
    assert grant in diagnose()["migrations"].found
    # The remedy works.
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(grant.encode())
    assert {diagnose()[check].verdict for check in ("role", "migrations")} == {"ok"}


def test_a_read_only_role_fails(guest: str, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(sql.Identifier(guest))
        )
    assert "default_transaction_read_only is on" in diagnose()["role"].found


def test_a_server_that_is_too_old_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse_access, "OLDEST_MAJOR", 99)
    finding = diagnose()["Postgres version"]
    assert (finding.verdict, finding.remedy) == ("failed", "use Postgres 99 or newer")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_without_utf8_fails_and_every_command_refuses_it(
    encoding: str, database: str, setting: Set, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"narrow_{secrets.token_hex(6)}"
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' {}"
    with psycopg.connect(database, autocommit=True) as connection:
        provider = sql.SQL("LOCALE_PROVIDER libc" if connection.info.server_version >= 150_000 else "")
        connection.execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(encoding), provider))
        try:
            setting(KLAVIYO_DATABASE_URL=urlsplit(database)._replace(path=f"/{name}").geturl())
            finding = diagnose()["database"]
            assert finding.verdict == "failed"
            assert f"has the encoding {encoding}" in finding.found
            for command in (["migrate"], ["sync", "flows"]):
                with pytest.raises(SystemExit) as ended:
                    main(command)
                assert ended.value.code == 1
                [line] = capsys.readouterr().err.splitlines()
                assert f"has the encoding {encoding}" in line
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
