"""A transaction is retried after a transient error of the database, and only then."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.postgres import engine as engines
from klaviyo_pipeline.postgres.census_runs import CensusRecord
from klaviyo_pipeline.postgres.engine import create_engine, in_transaction, shared_engine
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.server import sessions
from klaviyo_pipeline_tests.postgres.store import NOON, SLUG, Store


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "RETRY_PAUSES", (0.0, 0.0, 0.0))


def test_a_connection_that_is_lost_during_a_copy_is_retried(database: str) -> None:
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (number integer)")
    attempts = []

    def work(connection: sa.Connection) -> int:
        attempts.append(connection)
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor() as cursor, cursor.copy("COPY numbers FROM STDIN") as copy:
            copy.write_row([1])
            if len(attempts) == 1:
                with psycopg.connect(database, autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 5000)", [driver.info.backend_pid])
        return connection.exec_driver_sql("SELECT count(*)::int FROM numbers").scalar_one()

    assert in_transaction(engine, work) == 1
    assert len(attempts) == 2
    engine.dispose()


def test_an_error_of_a_copy_is_raised_at_once(database: str) -> None:
    engine = create_engine(database)
    attempts = []

    def work(connection: sa.Connection) -> None:
        attempts.append(connection)
        connection.exec_driver_sql("CREATE TABLE numbers (number integer)")
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor() as cursor, cursor.copy("COPY numbers FROM STDIN") as copy:
            copy.write("no number\n")

    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        in_transaction(engine, work)
    assert len(attempts) == 1
    engine.dispose()


def test_every_write_is_a_transaction_that_is_retried() -> None:
    modules = (PROJECT_ROOT / "klaviyo_pipeline").rglob("*.py")
    direct = [one.name for one in modules if "engine.begin()" in one.read_text() and "sandbox" not in one.parts]
    assert direct == []


def test_a_census_is_recorded_once_although_its_commit_was_not_confirmed(store: Store) -> None:
    record = CensusRecord(SLUG, "flows")
    for _ in range(2):
        with store.engine.begin() as connection:
            record.complete(
                connection, began=NOON, listed=7, row_counts=RowCounts(), deleted=0, requests=1, run_id="run"
            )
    assert store.rows("SELECT rows_listed, status FROM census_runs") == [(7, "complete")]


def test_users_of_a_url_at_the_same_time_share_its_sessions(database: str) -> None:
    with shared_engine(database) as outer:
        with shared_engine(database) as inner:
            assert inner is outer
            with inner.connect() as connection:
                first = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        with outer.connect() as connection:
            assert connection.scalar(sa.text("SELECT pg_backend_pid()")) == first


def test_the_last_user_of_a_url_closes_its_sessions(database: str) -> None:
    with shared_engine(database) as engine, engine.connect() as connection:
        before = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    assert engine.pool.status().startswith("Pool size: 3  Connections in pool: 0 ")
    with shared_engine(database) as another, another.connect() as connection:
        assert another is not engine
        assert connection.scalar(sa.text("SELECT pg_backend_pid()")) != before


def test_a_session_is_asked_whether_it_still_exists_only_if_that_is_in_doubt(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(database)
    pings: list[object] = []
    ping = engine.dialect.do_ping
    monkeypatch.setattr(engine.dialect, "do_ping", lambda driver: pings.append(driver) or ping(driver))

    def process() -> int:
        with engine.connect() as connection:
            return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()

    first = process()
    assert process() == first
    assert pings == []
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    second = process()
    assert second != first
    monkeypatch.setattr(sessions, "IDLE_SECONDS", 0.0)
    assert process() == second
    assert len(pings) == 2
    engine.dispose()
