"""The columns that the UI shows are those that Postgres has."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from klaviyo_pipeline.postgres.declarations import declared_tables
from klaviyo_pipeline.postgres.migrations import migrate
from klaviyo_pipeline.settings import SQL_DIR

IN_THE_CATALOG = r"""
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
       a.attgenerated <> '', coalesce(col_description(c.oid, a.attnum), ''), coalesce(obj_description(c.oid), '')
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'shop'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'schema_migrations'
    AND c.relname NOT LIKE '%\_superseded'
ORDER BY c.relname, a.attnum
"""


def test_every_column_is_read_as_postgres_has_it(database: str) -> None:
    migrate(database, "shop", SQL_DIR)
    with psycopg.connect(database) as connection:
        held = [
            (table, name, _short(type), nullable, generated, comment, about)
            for table, name, type, nullable, generated, comment, about in connection.execute(IN_THE_CATALOG)
        ]
    read = [
        (name, column.name, column.type, column.nullable, column.formula is not None, column.comment, table.comment)
        for name, table in sorted(declared_tables(SQL_DIR).items())
        for column in table.columns.values()
    ]
    assert read == held


def _short(type: str) -> str:
    return type.replace("timestamp with time zone", "timestamptz")


def test_columns_that_a_later_file_adds_stand_last(tmp_path: Path) -> None:
    (tmp_path / "001_first.sql").write_text("CREATE TABLE one (\n    id  text PRIMARY KEY\n);\n")
    (tmp_path / "002_more.sql").write_text(
        "ALTER TABLE one ADD COLUMN a numeric, ADD COLUMN b jsonb NOT NULL;\nCOMMENT ON COLUMN one.b IS 'It''s b.';\n"
    )
    columns = declared_tables(tmp_path)["one"].columns
    assert list(columns) == ["id", "a", "b"]
    assert (columns["a"].nullable, columns["b"].nullable, columns["b"].comment) == (True, False, "It's b.")


@pytest.mark.parametrize(
    ("column", "sources"),
    [("open_rate", {"opens_unique", "delivered"}), ("average_order_value", {"conversion_value", "conversions"})],
)
def test_a_generated_column_names_its_sources(column: str, sources: set[str]) -> None:
    columns = declared_tables(SQL_DIR)["flow_metrics"].columns
    assert columns[column].sources & columns.keys() == sources
