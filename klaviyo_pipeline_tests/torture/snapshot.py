"""The content of the tables, without the values that differ from run to run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg
from psycopg import sql

SYSTEM_COLUMNS = ("account", "api_calls", "api_pacing", "census_runs", "schema_migrations")

# Times, run ids and counts of attempts, which differ from run to run.
PASSING = [
    "asked_at",
    "attempts",
    "finished_at",
    "missed_at",
    "observed_at",
    "requests",
    "rows_deleted",
    "rows_fetched",
    "rows_inserted",
    "rows_unchanged",
    "rows_updated",
    "run_id",
    "started_at",
    "valid_from",
    "valid_to",
    "deleted_at",
    "refreshed_at",
]

# The column that determines the ledger window of a row.
TIMED = {"flows": "updated_at", "campaigns": "updated_at", "forms": "updated_at", "segments": "updated_at"}
DATED = [f"{one}_{table}" for one in ("flow", "campaign", "form", "segment") for table in ("report", "metrics")]

PARTS = ("campaign_audiences", "campaign_messages", "campaign_variations")
CHILDREN = {
    "flows": ("flow_actions", "flow_messages"),
    "campaigns": (*PARTS, *(f"{part}_superseded" for part in PARTS)),
}

State = Counter[tuple[str, str]]
"""Rows as (table, content), with the number of occurrences."""


@dataclass(frozen=True)
class Tables:
    """The tables of an account's schema; the connection's search path names it."""

    connection: psycopg.Connection[Any]

    @cached_property
    def names(self) -> list[str]:
        """Every table that a sync writes, without `SYSTEM_COLUMNS`."""
        found = self.connection.execute(
            "SELECT relname FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY relname"
        )
        return [name for (name,) in found if name not in SYSTEM_COLUMNS]

    def state(self) -> State:
        """The content of every table. A deletion time or the end of a state counts only as set or not set."""
        output = [name.replace("_superseded", "_history") for name in self.names]
        query = sql.SQL(" UNION ALL ").join(map(self._content, output))
        return Counter(self.connection.execute(query).fetchall())

    def _content(self, name: str) -> sql.Composed:
        return sql.SQL(
            "SELECT {name}, ((to_jsonb(t) || jsonb_build_object("
            "'over', to_jsonb(t) ->> 'valid_to' IS NOT NULL, 'deleted', to_jsonb(t) ->> 'deleted_at' IS NOT NULL"
            ")) - {passing}::text[])::text FROM {table} AS t"
        ).format(name=sql.Literal(name), passing=sql.Literal(PASSING), table=sql.Identifier(name))

    def clear(self, *tables: str) -> None:
        """Empty these tables."""
        self.connection.execute(sql.SQL("; ").join(sql.SQL("DELETE FROM {}").format(sql.Identifier(t)) for t in tables))

    def of_entity(self, census: str) -> tuple[str, ...]:
        """The tables that the census of an entity writes."""
        entity = census.removesuffix("_census")
        return entity, f"{entity}_superseded", *CHILDREN.get(entity, ())

    def windows(self) -> list[tuple[str, str, str | None]]:
        """Entity, status and error of every window in the ledger."""
        return self.connection.execute("SELECT entity, status, error FROM sync_windows").fetchall()

    def hollow_windows(self, whole: Sequence[tuple[str, str, str]]) -> list[tuple[str, str]]:
        """Windows that the ledger calls synced although rows of theirs are missing, as (entity, id).

        `whole` are the rows that `rows_of_windows` returned after an undisturbed run.
        """
        here = set(self.rows_of_windows())
        synced = {
            (entity, day)
            for entity, day in self.connection.execute(
                "SELECT entity, to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM sync_windows "
                "WHERE status = 'synced'"
            )
        }
        return [(entity, id) for entity, day, id in whole if (entity, day) in synced and (entity, day, id) not in here]

    def rows_of_windows(self) -> list[tuple[str, str, str]]:
        """Entity, window and content of every row that belongs to a window."""
        passing = [*PASSING, "conversion_metric_id"]
        parts = [
            sql.SQL(
                "SELECT {name}, to_char({day} {zone}, 'YYYY-MM-DD'), (to_jsonb(t) - %(passing)s::text[])::text "
                "FROM {table} AS t WHERE {day} IS NOT NULL"
            ).format(
                name=sql.Literal(name),
                day=sql.Identifier(TIMED.get(name, "date")),
                zone=sql.SQL("AT TIME ZONE 'UTC'" if name in TIMED else ""),
                table=sql.Identifier(name),
            )
            for name in (*TIMED, *DATED)
        ]
        return self.connection.execute(sql.SQL(" UNION ALL ").join(parts), {"passing": passing}).fetchall()

    def repeated_states(self) -> list[tuple[str, str]]:
        """States that equal the previous state in the history of the same row. There must be none."""
        found = []
        for name in self.names:
            if not name.endswith("_superseded"):
                continue
            history = name.replace("_superseded", "_history")
            key = sql.SQL(", ").join(map(sql.Identifier, self._key(name)))
            query = sql.SQL(
                "SELECT {name}, told FROM ("
                "SELECT told, lag(told) OVER (PARTITION BY {key} ORDER BY valid_from) AS before FROM ("
                "SELECT *, ((to_jsonb(t) || jsonb_build_object('deleted', to_jsonb(t) -> 'deleted_at')) - %s::text[])"
                "::text AS told FROM {table} AS t) AS s) AS r WHERE told = before"
            ).format(name=sql.Literal(name), key=key, table=sql.Identifier(history))
            found += self.connection.execute(query, [PASSING]).fetchall()
        return found

    def _key(self, superseded: str) -> list[str]:
        rows = self.connection.execute(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) "
            "WHERE indisprimary AND indrelid = %s::regclass AND attname <> 'valid_from'",
            [superseded],
        )
        return [name for (name,) in rows]


def difference(found: State, expected: State) -> str:
    """The missing and the unexpected rows, shortened; empty if there are none."""
    missing, surplus = expected - found, found - expected
    return "; ".join(
        f"{what} {sum(rows.values())} rows, such as {next(iter(rows))}"[:400]
        for what, rows in (("lacks", missing), ("has besides", surplus))
        if rows
    )
