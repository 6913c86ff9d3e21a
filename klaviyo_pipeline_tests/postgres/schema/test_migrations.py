"""The migration runner, against a real Postgres."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.postgres.schema.migrations import MigrationError, migrate, pending

AGE = "-- 100 % sure\nALTER TABLE people ADD age int;\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two valid files; the second needs the first."""
    (tmp_path / "001_people.sql").write_text("CREATE TABLE people (id int);\nINSERT INTO people VALUES (7);\n")
    (tmp_path / "002_age.sql").write_text(AGE)
    return tmp_path


def ask(dsn: str, query: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def tables(dsn: str) -> set[tuple[Any, ...]]:
    return set(ask(dsn, "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^pg_|^information'"))


def test_files_are_applied_in_order_and_only_once(database: str, folder: Path) -> None:
    assert migrate(database, "shop", folder) == ["001_people.sql", "002_age.sql"]
    assert migrate(database, "shop", folder) == []
    assert ask(database, "SELECT id, age FROM shop.people") == [(7, None)]


def test_applied_files_are_recorded_with_a_digest(database: str, folder: Path) -> None:
    migrate(database, "shop", folder)
    rows = ask(database, "SELECT version, name, length(sha256) FROM shop.schema_migrations ORDER BY version")
    assert rows == [(1, "001_people.sql", 64), (2, "002_age.sql", 64)]


def test_pending_names_the_remaining_files_and_changes_nothing(database: str, folder: Path) -> None:
    assert pending(database, "shop", folder) == ["001_people.sql", "002_age.sql"]
    assert tables(database) == set()
    migrate(database, "shop", folder)
    (folder / "003_more.sql").write_text("CREATE TABLE more ();")
    assert pending(database, "shop", folder) == ["003_more.sql"]


def test_the_schemas_of_two_accounts_are_migrated_separately(database: str, folder: Path) -> None:
    migrate(database, "one", folder)
    assert pending(database, "two", folder) == ["001_people.sql", "002_age.sql"]
    migrate(database, "two", folder)
    found = {(schema, table) for schema, table in tables(database) if table == "people"}
    assert found == {("one", "people"), ("two", "people")}


def test_tables_of_the_public_schema_are_not_visible(database: str, folder: Path) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE public.people (id text)")
    migrate(database, "shop", folder)
    assert ("shop", "people") in tables(database)


def test_processes_that_migrate_at_once_take_turns(database: str, folder: Path) -> None:
    start = threading.Barrier(4)

    def one() -> list[str]:
        start.wait()
        return migrate(database, "shop", folder)

    with ThreadPoolExecutor(4) as pool:
        done = [future.result() for future in [pool.submit(one) for _ in range(4)]]
    assert sorted(name for names in done for name in names) == ["001_people.sql", "002_age.sql"]


def test_a_failing_file_is_rolled_back_and_reported_with_its_line(database: str, folder: Path) -> None:
    (folder / "003_bad.sql").write_text("CREATE TABLE half ();\n\nSELECT * FROM nowhere;\n")
    with pytest.raises(MigrationError, match=r'^003_bad\.sql, line 3: relation "nowhere" does not exist'):
        migrate(database, "shop", folder)
    assert ("shop", "half") not in tables(database)
    assert pending(database, "shop", folder) == ["003_bad.sql"]


def test_a_repaired_file_is_applied_after_its_failure(database: str, folder: Path) -> None:
    (folder / "003_bad.sql").write_text("CREATE TABLE people ();")
    with pytest.raises(MigrationError, match="already exists"):
        migrate(database, "shop", folder)
    (folder / "003_bad.sql").write_text("CREATE TABLE other ();")
    assert migrate(database, "shop", folder) == ["003_bad.sql"]


def test_an_edited_file_is_refused_until_it_is_restored(database: str, folder: Path) -> None:
    migrate(database, "shop", folder)
    file = folder / "001_people.sql"
    released = file.read_text()
    file.write_text("CREATE TABLE people (id bigint);")
    for call in (migrate, pending):
        with pytest.raises(MigrationError, match=r"^001_people\.sql: the file was edited .*restore it"):
            call(database, "shop", folder)
    file.write_text(released)
    assert migrate(database, "shop", folder) == []


def test_a_schema_that_another_version_created_is_refused_before_anything_runs(
    database: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    earlier = tmp_path_factory.mktemp("earlier")
    (earlier / "001_entities.sql").write_text("CREATE TABLE flows (id text);")
    (earlier / "002_flow_report.sql").write_text("CREATE TABLE flow_report (id text);")
    (earlier / "003_reports.sql").write_text("CREATE TABLE form_report (id text);")
    migrate(database, "shop", earlier)
    before = tables(database)
    for call in (migrate, pending):
        with pytest.raises(
            MigrationError, match=r"^001_entities\.sql: schema shop .* another version.*KLAVIYO_ACCOUNT"
        ):
            call(database, "shop", folder)
    assert tables(database) == before
    # Both ways that the message names: another schema, or this one anew.
    assert migrate(database, "another", folder) == ["001_people.sql", "002_age.sql"]
    with psycopg.connect(database) as connection:
        connection.execute('DROP SCHEMA "shop" CASCADE')
    assert migrate(database, "shop", folder) == ["001_people.sql", "002_age.sql"]


def test_other_line_ends_do_not_count_as_an_edit(database: str, folder: Path) -> None:
    migrate(database, "shop", folder)
    file = folder / "001_people.sql"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert migrate(database, "shop", folder) == []


def test_a_missing_file_is_refused_until_it_is_restored(database: str, folder: Path) -> None:
    migrate(database, "shop", folder)
    (folder / "002_age.sql").unlink()
    with pytest.raises(MigrationError, match=r"^002_age\.sql: this file was applied to schema shop.* restore it"):
        migrate(database, "shop", folder)
    (folder / "002_age.sql").write_text(AGE)
    assert migrate(database, "shop", folder) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("004_late.sql", "number 003 is missing"),
        ("002_again.sql", "number 002 is taken; give it the number 003"),
        ("next.sql", "must be NNN_name.sql"),
    ],
)
def test_a_misnumbered_file_is_refused_before_anything_runs(
    database: str, folder: Path, name: str, message: str
) -> None:
    (folder / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match=message):
        migrate(database, "shop", folder)
    assert tables(database) == set()


def test_an_empty_folder_is_refused(database: str, tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="contains no migrations"):
        migrate(database, "shop", tmp_path)


@pytest.mark.parametrize("slug", ["", "Shop", "1shop", 'shop"; DROP SCHEMA public; --', "a" * 49, "shop\n"])
def test_a_slug_that_cannot_name_a_schema_is_refused(database: str, folder: Path, slug: str) -> None:
    with pytest.raises(MigrationError, match="cannot be the name of a schema"):
        migrate(database, slug, folder)


def test_a_role_that_may_not_create_schemas_is_refused_with_the_grant(database: str, folder: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE ROLE migrations_reader LOGIN PASSWORD 'reader'")
        try:
            guest = psycopg.conninfo.make_conninfo(database, user="migrations_reader", password="reader")
            with pytest.raises(MigrationError, match=r"migrations_reader may not create schema shop.*GRANT"):
                migrate(guest, "shop", folder)
        finally:
            connection.execute("DROP ROLE migrations_reader")


def test_a_role_that_owns_its_schema_needs_no_right_on_the_database(database: str, folder: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE ROLE migrations_owner LOGIN PASSWORD 'owner'")
        try:
            connection.execute("GRANT migrations_owner TO CURRENT_USER")
            connection.execute("CREATE SCHEMA shop AUTHORIZATION migrations_owner")
            guest = psycopg.conninfo.make_conninfo(database, user="migrations_owner", password="owner")
            assert len(migrate(guest, "shop", folder)) == 2
        finally:
            connection.execute("DROP OWNED BY migrations_owner")
            connection.execute("DROP ROLE migrations_owner")


def test_the_projects_own_files_apply_to_any_slug(database: str) -> None:
    applied = migrate(database, "second_account", SQL_DIR)
    assert applied == sorted(path.name for path in SQL_DIR.glob("*.sql"))
    assert {schema for schema, _ in tables(database)} == {"second_account"}
