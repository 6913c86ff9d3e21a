"""Who owns a schema and its tables, and what to do if the connected role lacks rights on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

FOREIGN_OWNERS: LiteralString = """
SELECT DISTINCT pg_get_userbyid(owner)
FROM (
    SELECT nspowner AS owner FROM pg_namespace WHERE nspname = %(schema)s
    UNION
    SELECT relowner FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)
) AS owners
WHERE NOT pg_has_role(owner, 'USAGE')
ORDER BY 1
"""
"""The owners of the schema and its relations, without those whose rights the connected role has."""


def remedy(owners: Sequence[str], role: str) -> str:
    """The part of a message that says how the role gets the rights of these owners."""
    grants = "; ".join(f"GRANT {quoted(owner)} TO {quoted(role)}" for owner in owners)
    return f"connect as {owners[0]}, or have an administrator run {grants}"


def schema_remedy(schema: str, role: str, database: str, *, exists: bool = False) -> str:
    """The part of a message that says how the role gets the schema, or the rights on it if it `exists`."""
    if exists:
        everything = f"SCHEMA {quoted(schema)} TO {quoted(role)}"
        return f"have an administrator run GRANT ALL ON {everything}; GRANT ALL ON ALL TABLES IN {everything}"
    return (
        f"have an administrator run CREATE SCHEMA {quoted(schema)} AUTHORIZATION {quoted(role)}, or "
        f"GRANT CREATE ON DATABASE {quoted(database)} TO {quoted(role)}"
    )


def quoted(name: str) -> str:
    """The name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
