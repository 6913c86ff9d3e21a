"""Who owns a schema and its tables, where the role that connects does not: what it may do there, the owner decides."""

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
"""The owners of the schema and of what is in it whose rights the connected role does not have."""


def remedy(owners: Sequence[str], role: str) -> str:
    """What gives the role the rights of these owners."""
    grants = "; ".join(f'GRANT "{owner}" TO "{role}"' for owner in owners)
    return f"connect as {owners[0]}, or have an administrator run {grants}"
