"""Determines the URL of Dagster's storage, and creates its database or schema. Does not import Dagster.

Dagster's tables are never in the schema of an account. If the warehouse's URL leads to a pooler in transaction mode,
Dagster cannot use it. In that case, set `KLAVIYO_DAGSTER_DATABASE_URL` to the URL of the server itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import URL

from klaviyo_pipeline.config.settings import SettingsError, load_dotenv_file
from klaviyo_pipeline.postgres.server.embedded import ensure_database, project_server
from klaviyo_pipeline.postgres.server.sessions import connect, connection_remedy

OWN_URL = "KLAVIYO_DAGSTER_DATABASE_URL"
WAREHOUSE_URL = "KLAVIYO_DATABASE_URL"
# No account may have this slug, so that no account's tables can be in Dagster's schema.
DATABASE = SCHEMA = "dagster"
DATABASE_SUFFIX = "_dagster"
NAME_BYTES = 63

HAS_DATABASE: LiteralString = "SELECT 1 FROM pg_database WHERE datname = %s"
# A schema of this name may belong to another Dagster. It is ours if its owner is our role, or a role granted to ours.
# Every role counts as granted to a superuser, so a superuser must be the owner itself.
HAS_OWN_SCHEMA: LiteralString = """
SELECT 1
FROM pg_namespace
JOIN pg_roles ON rolname = current_user
WHERE nspname = %s AND (nspowner = pg_roles.oid OR (pg_has_role(nspowner, 'USAGE') AND NOT rolsuper))
"""
OWNER_OF_CLOSED_DATABASE: LiteralString = """
SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s AND NOT has_database_privilege(oid, 'CONNECT')
"""
MAY_CREATE_DATABASES: LiteralString = """
SELECT 1 FROM pg_roles WHERE rolname = current_user AND (rolcreatedb OR rolsuper)
"""
OWNER_OF_SCHEMA: LiteralString = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %s"
OWNER_OF_CLOSED_TABLES: LiteralString = """
SELECT pg_get_userbyid(relowner)
FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
    AND relname IN ('runs', 'runs_id_seq')
    AND NOT CASE relkind
        WHEN 'S' THEN has_sequence_privilege(oid, 'USAGE')
        ELSE has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
            AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
    END
"""
IS_READ_ONLY: LiteralString = "SELECT 1 WHERE current_setting('transaction_read_only')::boolean"
IS_STANDBY: LiteralString = "SELECT 1 WHERE pg_is_in_recovery()"
IS_FIRST_SCHEMA: LiteralString = "SELECT 1 WHERE current_schema() = %s"


def storage_url() -> str:
    """SQLAlchemy URL (psycopg2, with password) of Dagster's storage. Creates the database or schema if it is missing.

    It is the first of these that applies:

    - `KLAVIYO_DAGSTER_DATABASE_URL`;
    - a database `<warehouse>_dagster` on the warehouse's server, or a schema `dagster` in the warehouse if the role may
      not create databases;
    - the database `dagster` of the embedded server, which is started.

    Raises `SettingsError` or `EmbeddedPostgresError` with a message of one line.
    """
    load_dotenv_file()
    if own := os.environ.get(OWN_URL, "").strip():
        return _psycopg2_url(own, OWN_URL)
    if warehouse := os.environ.get(WAREHOUSE_URL, "").strip():
        return _beside_the_warehouse(warehouse)
    return _psycopg2_url(ensure_database(project_server().start(), DATABASE), OWN_URL)


def found_storage_url() -> str | None:
    """Like `storage_url()`, but creates and starts nothing.

    None if the database or schema does not exist yet, or if the embedded server does not run.
    """
    load_dotenv_file()
    if own := os.environ.get(OWN_URL, "").strip():
        return _psycopg2_url(own, OWN_URL)
    if warehouse := os.environ.get(WAREHOUSE_URL, "").strip():
        _psycopg2_url(warehouse, WAREHOUSE_URL)
        return _found_beside(warehouse)
    server = project_server()
    return _found_database(server.dsn, DATABASE) if server.running else None


def _beside_the_warehouse(warehouse: str) -> str:
    _psycopg2_url(warehouse, WAREHOUSE_URL)  # raises an error if the URL is invalid
    with reached(warehouse, WAREHOUSE_URL) as connection:
        database = _database_beside(connection, warehouse)
    if database is None:
        _check_pooler(warehouse, SCHEMA)
        return _psycopg2_url(warehouse, WAREHOUSE_URL, schema=SCHEMA)
    _check_pooler(database)
    return _psycopg2_url(database, WAREHOUSE_URL)


def _check_pooler(url: str, schema: str | None = None) -> None:
    """Raise `SettingsError` if the URL leads to a pooler that does not reach Dagster's database or schema.

    A pooler may be configured only for the warehouse's database. It may also reject or ignore the parameter that sets
    the schema. If it ignores the parameter, Dagster would create its tables among the warehouse's.
    """
    url_with_schema = make_conninfo(url, options=f"-csearch_path={schema}") if schema else url
    try:
        with connect(url_with_schema) as connection:
            if schema is None or _exists(connection, IS_FIRST_SCHEMA, schema):
                check_tables(connection)
                return
            problem = "the pooler drops search_path"
    except psycopg.OperationalError as error:
        problem = " ".join(str(error).split())
    raise SettingsError(
        f"{WAREHOUSE_URL} does not lead to Dagster's own storage ({problem}). If it is the URL of a pooler, set "
        f"{OWN_URL} to the URL of the server itself."
    )


@contextmanager
def reached(url: str, variable: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the URL of this setting. Raises `SettingsError` without the many retries of Dagster itself."""
    try:
        connection = connect(url)
    except psycopg.OperationalError as error:
        message = " ".join(str(error).split())
        raise SettingsError(
            f"{variable}: the server cannot be reached ({message}). {connection_remedy(message, variable)}"
        ) from None
    with connection:
        yield connection


def _database_beside(connection: psycopg.Connection[Any], warehouse: str) -> str | None:
    """URL of Dagster's own database on the warehouse's server; None if Dagster uses a schema of the warehouse.

    An existing schema is kept in use, even if the role may create databases now. Otherwise earlier runs would be lost.
    """
    name = _name_beside(connection)
    if not _exists(connection, HAS_DATABASE, name) and _exists(connection, HAS_OWN_SCHEMA, SCHEMA):
        return None
    _check_database(connection, name)
    try:
        return ensure_database(warehouse, name)
    except errors.InsufficientPrivilege:
        _create_schema(connection)
        return None


def _found_beside(warehouse: str) -> str | None:
    with connect(warehouse) as connection:
        name = _name_beside(connection)
        _check_database(connection, name)
        if not _exists(connection, HAS_DATABASE, name) and _exists(connection, HAS_OWN_SCHEMA, SCHEMA):
            return _psycopg2_url(warehouse, WAREHOUSE_URL, schema=SCHEMA)
        if not _exists(connection, HAS_DATABASE, name) and not _exists(connection, MAY_CREATE_DATABASES):
            _refuse_foreign(connection)
    return _found_database(warehouse, name)


def _found_database(server: str, name: str) -> str | None:
    with connect(server) as connection:
        if not _exists(connection, HAS_DATABASE, name):
            return None
    return _psycopg2_url(urlsplit(server)._replace(path="/" + quote(name, safe="")).geturl(), WAREHOUSE_URL)


def _name_beside(connection: psycopg.Connection[Any]) -> str:
    room = NAME_BYTES - len(DATABASE_SUFFIX)
    return connection.info.dbname.encode()[:room].decode(errors="ignore") + DATABASE_SUFFIX


def _exists(connection: psycopg.Connection[Any], query: LiteralString, *names: str) -> bool:
    return connection.execute(query, names).fetchone() is not None


def _create_schema(connection: psycopg.Connection[Any]) -> None:
    try:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    except (errors.DuplicateSchema, errors.UniqueViolation):
        if not _exists(connection, HAS_OWN_SCHEMA, SCHEMA):  # otherwise another of our processes has just created it
            _refuse_foreign(connection)
    except errors.InsufficientPrivilege:
        _refuse_foreign(connection)
        raise SettingsError(
            f"The role {connection.info.user} may create neither a database nor a schema for Dagster. "
            f"Set {OWN_URL} to a database in which the role may create tables."
        ) from None


def _refuse_foreign(connection: psycopg.Connection[Any]) -> None:
    """Raise `SettingsError` if the schema for Dagster exists and belongs to another role."""
    if owner := _name(connection, OWNER_OF_SCHEMA, SCHEMA):
        raise _not_ours(connection, f"The schema {SCHEMA} in database {connection.info.dbname}", owner)


def _check_database(connection: psycopg.Connection[Any], name: str) -> None:
    if owner := _name(connection, OWNER_OF_CLOSED_DATABASE, name):
        raise _not_ours(connection, f"Dagster's database {name}", owner)


def check_tables(connection: psycopg.Connection[Any]) -> None:
    """Raise `SettingsError` if the role cannot write at all, or lacks rights on Dagster's existing tables."""
    database, role = connection.info.dbname, connection.info.user
    if _exists(connection, IS_STANDBY):
        raise SettingsError(f"Dagster's database {database} is on a standby. Set {OWN_URL} to the primary.")
    if _exists(connection, IS_READ_ONLY):
        raise SettingsError(
            f"Dagster's database {database} is read-only for role {role}: default_transaction_read_only is on. Have an "
            f'administrator run ALTER ROLE "{role}" SET default_transaction_read_only TO off, or set {OWN_URL} to '
            "another database."
        )
    if owner := _name(connection, OWNER_OF_CLOSED_TABLES):
        raise _not_ours(connection, f"Dagster's table `runs` in database {database}", owner)


def _not_ours(connection: psycopg.Connection[Any], what: str, owner: str) -> SettingsError:
    return SettingsError(
        f"{what} is owned by role {owner}, and role {connection.info.user} lacks the rights on it. "
        f"Connect as {owner}, or have an administrator run "
        f'GRANT "{owner}" TO "{connection.info.user}", or set {OWN_URL} to another database.'
    )


def _name(connection: psycopg.Connection[Any], query: LiteralString, *parameters: str) -> str | None:
    row = connection.execute(query, parameters).fetchone()
    return row and row[0]


def _psycopg2_url(dsn: str, variable: str, *, schema: str | None = None) -> str:
    """The libpq URL `dsn` as a SQLAlchemy URL for psycopg2. `schema` becomes the search path of its sessions.

    The URL names the driver, because SQLAlchemy 2.1 uses psycopg 3 for a bare `postgresql://`, which dagster-postgres
    does not support.
    """
    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    except psycopg.Error:
        parts = {"port": "unreadable"}
    # If a password contains an unescaped "/", a part of it is parsed as the port, and the driver's error would show it.
    if not re.fullmatch(r"[0-9,]*", parts.get("port", "")):
        # The URL may contain a password, so the message repeats neither the URL nor the parser's error.
        raise SettingsError(
            f"{variable} is not a valid URL. Write it as postgresql://user:password@host:5432/database, with "
            "%-escapes in the password."
        )
    if schema is not None:
        parts["options"] = f"{parts.get('options', '')} -csearch_path={schema}".strip()
    url = URL.create(
        "postgresql+psycopg2",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        database=parts.pop("dbname", None),
        # Host and port are parameters, because there may be several hosts, or the folder of a socket.
        query=parts,
    )
    return url.render_as_string(hide_password=False)
