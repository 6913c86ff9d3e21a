"""The declared columns, which the UI shows, are the columns in Postgres."""

from __future__ import annotations

import psycopg
import pytest

from klaviyo_pipeline.catalog import _LISTINGS
from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.postgres.schema.declarations import FILE, declared_tables
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline_tests.docs import reference


def test_the_declared_tables_are_the_catalog(database: str) -> None:
    migrate(database, "shop", SQL_DIR)
    with psycopg.connect(database) as connection:
        assert FILE.read_text(encoding="utf-8") == reference.declared_tables(connection, "shop"), "run: make docs"


def test_every_column_of_an_entity_is_declared_with_its_type_and_comment() -> None:
    types = {
        "text": "text",
        "bool": "boolean",
        "time": "timestamptz",
        "json": "jsonb",
        "texts": "text[]",
        "int": "integer",
    }
    for listing in _LISTINGS:
        columns = declared_tables()[listing.entity].columns
        assert {column.name: types[column.kind] for column in listing.columns}.items() <= {
            name: column.type for name, column in columns.items()
        }.items()
        assert all(column.comment for column in columns.values())


def test_every_comment_is_complete(migrated: str) -> None:
    """Postgres cuts a text that passes through the type `name` after 63 bytes."""
    with psycopg.connect(migrated) as connection:
        comments = connection.execute(
            "SELECT attrelid::regclass::text, attname, col_description(attrelid, attnum) FROM pg_attribute "
            "JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'shop'::regnamespace AND attnum > 0"
        ).fetchall()
    assert [row for row in comments if row[2] is not None and not row[2].endswith((".", ")"))] == []


@pytest.mark.parametrize(
    ("column", "sources"),
    [("open_rate", {"opens_unique", "delivered"}), ("average_order_value", {"conversion_value", "conversions"})],
)
def test_a_generated_column_names_its_sources(column: str, sources: set[str]) -> None:
    assert set(declared_tables()["flow_metrics"].columns[column].sources) == sources
