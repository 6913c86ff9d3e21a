"""The tables as the migrations declare them: columns, types and comments, without a connection.

Dagster's definitions connect to nothing, and yet show each table's columns. The comments that Postgres holds and the
descriptions in the UI are one text: that of the SQL files. It is read by their layout (a column a line, one
`COMMENT ON` a statement); what a test cannot find here as Postgres has it, fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from klaviyo_pipeline.postgres.migrations import read_migrations

_TABLE = re.compile(r"^CREATE TABLE (\w+) \(\n(.*?)^\);", re.MULTILINE | re.DOTALL)
_ADDED = re.compile(r"^ALTER TABLE (\w+)\s+((?:ADD COLUMN [^;]+?)(?:,\s*ADD COLUMN [^;]+?)*);", re.MULTILINE)
_RENAMED = re.compile(r"^ALTER TABLE (\w+) RENAME TO (\w+);", re.MULTILINE)
_DROPPED = re.compile(r"^DROP TABLE (\w+);", re.MULTILINE)
_COLUMN = re.compile(r"(?P<name>[a-z_]+)\s+(?P<type>[a-z]+(?: precision|\(\d+, ?\d+\))?(?:\[\])?)(?P<rest>[^\n]*)")
_FORMULA = re.compile(r"GENERATED ALWAYS AS \((.*)\) STORED")
_TABLE_COMMENT = re.compile(r"^COMMENT ON TABLE (\w+) IS '((?:[^']|'')*)';", re.MULTILINE)
_COLUMN_COMMENT = re.compile(r"^COMMENT ON COLUMN (\w+)\.(\w+) IS '((?:[^']|'')*)';", re.MULTILINE)


@dataclass(frozen=True)
class Column:
    """A column: `type` by Postgres's name; `formula` is the SQL that generates it from its row's other columns."""

    name: str
    type: str
    nullable: bool
    formula: str | None = None
    comment: str = ""

    @property
    def sources(self) -> set[str]:
        """Words of the formula: the columns that it is generated from, and SQL's own."""
        return set(re.findall(r"[a-z_]+", self.formula or ""))


@dataclass(frozen=True)
class Table:
    """A table with its columns, by name and in order."""

    columns: Mapping[str, Column]
    comment: str = ""


@cache
def declared_tables(directory: Path) -> Mapping[str, Table]:
    """Every table that the migrations in `directory` leave behind, by name. Raises as `read_migrations` does."""
    tables: dict[str, Table] = {}
    for migration in read_migrations(directory):
        for name, body in _TABLE.findall(migration.text):
            tables[name] = Table({column.name: column for column in _columns(body)})
        for name, added in _ADDED.findall(migration.text):
            columns = _columns(re.sub(r",?\s*ADD COLUMN ", "\n", added))
            tables[name] = replace(tables[name], columns={**tables[name].columns, **{c.name: c for c in columns}})
        for name, new_name in _RENAMED.findall(migration.text):
            tables[new_name] = tables.pop(name)
        for name in _DROPPED.findall(migration.text):
            del tables[name]
        for name, comment in _TABLE_COMMENT.findall(migration.text):
            if name in tables:
                tables[name] = replace(tables[name], comment=comment.replace("''", "'"))
        for name, column, comment in _COLUMN_COMMENT.findall(migration.text):
            if name in tables:
                _comment_on(tables, name, column, comment.replace("''", "'"))
    return tables


def _comment_on(tables: dict[str, Table], name: str, column: str, comment: str) -> None:
    commented = replace(tables[name].columns[column], comment=comment)
    tables[name] = replace(tables[name], columns={**tables[name].columns, column: commented})


def _columns(body: str) -> Iterator[Column]:
    """The columns among the lines of a table; constraints begin in capitals."""
    for line in body.splitlines():
        match = _COLUMN.fullmatch(line.strip())
        if match is None:
            continue
        rest = match["rest"]
        formula = _FORMULA.search(rest)
        nullable = "NOT NULL" not in rest and "PRIMARY KEY" not in rest
        yield Column(match["name"], match["type"].replace(", ", ","), nullable, formula[1] if formula else None)
