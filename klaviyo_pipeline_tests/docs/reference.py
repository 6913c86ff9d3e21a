"""Writes the reference documents and the declared tables from the code and from a migrated database.

`python -m klaviyo_pipeline_tests.docs.reference` (or `make docs`) writes `docs/settings.md`, `docs/tables.md` and
`klaviyo_pipeline/postgres/schema/declarations.json`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from klaviyo_pipeline.config.settings import PROJECT_ROOT, SQL_DIR
from klaviyo_pipeline.config.variables import VARIABLES, Variable
from klaviyo_pipeline.postgres.schema import declarations
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres

SETTINGS = PROJECT_ROOT / "docs" / "settings.md"
TABLES = PROJECT_ROOT / "docs" / "tables.md"
SCHEMA = "klaviyo"

WRITTEN = "<!-- Written by `make docs`. To change this page, edit its source: {source}. -->\n"

SETTINGS_HEAD = """# Settings

Every variable is read from the environment, or from `.env` in the project's folder ([the example](../.env.example)); a
variable that is already set takes precedence over the file. An empty value counts as not set. If a value is not valid,
the command ends with one line that names the variable. `klaviyo-pipeline doctor` checks all variables together.
"""

SETTINGS_TAIL = """## Dagster's own

If `DAGSTER_HOME` is a folder with a `dagster.yaml`, that file is used. Otherwise [the project's](../dagster.yaml) is
used, whatever the working folder.
"""

TABLES_HEAD = """# Tables

Everything is in one schema, named by `KLAVIYO_ACCOUNT` (`klaviyo` unless set). Times are `timestamptz`, statistics are
`numeric`, days are days of the account. The database has the same comments: `\\d+ klaviyo.flows` in psql, or the column
list of your SQL client. Columns in **bold** are the primary key. Other columns can be null unless the table says
otherwise.
"""

RELATIONS = """
SELECT c.oid, c.relname, c.relkind = 'v' AS is_view, obj_description(c.oid, 'pg_class')
FROM pg_class AS c
WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
ORDER BY c.relkind = 'v', c.relname COLLATE "C"
"""
COLUMNS = """
SELECT
    a.attname,
    replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz'),
    a.attnotnull,
    coalesce(a.attnum = ANY (key.indkey), false),
    coalesce(col_description(a.attrelid, a.attnum), '')
FROM pg_attribute AS a
LEFT JOIN pg_index AS key ON key.indrelid = a.attrelid AND key.indisprimary
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
FUNCTIONS = """
SELECT
    proname,
    replace(pg_get_function_identity_arguments(oid), 'timestamp with time zone', 'timestamptz'),
    obj_description(oid, 'pg_proc')
FROM pg_proc
WHERE pronamespace = %s::regnamespace AND prokind = 'f'
ORDER BY proname COLLATE "C"
"""
DECLARED = r"""
SELECT
    c.relname,
    coalesce(obj_description(c.oid, 'pg_class'), ''),
    a.attname,
    replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz'),
    NOT a.attnotnull,
    coalesce(col_description(a.attrelid, a.attnum), ''),
    ARRAY(
        SELECT source.attname::text
        FROM pg_attrdef AS formula
        JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = formula.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid <> a.attnum
        JOIN pg_attribute AS source ON source.attrelid = a.attrelid AND source.attnum = d.refobjsubid
        WHERE a.attgenerated <> '' AND formula.adrelid = a.attrelid AND formula.adnum = a.attnum
        ORDER BY source.attname
    )
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'p')
    AND c.relname <> 'schema_migrations' AND c.relname NOT LIKE '%%\_superseded'
ORDER BY c.relname COLLATE "C", a.attnum
"""


def settings_document() -> str:
    """`docs/settings.md`."""
    rows = [("name", "meaning", "allowed", "default"), *map(_setting, VARIABLES.values())]
    source = WRITTEN.format(source="klaviyo_pipeline/config/variables.py")
    return "\n".join([source, SETTINGS_HEAD, *_table(rows), "", SETTINGS_TAIL])


def tables_document(connection: psycopg.Connection[Any]) -> str:
    """`docs/tables.md`, from the catalog of a schema with every migration."""
    relations = connection.execute(RELATIONS, [SCHEMA]).fetchall()
    tables = [row for row in relations if not row[2]]
    views = [row for row in relations if row[2]]
    lines = [WRITTEN.format(source="the comments in sql/"), TABLES_HEAD, *_contents(tables, views)]
    for title, found in (("Tables", tables), ("Views", views)):
        lines += [f"## {title}", ""]
        for oid, name, _, comment in found:
            lines += [f"### {name}", "", comment or "", "", *_columns(connection, oid), ""]
    lines += ["## Functions", ""]
    lines += [*_table([("function", "what it returns"), *_functions(connection)]), ""]
    return "\n".join(lines)


def declared_tables(connection: psycopg.Connection[Any], schema: str) -> str:
    """`klaviyo_pipeline/postgres/schema/declarations.json`, from the catalog of a schema with every migration."""
    columns: dict[tuple[str, str], list[str]] = {}
    for name, about, column, kind, nullable, comment, sources in connection.execute(DECLARED, [schema]):
        generated = {"sources": sources} if sources else {}
        described = {"type": kind, "nullable": nullable, "comment": comment, **generated}
        columns.setdefault((name, about), []).append(f"{_json(column)}: {_json(described)}")
    tables = [
        f'{_json(name)}: {{"comment": {_json(about)}, "columns": {{\n' + ",\n".join(lines) + "\n}}"
        for (name, about), lines in columns.items()
    ]
    return "{\n" + ",\n".join(tables) + "\n}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _setting(variable: Variable) -> tuple[str, str, str, str]:
    default = f"`{variable.default}`" if variable.default else variable.otherwise
    return f"`{variable.name}`", variable.meaning, variable.allowed, default


def _contents(tables: Iterable[Any], views: Iterable[Any]) -> list[str]:
    listed = {"Tables": tables, "Views": views}
    return [f"{title}: {', '.join(f'[{row[1]}](#{row[1]})' for row in rows)}.\n" for title, rows in listed.items()]


def _columns(connection: psycopg.Connection[Any], oid: int) -> list[str]:
    rows = [("column", "type", "meaning")]
    for name, kind, not_null, in_key, comment in connection.execute(COLUMNS, [oid]):
        needed = "" if in_key or not not_null else ", not null"
        rows.append((f"**{name}**" if in_key else name, f"{kind}{needed}", comment))
    return _table(rows)


def _functions(connection: psycopg.Connection[Any]) -> Iterator[tuple[str, str]]:
    for name, arguments, comment in connection.execute(FUNCTIONS, [SCHEMA]):
        yield f"`{name}({arguments})`", comment or ""


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [_row(head), _row(["---"] * len(head)), *map(_row, body)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write() -> None:
    """Write all three, from a throw-away server."""
    SETTINGS.write_text(settings_document(), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="klaviyo-docs-") as folder:
        # If root runs this, the server runs as an unprivileged user, who needs access to the data.
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "data")
        url = server.start()
        try:
            migrate(url, SCHEMA, SQL_DIR)
            with psycopg.connect(url) as connection:
                TABLES.write_text(tables_document(connection), encoding="utf-8")
                declarations.FILE.write_text(declared_tables(connection, SCHEMA), encoding="utf-8")
        finally:
            server.stop()


if __name__ == "__main__":
    write()
