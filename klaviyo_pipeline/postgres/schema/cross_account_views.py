"""Views over all accounts of a database, in a separate schema. Each is a UNION ALL of the accounts' tables.

With several accounts, the commands `migrate`, `sync` and `dev` create them again from the migrated schemas, so that
they follow added and dropped accounts. With a filter on `account`, Postgres reads only the tables of that account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import errors, sql

from klaviyo_pipeline.config.settings import CROSS_ACCOUNT_SCHEMA
from klaviyo_pipeline.postgres.server.sessions import connect

VIEWS: Mapping[str, LiteralString] = {
    "account": "accounts",
    "sync_status": "sync_status",
    "flow_metrics": "flow_metrics",
}
"""For each table or view in an account's schema, the name of its view over all accounts."""

ACCOUNT = "account"
"""The column with the account's slug."""

MIN_ACCOUNTS = 2
"""With fewer accounts there are no views: the account's own tables are enough."""

# The migrated schemas in which the role may read every table and view of VIEWS.
_SCHEMAS: LiteralString = """
SELECT schemas.nspname
FROM pg_namespace AS schemas
JOIN pg_class AS relations ON relations.relnamespace = schemas.oid
WHERE relations.relname = ANY (%(names)s)
    AND relations.relkind IN ('r', 'v')
    AND has_schema_privilege(schemas.oid, 'USAGE')
    AND has_table_privilege(relations.oid, 'SELECT')
    AND to_regclass(format('%%I.schema_migrations', schemas.nspname)) IS NOT NULL
GROUP BY schemas.nspname
HAVING count(*) = cardinality(%(names)s)
ORDER BY schemas.nspname
"""

_COLUMNS: LiteralString = """
SELECT columns.attname, format_type(columns.atttypid, columns.atttypmod)
FROM pg_attribute AS columns
WHERE columns.attrelid = to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text))
    AND columns.attnum > 0
    AND NOT columns.attisdropped
ORDER BY columns.attnum
"""


class CrossAccountViewsRefused(RuntimeError):
    """The views cannot be created. The message is one line with the reason; the accounts' own tables are unchanged."""


def refresh_cross_account_views(dsn: str) -> list[str]:
    """Create or replace the views over every migrated account of this database; return the accounts' slugs.

    With fewer than two accounts, the views are dropped instead. Concurrent processes take turns. Raises
    `CrossAccountViewsRefused`, and psycopg's `OperationalError` when the server cannot be reached.
    """
    with connect(dsn) as connection:
        try:
            with connection.transaction():
                return _refresh(connection)
        except (errors.InsufficientPrivilege, errors.DependentObjectsStillExist) as error:
            raise CrossAccountViewsRefused(
                f"the views over all accounts in {CROSS_ACCOUNT_SCHEMA} were not updated: {error.diag.message_primary} "
                f"(role {connection.info.user}). Run `klaviyo-pipeline migrate` as the owner of these views, or drop "
                "the objects that depend on them."
            ) from None


def _refresh(connection: psycopg.Connection[Any]) -> list[str]:
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('klaviyo_pipeline overview', 0))")
    schemas = [name for (name,) in connection.execute(_SCHEMAS, {"names": list(VIEWS)}).fetchall()]
    exists = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [CROSS_ACCOUNT_SCHEMA]).fetchone()
    if exists is None and len(schemas) >= MIN_ACCOUNTS:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(CROSS_ACCOUNT_SCHEMA)))
    for name, view in VIEWS.items():
        if len(schemas) >= MIN_ACCOUNTS:
            _replace(connection, view, _union(connection, schemas, name))
        else:
            connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier(CROSS_ACCOUNT_SCHEMA, view)))
    return schemas


def _replace(connection: psycopg.Connection[Any], view: str, query: sql.Composed) -> None:
    named = sql.Identifier(CROSS_ACCOUNT_SCHEMA, view)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(named, query))
    except errors.InvalidTableDefinition:
        # A column was removed, or was not added at the end. If a user's view depends on this one, the DROP fails.
        connection.execute(sql.SQL("DROP VIEW {}").format(named))
        connection.execute(sql.SQL("CREATE VIEW {} AS {}").format(named, query))
    comment = sql.SQL("COMMENT ON VIEW {} IS {}")
    text = f"{view} of every account; the column {ACCOUNT} has the slug. The command migrate creates this view again."
    connection.execute(comment.format(named, sql.Literal(text)))


def _union(connection: psycopg.Connection[Any], schemas: Sequence[str], name: str) -> sql.Composed:
    """Return one SELECT for each account, with the columns that all accounts have.

    An account may lack a column because it is a migration behind. A column whose type differs between accounts, because
    users added it, is left out.
    """
    by_schema = {schema: _columns(connection, schema, name) for schema in schemas}
    shared = [
        column
        for column, kind in by_schema[schemas[0]].items()
        if column != ACCOUNT and all(columns.get(column) == kind for columns in by_schema.values())
    ]
    return sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}::text AS {}, {} FROM {}").format(
            sql.Literal(schema),
            sql.Identifier(ACCOUNT),
            sql.SQL(", ").join(map(sql.Identifier, shared)),
            sql.Identifier(schema, name),
        )
        for schema in schemas
    )


def _columns(connection: psycopg.Connection[Any], schema: str, name: str) -> dict[str, str]:
    """The columns of a relation in order, each with its type."""
    return dict(connection.execute(_COLUMNS, {"schema": schema, "name": name}).fetchall())
