"""Migrations: bring a schema up to date with the numbered SQL files, forward only.

A file is `NNN_name.sql`, numbered from 001 without gaps. It names no schema: the search path is set to the schema
to migrate. `<schema>.schema_migrations` records the applied files with their sha256. All locks end with their
transaction, so that migrations also work through a pooler in transaction mode.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import errors, sql

from klaviyo_pipeline.catalog import object_columns
from klaviyo_pipeline.config.settings import SLUG
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.postgres.schema.owners import FOREIGN_OWNERS, remedy, schema_remedy
from klaviyo_pipeline.postgres.server.sessions import connect

FILE_NAME = re.compile(r"(\d{3})_[a-z0-9_]+\.sql")

RECORD_TABLE = """
CREATE TABLE schema_migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    sha256      text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE schema_migrations IS 'The numbered SQL files that were applied to this schema, and when.'
"""


HAS_SCHEMA: LiteralString = "SELECT 1 FROM pg_namespace WHERE nspname = %s"

_HALF_COLUMNS: LiteralString = """
SELECT format('%%s of %%s', columns.attname, present.relname)
FROM pg_class AS present
JOIN pg_class AS earlier
    ON earlier.relnamespace = present.relnamespace AND earlier.relname = present.relname || '_superseded'
JOIN pg_attribute AS raw ON raw.attrelid = present.oid AND raw.attname = 'raw'
JOIN pg_attribute AS columns
    ON columns.attrelid IN (present.oid, earlier.oid) AND columns.attnum > 0 AND NOT columns.attisdropped
WHERE present.relnamespace = %s::regnamespace
    AND columns.attgenerated = ''
    AND columns.attname NOT IN ('observed_at', 'valid_from', 'valid_to')
GROUP BY present.relname, columns.attname
HAVING count(*) = 1
"""
"""Columns that either a table of objects or its table of earlier states has, but not both."""

_OBJECT_COLUMNS: LiteralString = r"""
SELECT tables.relname, columns.attname
FROM pg_class AS tables
JOIN pg_attribute AS raw ON raw.attrelid = tables.oid AND raw.attname = 'raw'
JOIN pg_attribute AS columns ON columns.attrelid = tables.oid AND columns.attnum > 0 AND NOT columns.attisdropped
WHERE tables.relnamespace = %s::regnamespace AND tables.relkind = 'r' AND tables.relname NOT LIKE '%%\_superseded'
"""
"""The columns of the tables of objects."""


class MigrationError(RuntimeError):
    """The schema cannot be brought up to date. The message is one line with the reason and the remedy."""


@dataclass(frozen=True)
class Migration:
    """One file. Its digest is computed with Unix line ends, because git may check the file out with other line ends."""

    version: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Applied:
    """One row of `schema_migrations`."""

    name: str
    sha256: str


def migrate(dsn: str, schema: str, directory: Path) -> list[str]:
    """Apply the files that `schema` lacks, each in its own transaction, and return their names.

    `dsn` is a libpq URL; the schema is created if absent. Concurrent processes take turns. Raises `MigrationError` for
    an invalid slug, missing rights, a schema that other files created, an edited, missing or misnumbered file, and a
    file that fails (it is rolled back; the files before it stay applied). Raises psycopg's `OperationalError` when the
    server cannot be reached.
    """
    _check_slug(schema)
    migrations = read_migrations(directory)
    done: list[str] = []
    with connect(dsn) as connection, _owners_named(connection, schema):
        while (name := _apply_next(connection, schema, migrations)) is not None:
            done.append(name)
    return done


def pending(dsn: str, schema: str, directory: Path) -> list[str]:
    """The names of the files that `migrate` would apply, in order. Raises the same errors, and changes nothing."""
    _check_slug(schema)
    migrations = read_migrations(directory)
    with connect(dsn) as connection, _owners_named(connection, schema):
        applied = _applied(connection, schema)
    _check_history(migrations, applied, schema)
    return [migration.name for migration in migrations if migration.version not in applied]


def check_version(dsn: str, schema: str, directory: Path) -> None:
    """Raise `MigrationError` unless exactly the files in `directory` were applied to `schema`. Changes nothing."""
    if missing := pending(dsn, schema, directory):
        raise MigrationError(
            f"Schema {schema} lacks {counted(len(missing), 'migration')} of this version ({missing[0]} is the first): "
            "run `klaviyo-pipeline migrate`, or set `migrate` to true, so that the next run applies them."
        )


def read_migrations(directory: Path) -> list[Migration]:
    """The numbered files of `directory`, in order. Raises `MigrationError` unless they are numbered 1, 2, 3, …"""
    migrations: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        match = FILE_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path}: the name of a migration must be NNN_name.sql, in lower case; rename it.")
        # Reading as text turns every kind of line end into "\n".
        migration = Migration(int(match[1]), path.name, path.read_text(encoding="utf-8"))
        expected = len(migrations) + 1
        if migration.version < expected:
            raise MigrationError(f"{path}: number {match[1]} is taken; give it the number {expected:03}.")
        if migration.version > expected:
            raise MigrationError(f"{path}: number {expected:03} is missing; add that file, or renumber this one.")
        migrations.append(migration)
    if not migrations:
        raise MigrationError(f"{directory} contains no migrations; is it the project's sql folder?")
    return migrations


def _check_slug(schema: str) -> None:
    if not SLUG.fullmatch(schema):
        raise MigrationError(
            f"{schema!r} cannot be the name of a schema; use up to 48 lower-case letters, digits and underscores, "
            "starting with a letter."
        )


@contextmanager
def _owners_named(connection: psycopg.Connection[Any], schema: str) -> Iterator[None]:
    """Raise `MigrationError` if the role lacks a right in this block.

    If another role owns the schema or its tables, the message names this owner.
    """
    try:
        yield
    except errors.InsufficientPrivilege as error:
        role = connection.info.user
        owners = [owner for (owner,) in connection.execute(FOREIGN_OWNERS, {"schema": schema}).fetchall()]
        if not owners:
            exists = connection.execute(HAS_SCHEMA, [schema]).fetchone() is not None
            raise MigrationError(
                f"The role {role} may not create schema {schema} or its tables ({error.diag.message_primary}): "
                f"{schema_remedy(schema, role, connection.info.dbname, exists=exists)}."
            ) from error
        raise MigrationError(
            f"The schema {schema} is owned by role {' and '.join(owners)}, and role {role} lacks the rights on it "
            f"({error.diag.message_primary}): {remedy(owners, role)}."
        ) from error


def _apply_next(connection: psycopg.Connection[Any], schema: str, migrations: Sequence[Migration]) -> str | None:
    """Apply the first file that `schema` lacks and return its name; None if it is up to date."""
    with connection.transaction():
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('klaviyo_pipeline migrations ' || %s, 0))",
            [schema],
        )
        # Read under the lock, because another process may have applied files in the meantime.
        applied = _applied(connection, schema)
        _check_history(migrations, applied, schema)
        migration = next((m for m in migrations if m.version not in applied), None)
        if migration is None:
            return None
        _create_schema(connection, schema)
        _run(connection, schema, migration)
        return migration.name


def _applied(connection: psycopg.Connection[Any], schema: str) -> dict[int, Applied]:
    table = sql.Identifier(schema, "schema_migrations")
    if not _exists(connection, table):
        return {}
    rows = connection.execute(sql.SQL("SELECT version, name, sha256 FROM {}").format(table)).fetchall()
    return {version: Applied(name, sha256) for version, name, sha256 in rows}


def _check_history(migrations: Sequence[Migration], applied: Mapping[int, Applied], schema: str) -> None:
    known = {migration.version: migration for migration in migrations}
    for version, record in sorted(applied.items()):
        migration = known.get(version)
        if migration is not None and migration.name != record.name and migration.sha256 != record.sha256:
            raise MigrationError(
                f"{record.name}: schema {schema} was created by another version of this project; in this version, "
                f"file {version:03} is {migration.name}. Sync into a new schema (set KLAVIYO_ACCOUNT to another name), "
                f'or drop this schema with its history first (DROP SCHEMA "{schema}" CASCADE).'
            )
        if migration is None:
            raise MigrationError(
                f"{record.name}: this file was applied to schema {schema}, but it is missing here; "
                "restore it, or update this project if a newer version of it migrated the database."
            )
        if migration.sha256 != record.sha256:
            raise MigrationError(
                f"{migration.name}: the file was edited after it was applied to schema {schema}; "
                "restore it, and put the change into a new file."
            )


def _create_schema(connection: psycopg.Connection[Any], schema: str) -> None:
    """Create the schema and its table of migrations if absent; set the search path for this transaction."""
    name = sql.Identifier(schema)
    # Not IF NOT EXISTS: that needs the right to create a schema even if it exists.
    if connection.execute(HAS_SCHEMA, [schema]).fetchone() is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(name))
    if not _exists(connection, sql.Identifier(schema, "schema_migrations")):
        connection.execute(RECORD_TABLE)


def _exists(connection: psycopg.Connection[Any], table: sql.Identifier) -> bool:
    row = connection.execute("SELECT to_regclass(%s)", [table.as_string(connection)]).fetchone()
    return row is not None and row[0] is not None


def _run(connection: psycopg.Connection[Any], schema: str, migration: Migration) -> None:
    try:
        before, columns_before = _half_columns(connection, schema), _object_columns(connection, schema)
        # Without parameters, psycopg sends the text unchanged: it may have several statements and per cent signs.
        connection.execute(migration.text)
        if added := sorted(_half_columns(connection, schema) - before):
            raise MigrationError(
                f"{migration.name}: the file adds {', '.join(added)} only to the table or only to its earlier states; "
                f'call add_column instead, see "Add a column" in docs/extend.md (schema {schema}; the file was rolled '
                "back)."
            )
        if added := _undeclared(columns_before, _object_columns(connection, schema)):
            raise MigrationError(
                f"{migration.name}: the file adds {', '.join(added)}, which no declaration fills; declare it too, see "
                f'"Add a column" in docs/extend.md (schema {schema}; the file was rolled back).'
            )
        connection.execute(
            "INSERT INTO schema_migrations (version, name, sha256) VALUES (%s, %s, %s)",
            [migration.version, migration.name, migration.sha256],
        )
    except errors.InsufficientPrivilege:
        raise
    except psycopg.Error as error:
        raise MigrationError(
            f"{_place(migration, error)}: {error.diag.message_primary or error} "
            f"(schema {schema}; the file was rolled back)."
        ) from error


def _half_columns(connection: psycopg.Connection[Any], schema: str) -> set[str]:
    quoted = sql.Identifier(schema).as_string(connection)
    return {column for (column,) in connection.execute(_HALF_COLUMNS, [quoted])}


def _object_columns(connection: psycopg.Connection[Any], schema: str) -> set[tuple[str, str]]:
    quoted = sql.Identifier(schema).as_string(connection)
    return set(connection.execute(_OBJECT_COLUMNS, [quoted]).fetchall())


def _undeclared(before: Set[tuple[str, str]], after: Set[tuple[str, str]]) -> list[str]:
    """The columns that were added to existing tables of objects, and that no declaration fills.

    A sync would leave such a column NULL, and would add false states to the history once it is declared.
    """
    tables, filled = {table for table, _ in before}, object_columns()
    return sorted(
        f"{column} of {table}"
        for table, column in after - before
        if table in tables and column not in filled.get(table, ())
    )


def _place(migration: Migration, error: psycopg.Error) -> str:
    """The file's name, with the line of the error if Postgres reports its position (in characters, from 1)."""
    position = error.diag.statement_position
    if position is None:
        return migration.name
    line = migration.text.count("\n", 0, int(position) - 1) + 1
    return f"{migration.name}, line {line}"
