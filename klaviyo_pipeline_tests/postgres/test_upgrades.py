"""Schemas that hold rows already come through the files that change how these are kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from klaviyo_pipeline.postgres.engine import NotMigrated, create_engine
from klaviyo_pipeline.postgres.migrations import MigrationError, migrate
from klaviyo_pipeline.postgres.tables import reflect
from klaviyo_pipeline.settings import SQL_DIR

SCHEMA = "order"
"""A word that SQL reserves: whatever names the schema unquoted fails."""

ROWS = """
INSERT INTO flows (id, name, raw, observed_at) VALUES
    ('a', 'Second', '{"x": 2}', '2025-03-02'), ('b', NULL, '{}', '2025-03-01');
INSERT INTO flows_history (id, name, raw, valid_from, valid_to) VALUES
    ('a', 'First', '{"x": 1}', '2025-03-01', '2025-03-02'),
    ('a', 'Second', '{"x": 2}', '2025-03-02', NULL),
    ('b', NULL, '{}', '2025-03-01', NULL);
INSERT INTO flow_report (flow_id, flow_message_id, send_channel, date, delivered, other_statistics, observed_at)
    VALUES ('a', 'm', 'email', '2025-03-01', 11, '{"new": 1}', '2025-03-03');
INSERT INTO flow_report_history
    (flow_id, flow_message_id, send_channel, date, delivered, other_statistics, valid_from, valid_to)
    VALUES ('a', 'm', 'email', '2025-03-01', 10, NULL, '2025-03-02', '2025-03-03'),
        ('a', 'm', 'email', '2025-03-01', 11, '{"new": 1}', '2025-03-03', NULL),
        ('a', 'gone', 'email', '2025-03-01', 5, NULL, '2025-03-02', '2025-03-03');
"""
SEEN = {
    "flows": "SELECT to_jsonb(h) FROM flows_history AS h ORDER BY id, valid_from",
    "report": "SELECT to_jsonb(h) FROM flow_report_history AS h ORDER BY flow_message_id, valid_from",
    "restated": "SELECT to_jsonb(r) FROM flow_report_restatements AS r ORDER BY statistic",
    "as of": "SELECT to_jsonb(f) FROM flows_as_of('2025-03-01 12:00') AS f ORDER BY id",
}


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The files up to the one that keeps the present state once."""
    for path in SQL_DIR.glob("00[1-7]_*.sql"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture
def connection(database: str, before: Path) -> Iterator[psycopg.Connection[Any]]:
    migrate(database, SCHEMA, before)
    with psycopg.connect(database, options=f"-csearch_path={SCHEMA}", autocommit=True) as connection:
        connection.execute(ROWS)
        yield connection


def seen(connection: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    return {name: connection.execute(query).fetchall() for name, query in SEEN.items()}


def test_history_reads_as_before_once_the_present_is_kept_once(
    connection: psycopg.Connection[Any], database: str
) -> None:
    shown = seen(connection)
    assert [len(rows) for rows in shown.values()] == [3, 3, 1, 2]
    migrate(database, SCHEMA, SQL_DIR)
    assert seen(connection) == shown
    assert connection.execute("SELECT id, name FROM flows_superseded").fetchall() == [("a", "First")]
    assert connection.execute("SELECT delivered FROM flow_report_superseded ORDER BY 1").fetchall() == [(5,), (10,)]


def test_a_view_of_somebody_elses_on_a_history_table_stops_the_file_and_leaves_all_as_it_was(
    connection: psycopg.Connection[Any], database: str
) -> None:
    connection.execute("CREATE VIEW mine AS SELECT id FROM flows_history")
    shown = seen(connection)
    with pytest.raises(MigrationError, match=r"008_one_copy_of_the_present\.sql.*other objects depend on it"):
        migrate(database, SCHEMA, SQL_DIR)
    assert seen(connection) == shown
    connection.execute("DROP VIEW mine")
    migrate(database, SCHEMA, SQL_DIR)
    assert seen(connection) == shown


def test_a_history_that_is_a_table_still_is_not_written_past(
    connection: psycopg.Connection[Any], database: str
) -> None:
    engine = create_engine(database)
    with engine.connect() as writer:
        with pytest.raises(NotMigrated, match=r'"flows_superseded" now; run `klaviyo-pipeline migrate` first'):
            reflect(writer, SCHEMA, "flows")
        migrate(database, SCHEMA, SQL_DIR)
        assert reflect(writer, SCHEMA, "flows").superseded is not None
    engine.dispose()
