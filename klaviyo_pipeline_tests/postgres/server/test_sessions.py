"""What is stored depends on no setting of the server, the database, the role or the environment."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.klaviyo.rates import GET_FLOWS
from klaviyo_pipeline.postgres.engine import create_engine, in_statements, shared_engine
from klaviyo_pipeline.postgres.schema.cross_account_views import refresh_cross_account_views
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.schema.tables import reflect
from klaviyo_pipeline.postgres.server.sessions import SETTINGS, UnfitDatabase, connect
from klaviyo_pipeline.postgres.shared_pacing import PostgresPacer
from klaviyo_pipeline.postgres.write.merge import merge
from klaviyo_pipeline_tests.pooler import MISSING, PROGRAM, transaction_pooler
from klaviyo_pipeline_tests.postgres.store import flow, frame, minute
from klaviyo_pipeline_tests.support import throw_away_database

SLUG = "shop"
NAME = "Café ✓ 東京 \\ 'quoted'"

ODD = {
    "client_encoding": "WIN1252",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "standard_conforming_strings": "off",
    "search_path": "pg_temp",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "array_nulls": "off",
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
}
ENVIRONMENT = {"PGCLIENTENCODING": "WIN1252", "PGTZ": "Asia/Kathmandu", "PGDATESTYLE": "SQL, DMY"}

PLAIN: dict[str, LiteralString] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "search_path": "shop, public",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
}

CATALOG = """
WITH ours AS (
    SELECT oid FROM pg_class WHERE relnamespace = 'shop'::regnamespace
    UNION
    SELECT oid FROM pg_proc WHERE pronamespace = 'shop'::regnamespace
)
SELECT pg_describe_object(classoid, objoid, objsubid), description FROM pg_description JOIN ours ON oid = objoid
UNION ALL
SELECT relname, pg_get_viewdef(oid) FROM pg_class WHERE relkind = 'v' AND relnamespace = 'shop'::regnamespace
UNION ALL
SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'shop'::regnamespace
UNION ALL
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'shop'::regnamespace
ORDER BY 1, 2
"""


def upset(database: str, settings: dict[str, str] = ODD) -> None:
    """Give every new session of this database the settings, as an administrator might."""
    with psycopg.connect(database, autocommit=True) as connection:
        for name, value in settings.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} TO {}").format(
                    sql.Identifier(connection.info.dbname), sql.Identifier(name), sql.Literal(value)
                )
            )


@pytest.fixture
def odd(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database whose sessions are set to everything that is unusual, and so is the environment."""
    upset(database)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return database


def plain(url: str, query: str) -> list[tuple[Any, ...]]:
    """What a client reads that sets everything itself."""
    with psycopg.connect(url, client_encoding="UTF8", autocommit=True) as connection:
        for name, value in PLAIN.items():
            connection.execute(sql.SQL("SET {} TO {}").format(sql.Identifier(name), sql.SQL(value)))
        return connection.execute(query.encode()).fetchall()


def write(engine: sa.Engine) -> None:
    """Two observations of a flow, through every way of writing: copied, staged, superseded."""
    for time, name in enumerate((NAME, f"{NAME}!")):
        rows = frame([flow("F1", minute(60 * time), name=name), flow(f"N{time}", minute(60 * time), name=NAME)])
        with engine.begin() as connection:
            merge(connection, reflect(connection, SLUG, "flows"), rows)


def test_what_is_written_is_the_same_whatever_the_sessions_are_set_to(odd: str) -> None:
    migrate(odd, SLUG, SQL_DIR)
    with shared_engine(odd) as engine:
        write(engine)
        with engine.connect() as connection:
            target = reflect(connection, SLUG, "flows")
            [read] = connection.execute(sa.select(target.table.c.name).where(target.table.c.id == "N0")).scalars()
    assert read == NAME
    assert plain(odd, "SELECT id, name, raw->>'id', raw->>'name' FROM flows ORDER BY id") == [
        ("F1", f"{NAME}!", "F1", f"{NAME}!"),
        ("N0", NAME, "N0", NAME),
        ("N1", NAME, "N1", NAME),
    ]
    assert plain(odd, "SELECT name, valid_to - valid_from = interval '1 hour' FROM flows_superseded") == [(NAME, True)]


def test_migrations_leave_the_same_schema_whatever_the_sessions_are_set_to(odd: str, postgres_server: str) -> None:
    with throw_away_database(postgres_server) as usual:
        for url in (usual, odd):
            migrate(url, SLUG, SQL_DIR)
            migrate(url, "another", SQL_DIR)
            assert refresh_cross_account_views(url) == ["another", SLUG]
        assert plain(odd, CATALOG) == plain(usual, CATALOG) != []


def test_a_session_states_every_setting_that_values_depend_on(odd: str) -> None:
    engine = create_engine(odd)
    with engine.connect() as pooled, connect(odd) as single:
        for name, value in (SETTINGS | {"transaction_isolation": "read committed"}).items():
            assert pooled.exec_driver_sql(f"SHOW {name}").scalar_one() == value
            with single.transaction():
                assert single.execute(f"SHOW {name}".encode()).fetchone() == (value,)
    engine.dispose()


def test_a_single_statement_is_no_more_isolated_than_a_transaction_of_ours(odd: str) -> None:
    engine = create_engine(odd)
    found = in_statements(engine, lambda connection: connection.exec_driver_sql("SHOW transaction_isolation").scalar())
    assert found == "read committed"
    engine.dispose()


def test_requests_are_paced_side_by_side_where_transactions_are_serializable(odd: str) -> None:
    migrate(odd, SLUG, SQL_DIR)
    engine = create_engine(odd)
    slots, errors = [], []

    def reserve() -> None:
        pacer = PostgresPacer(engine, SLUG)
        try:
            slots.extend(pacer.reserve(GET_FLOWS).at for _ in range(10))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=reserve) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    assert errors == []
    assert len(set(slots)) == 30


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_through_a_pooler_each_transaction_has_the_settings_and_no_other_client_gets_them(
    odd: str, server_folder: Path
) -> None:
    migrate(odd, SLUG, SQL_DIR)
    with (
        transaction_pooler(odd, server_folder, pool_size=1) as pooled,
        psycopg.connect(pooled, autocommit=True) as stranger,
        shared_engine(pooled) as engine,
    ):
        zone = stranger.execute("SHOW TimeZone").fetchone()
        write(engine)
        assert stranger.execute("SHOW TimeZone").fetchone() == zone == (ENVIRONMENT["PGTZ"],)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW TimeZone").scalar() == "UTC"
            assert connection.exec_driver_sql("SHOW client_encoding").scalar() == "UTF8"
    assert plain(odd, "SELECT name FROM flows WHERE id = 'N1'") == [(NAME,)]


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
def narrow(request: pytest.FixtureRequest, postgres_server: str) -> Iterator[str]:
    """A database that cannot hold UTF-8."""
    name = f"test_{uuid.uuid4().hex}"
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE_PROVIDER libc LOCALE 'C'"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        if connection.info.server_version < 150_000:
            create = create.replace(" LOCALE_PROVIDER libc", "")
        connection.execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(request.param)))
        yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_a_database_that_cannot_contain_utf8_is_refused_before_anything_is_made(narrow: str) -> None:
    with pytest.raises(UnfitDatabase, match=r"has the encoding (SQL_ASCII|LATIN1).*ENCODING 'UTF8'"):
        migrate(narrow, SLUG, SQL_DIR)
    with shared_engine(narrow) as engine, pytest.raises(UnfitDatabase), engine.connect():
        pass
    assert plain(narrow, "SELECT 1 FROM pg_namespace WHERE nspname = 'shop'") == []


def test_a_session_that_ended_while_it_was_idle_is_opened_anew(database: str) -> None:
    migrate(database, SLUG, SQL_DIR)
    with shared_engine(database) as engine:
        pacer = PostgresPacer(engine, SLUG)
        pacer.reserve(GET_FLOWS)
        assert end_sessions(database) > 0
        pacer.reserve(GET_FLOWS)
        assert end_sessions(database) > 0
        with engine.begin() as connection:
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {SLUG}.flows").scalar() == 0


def end_sessions(database: str) -> int:
    """End every other session of the database, as `idle_session_timeout` does, and wait until they are gone."""
    with psycopg.connect(database, autocommit=True) as connection:
        query = """
            SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        """
        [ended] = connection.execute(query).fetchall()[0]
        return int(ended)
