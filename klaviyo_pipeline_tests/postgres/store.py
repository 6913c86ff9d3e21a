"""Shared by the tests of the store: a migrated schema, frames to write, and queries of the stored rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import sqlalchemy as sa

from klaviyo_pipeline.postgres.ledger import Ledger, ReportContext, SyncedWindow
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.schema.tables import DestinationTable, reflect
from klaviyo_pipeline.postgres.write.merge import CountsByWindow, ReplaceRange, merge
from klaviyo_pipeline.windows import Window

SLUG = "order"
"""The schema: a reserved word of SQL, so that a missing quote anywhere fails."""

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
FIRST_DAY = date(2025, 3, 1)


def minute(number: float) -> datetime:
    """This many minutes after noon: the time of an observation."""
    return NOON + timedelta(minutes=number)


def day(number: int) -> date:
    """The n-th day of the reports in these tests, from 0."""
    return FIRST_DAY + timedelta(days=number)


def window(number: int) -> Window:
    """The UTC day `day(number)`."""
    start = datetime.combine(day(number), datetime.min.time(), tzinfo=UTC)
    return Window(start, start + timedelta(days=1), day(number).isoformat())


def flow(id: str, observed_at: datetime, name: str | None = "Welcome", **more: Any) -> dict[str, Any]:
    """One flow as observed."""
    row = {"id": id, "name": name, "status": "live", "archived": False, "deleted_at": None}
    return {**row, "raw": {"id": id, "name": name}, "observed_at": observed_at, **more}


def campaign(id: str, observed_at: datetime, channel: str, name: str = "Sale") -> dict[str, Any]:
    """One campaign as the listing of a channel returns it."""
    return {"id": id, "name": name, "channel": channel, "raw": {"id": id, "name": name}, "observed_at": observed_at}


def figures(flow_id: str, on: date, observed_at: datetime, delivered: object = 100, **more: Any) -> dict[str, Any]:
    """One row of the flow report."""
    message = {"flow_id": flow_id, "flow_message_id": "M1", "send_channel": "email"}
    key = {**message, "date": on, "conversion_metric_id": "metric"}
    return {**key, "delivered": Decimal(str(delivered)), "observed_at": observed_at, **more}


def frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Rows as a frame of plain Python objects; `columns` for an answer without rows."""
    made = [dict(row) for row in rows]
    return pd.DataFrame(made, columns=None if columns is None else pd.Index(columns), dtype=object)


def days(first: int, last: int, asked_at: datetime) -> ReplaceRange:
    """Days to replace, each its own window, counted from `first`."""
    window_of = {day(number): number - first for number in range(first, last + 1)}
    return ReplaceRange("date", day(first), day(last), asked_at, window_of)


def synced(
    number: int, asked_at: datetime, rows: int = 0, requests: int = 1, row_counts: RowCounts | None = None
) -> SyncedWindow:
    """A window that was requested and is complete."""
    return SyncedWindow(window(number), asked_at, asked_at, rows, requests, row_counts or RowCounts())


@dataclass(frozen=True)
class Store:
    """One migrated schema, `SLUG`, in a separate database."""

    dsn: str = field(repr=False)
    engine: sa.Engine

    def target(self, name: str) -> DestinationTable:
        """The table, reflected as for the writer."""
        with self.engine.connect() as connection:
            return reflect(connection, SLUG, name)

    def view(self, name: str) -> sa.Table:
        """A view, reflected from the catalog."""
        return sa.Table(name, sa.MetaData(), schema=SLUG, autoload_with=self.engine)

    def merge(
        self,
        name: str,
        rows: pd.DataFrame | Iterable[Mapping[str, Any]],
        *,
        precedence: Mapping[str, Sequence[str]] | None = None,
        replaces: ReplaceRange | None = None,
    ) -> RowCounts:
        """Merge rows in their own transaction; return the changes over all windows."""
        return sum(self.counts_by_window(name, rows, precedence=precedence, replaces=replaces).values(), RowCounts())

    def counts_by_window(
        self,
        name: str,
        rows: pd.DataFrame | Iterable[Mapping[str, Any]],
        *,
        precedence: Mapping[str, Sequence[str]] | None = None,
        replaces: ReplaceRange | None = None,
    ) -> CountsByWindow:
        """`merge`, with the changes of each window."""
        given = rows if isinstance(rows, pd.DataFrame) else frame(rows)
        with self.engine.begin() as connection:
            return merge(connection, reflect(connection, SLUG, name), given, precedence=precedence, replaces=replaces)

    def run(self, statement: str, **parameters: Any) -> None:
        """Execute SQL with the schema on the search path, and commit."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(f'SET LOCAL search_path TO "{SLUG}"'))
            connection.execute(sa.text(statement), parameters)

    def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query with the schema on the search path."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(f'SET LOCAL search_path TO "{SLUG}"'))
            return [tuple(row) for row in connection.execute(sa.text(query), parameters)]

    def values(self, query: str, **parameters: Any) -> list[Any]:
        """The only column of a query."""
        return [row[0] for row in self.rows(query, **parameters)]

    def value(self, query: str, **parameters: Any) -> Any:
        """The only value of a query."""
        [value] = self.values(query, **parameters)
        return value

    def versions(self, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
        """The physical version of every row: any write to a row, even of the same content, changes it."""
        return {table: self.rows(f"SELECT ctid::text, xmin::text FROM {table} ORDER BY ctid") for table in tables}

    def history(self, id: str, column: str = "name") -> list[tuple[Any, datetime, datetime | None]]:
        """The states of a flow in order: a column's value, its start and its end."""
        states = self.rows(
            f"SELECT {column}, valid_from, valid_to FROM flows_history WHERE id = :id ORDER BY valid_from", id=id
        )
        return [(value, since, until) for value, since, until in states]

    def record(self, entity: str, *windows: SyncedWindow, metric: str | None = None, run_id: str = "run") -> None:
        """Record windows as synced in the ledger."""
        with self.engine.begin() as connection:
            Ledger(SLUG, entity).record_synced(connection, windows, run_id=run_id, report_context=ReportContext(metric))

    def record_failed(self, entity: str, *numbers: int, error: str = "no answer", run_id: str = "bad run") -> None:
        """Record a failed attempt at these windows."""
        with self.engine.begin() as connection:
            Ledger(SLUG, entity).record_failed(
                connection, [window(number) for number in numbers], run_id=run_id, started_at=NOON, error=error
            )

    def ledger(self, entity: str, *columns: str) -> list[tuple[Any, ...]]:
        """These columns of the ledger's rows, in order of time."""
        names = ", ".join(columns)
        return self.rows(
            f"SELECT {names} FROM sync_windows WHERE entity = :entity ORDER BY window_start", entity=entity
        )
