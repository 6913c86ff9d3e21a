"""The size of tables on disk: rows, indexes and out-of-line values (TOAST)."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

_SIZES = sa.text("""
SELECT c.relname, pg_total_relation_size(c.oid)
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = coalesce(:schema, current_schema()) AND c.relkind = 'r'
ORDER BY c.relname
""")


def table_bytes(connection: sa.Connection, schema: str | None, names: Collection[str] | None = None) -> dict[str, int]:
    """The bytes on disk of each table of a schema, or only of the tables in `names`.

    If `schema` is None, it is the first schema on the search path.
    """
    sizes = connection.execute(_SIZES, {"schema": schema})
    return {name: size for name, size in sizes if names is None or name in names}
