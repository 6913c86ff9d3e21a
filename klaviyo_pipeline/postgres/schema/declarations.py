"""The tables as the migrations make them: columns, types and comments, without a connection.

Dagster's definitions connect to nothing, and yet show each table's columns. `declarations.json` is read from the
catalog of a migrated database and written by `make docs`; a test compares both.
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
    """A column: `type` by Postgres's name; `sources` are the columns of its row that it is generated from."""

    name: str
    type: str
    nullable: bool
    comment: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table with its columns, by name and in order."""

    comment: str
    columns: Mapping[str, Column]


@cache
def declared_tables() -> Mapping[str, Table]:
    """Every table that the migrations leave behind, by name; those of earlier states are left out."""
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
