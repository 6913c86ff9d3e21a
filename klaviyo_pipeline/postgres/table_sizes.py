"""How much room tables take on disk: the rows, their indexes, and what is stored out of line."""

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
    """Bytes on disk of each table of a schema (None: the first on the search path), or of those of these names."""
    found = connection.execute(_SIZES, {"schema": schema})
    return {name: size for name, size in found if names is None or name in names}
