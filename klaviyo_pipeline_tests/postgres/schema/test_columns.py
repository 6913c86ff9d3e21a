"""A column that a migration adds has the value that a sync would read, in every state; half a column is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.klaviyo.records import ID, RAW, Column, Shape, read_record
from klaviyo_pipeline.postgres.schema import migrations
from klaviyo_pipeline.postgres.schema.declarations import declared_tables
from klaviyo_pipeline.postgres.schema.migrations import MigrationError, migrate
from klaviyo_pipeline.postgres.schema.tables import NotMigrated, reflect
from klaviyo_pipeline_tests.postgres.store import SLUG, Store

VALUES: list[Any] = [
    None, "", "text", "nul \\u0000", 7, True, False, [], ["a"], {}, {"inner": "x"}, "true",
    "2025-03-01T09:00:00+00:00", "2025-03-01T09:00:00.123456Z", "2025-03-01 09:00:00", " 2025-03-01T11:00:00+02:00 ",
    "2025-03-01T09:00:00.1234569+00:00", "2025-03-01", "2025-02-30T09:00:00Z", "yesterday", "infinity", "2025",
]  # fmt: skip
KINDS = {"text": "text", "bool": "boolean", "time": "timestamptz", "json": "jsonb"}
COLUMNS = (Column("id", ID, "text"), *(Column(kind, "some.value", kind) for kind in KINDS), Column("raw", RAW, "json"))  # type: ignore[arg-type]


@pytest.fixture
def connection(store: Store) -> Iterator[psycopg.Connection[Any]]:
    options = f"-csearch_path={psycopg.sql.Identifier(SLUG).as_string(None)}"
    with psycopg.connect(store.dsn, autocommit=True, options=options) as connection:
        yield connection


def add(connection: psycopg.Connection[Any], table: str, column: str, type: str, path: str) -> None:
    connection.execute("CALL add_column(%s, %s, %s, %s, 'What it says.')", [table, column, type, path])


def test_a_new_column_has_the_value_of_a_sync_in_every_state(connection: psycopg.Connection[Any]) -> None:
    resources = [
        {"id": str(number), "type": "flow", "attributes": {"some": {"value": value}}}
        for number, value in enumerate(VALUES)
    ]
    resources += [
        {"id": "absent", "type": "flow", "attributes": {"some": {}}},
        {"id": "no object", "type": "flow", "attributes": {"some": None}},
        {"id": "a text", "type": "flow", "attributes": {"some": "value"}},
    ]
    expected = []
    for resource in resources:
        values = read_record(resource, Shape("flow", COLUMNS), None).values
        raw = psycopg.types.json.Jsonb(values["raw"])
        at = [values["id"], raw]
        connection.execute("INSERT INTO flows (id, raw, observed_at) VALUES (%s, %s, '2025-03-02')", at)
        connection.execute(
            "INSERT INTO flows_superseded (id, raw, valid_from, valid_to) VALUES (%s, %s, '2025-03-01', '2025-03-02')",
            at,
        )
        expected.append((values["id"], *(values[kind] for kind in KINDS)))
    for kind, type in KINDS.items():
        add(connection, "flows", kind, type, "some.value")
    expected.sort()
    for states in ("flows", "flows_superseded", "flows_as_of('2025-03-01')", "flows_as_of('2025-03-02')"):
        query = f'SELECT id, text, bool, time, json FROM {states} ORDER BY id COLLATE "C"'
        assert connection.execute(query).fetchall() == expected
    comments = """
    SELECT relname, col_description(c.oid, attnum) FROM pg_class AS c JOIN pg_attribute ON attrelid = c.oid
    WHERE relnamespace = current_schema()::regnamespace AND attname = 'bool' ORDER BY 1
    """
    described = [(name, "What it says.") for name in ("flows", "flows_history", "flows_superseded")]
    assert connection.execute(comments).fetchall() == described


def test_a_table_without_history_takes_a_column_too(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        """INSERT INTO tags (id, raw, observed_at) VALUES ('a', '{"attributes": {"color": "red"}}', now())"""
    )
    add(connection, "tags", "color", "text", "color")
    assert connection.execute("SELECT color FROM tags").fetchall() == [("red",)]


@pytest.mark.parametrize(("type", "path"), [("integer", "name"), (None, "name"), ("text", None)])
def test_a_column_that_cannot_be_filled_is_refused(connection: psycopg.Connection[Any], type: Any, path: Any) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="needs a type"):
        add(connection, "flows", "new", type, path)


FILLED = list(declared_tables()["flows"].columns)


@pytest.mark.parametrize(
    ("statement", "filled", "message"),
    [
        ("SELECT 1", [*FILLED, "new"], '"flows" lacks the column new; run'),
        ("SELECT 1", FILLED[1:], '"flows" has the column id, which no declaration fills'),
        ("ALTER TABLE flows ADD new text", [*FILLED, "new"], '"flows_superseded" lacks the column new; run'),
    ],
)
def test_half_a_column_is_refused_with_the_recipe(
    store: Store, connection: psycopg.Connection[Any], statement: str, filled: list[str], message: str
) -> None:
    connection.execute(statement.encode())
    with store.engine.connect() as writer, pytest.raises(NotMigrated) as refused:
        reflect(writer, SLUG, "flows", filled)
    assert message in str(refused.value)
    assert 'see "Add a column" in docs/extend.md' in str(refused.value)


@pytest.mark.parametrize("table", ["flows", "flows_superseded"])
def test_a_column_of_the_user_is_left_alone(store: Store, connection: psycopg.Connection[Any], table: str) -> None:
    connection.execute(f"ALTER TABLE {table} ADD note text DEFAULT 'mine'".encode())
    with store.engine.connect() as writer:
        assert set(reflect(writer, SLUG, "flows", FILLED).written) == set(FILLED)


def test_the_catalog_is_read_once_for_all_tables(store: Store) -> None:
    sent: list[str] = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *reported: sent.append(reported[2]))
    with store.engine.connect() as reader:
        reflect(reader, SLUG, "flows", FILLED)
        first = len(sent)
        metrics = reflect(reader, SLUG, "flow_metrics")
    assert len(sent) == first < 10
    assert metrics.key == ("date", "flow_id") or metrics.key == ("flow_id", "date")
    assert "open_rate" not in metrics.written


@pytest.mark.parametrize("table", ["flows", "flows_superseded"])
def test_a_file_that_adds_half_a_column_is_refused_and_rolled_back(
    store: Store, connection: psycopg.Connection[Any], table: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    connection.execute("ALTER TABLE flows ADD note text")
    file = folder / f"{len(list(folder.glob('*.sql'))) + 1:03}_new.sql"
    file.write_text(f"ALTER TABLE {table} ADD new text;")
    with pytest.raises(MigrationError, match=r'_new\.sql: the file adds new of flows .* "Add a column"'):
        migrate(store.dsn, SLUG, folder)
    assert connection.execute("SELECT FROM pg_attribute WHERE attname = 'new'").fetchall() == []


@pytest.mark.parametrize(
    "statements",
    [
        "CALL add_column('flows', 'new', 'text', 'new', 'New.');",
        "ALTER TABLE flows ADD new text; ALTER TABLE flows_superseded ADD new text;",
        "CALL add_derived_column('campaign_messages', 'new', 'text', 'New.');",
    ],
)
def test_a_file_that_adds_a_column_which_no_declaration_fills_is_refused_and_rolled_back(
    store: Store, connection: psycopg.Connection[Any], statements: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    file = folder / f"{len(list(folder.glob('*.sql'))) + 1:03}_new.sql"
    file.write_text(statements)
    with pytest.raises(MigrationError, match=r'_new\.sql: the file adds new of \w+, which no .* "Add a column"'):
        migrate(store.dsn, SLUG, folder)
    assert connection.execute("SELECT FROM pg_attribute WHERE attname = 'new'").fetchall() == []


def test_a_file_that_adds_a_declared_column_is_applied(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    file = folder / f"{len(list(folder.glob('*.sql'))) + 1:03}_new.sql"
    file.write_text("CALL add_column('flows', 'new', 'text', 'new', 'New.');")
    monkeypatch.setattr(migrations, "object_columns", lambda: {"flows": {"new"}})
    assert migrate(store.dsn, SLUG, folder) == [file.name]


def test_a_table_is_made_once_for_each_engine_so_that_its_statements_are_compiled_once(store: Store) -> None:
    with store.engine.connect() as connection:
        made, again = (reflect(connection, SLUG, "flows") for _ in range(2))
    assert made.table is again.table
    assert made.superseded is again.superseded is not None
