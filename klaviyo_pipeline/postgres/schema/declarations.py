"""The tables as the migrations create them: columns, types and comments, without a connection.

Dagster's definitions show each table's columns without connecting to Postgres. `make docs` writes `declarations.json`
from the catalog of a migrated database, and a test compares the file with the catalog.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("declarations.json")


@dataclass(frozen=True)
class Column:
    """A column. `type` is its Postgres type; `sources` are the columns that a generated column is computed from."""

    name: str
    type: str
    nullable: bool
    comment: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table with its columns by name, in the table's order."""

    comment: str
    columns: Mapping[str, Column]


@cache
def declared_tables() -> Mapping[str, Table]:
    """Every table that the migrations create, by name, except the tables of earlier states."""
    tables = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: Table(
            table["comment"],
            {
                column: Column(column, of["type"], of["nullable"], of["comment"], tuple(of.get("sources", ())))
                for column, of in table["columns"].items()
            },
        )
        for name, table in tables.items()
    }
