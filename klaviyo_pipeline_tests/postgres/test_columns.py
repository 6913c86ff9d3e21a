"""A column that a migration adds has in every state what a sync would have read; half of one is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from klaviyo_pipeline.klaviyo.records import ID, RAW, Column, Shape, read_record
from klaviyo_pipeline.postgres.engine import NotMigrated
from klaviyo_pipeline.postgres.tables import reflect
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


def test_a_column_has_in_every_state_what_a_sync_reads_from_the_object(connection: psycopg.Connection[Any]) -> None:
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


FILLED = [
    "id",
    "name",
    "status",
    "archived",
    "trigger_type",
    "created_at",
    "updated_at",
    "deleted_at",
    "raw",
    "observed_at",
]


@pytest.mark.parametrize(
    ("statement", "filled", "message"),
    [
        ("SELECT 1", [*FILLED, "new"], '"flows" lacks the column new; run'),
        ("ALTER TABLE flows ADD new text", FILLED, '"flows" has the column new, which no declared column fills'),
        ("ALTER TABLE flows ADD new text", [*FILLED, "new"], '"flows_superseded" lacks the column new; run'),
        ("ALTER TABLE flows_superseded ADD new text", FILLED, '"flows_superseded" has the column new'),
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


def test_a_column_that_the_database_computes_needs_no_declaration(
    store: Store, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("ALTER TABLE flows ADD is_live boolean GENERATED ALWAYS AS (status = 'live') STORED")
    with store.engine.connect() as writer:
        assert "is_live" not in reflect(writer, SLUG, "flows", FILLED).written
