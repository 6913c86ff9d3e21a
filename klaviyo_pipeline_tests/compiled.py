"""What the engines of all tests of a process share: the tables that were read, and the statements that were compiled.

Each test has its own database and its own engine. Without this, each would read the same catalog and compile the same
statements, which takes longer than most tests. A test that changes a table or a setting of its session reads anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from klaviyo_pipeline.postgres.schema import tables

STATEMENTS = 2_000

FINGERPRINT = sa.text("""
    SELECT sha256(convert_to(string_agg(
        concat_ws(' ', c.relname, a::text, d::text, i::text), ',' ORDER BY c.oid, a.attnum), 'UTF8')),
        (SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings
         WHERE source IN ('database', 'user', 'database user', 'client', 'session'))
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
    LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
    WHERE n.nspname = :schema AND c.relkind IN ('r', 'p', 'f')
""")
"""Everything that the tables of a schema are read from: columns, defaults, primary keys, and the session's settings."""


class Psycopg(PGDialect_psycopg):
    """The warehouse's dialect, equal to that of each other engine, because they are all made with the same options.

    SQLAlchemy finds a compiled statement by its dialect, among others.
    """

    supports_statement_cache = True
    statements: sa.util.LRUCache[Any, Any] = sa.util.LRUCache(STATEMENTS)

    def __hash__(self) -> int:
        return hash(Psycopg)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Psycopg)

    @classmethod
    def engine_created(cls, engine: sa.Engine) -> None:
        engine.update_execution_options(compiled_cache=cls.statements)


@contextmanager
def compiled_once() -> Iterator[None]:
    """While the block runs, a table is read again only if it differs, and is otherwise the same object."""
    read = tables._read
    known: dict[tuple[Any, ...], dict[str, Any]] = {}

    def shared(connection: sa.Connection, schema: str) -> dict[str, Any]:
        place = (schema, *connection.execute(FINGERPRINT, {"schema": schema}).one())
        if place not in known:
            known[place] = read(connection, schema)
        return known[place]

    registry.register("postgresql.psycopg", __name__, Psycopg.__name__)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_read", shared)
        yield
