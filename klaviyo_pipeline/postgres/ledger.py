"""The ledger, the table `sync_windows`: when each window was requested, and how many rows it had.

A window is `synced` exactly when its rows are in the table: its ledger row is written in the transaction of the last
batch of its data. A failed attempt stores its error, and never changes a `synced` window to `failed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.schema.system_tables import system_table
from klaviyo_pipeline.windows import Window

PRESENT_MARGIN = timedelta(seconds=5)
"""A window is done if it was requested at least this long after its end: Klaviyo refuses requests for the last few
seconds before now."""

ERROR_LENGTH = 2_000
"""How many characters of an error the ledger and the table of censuses store."""


@dataclass(frozen=True)
class SyncedWindow:
    """A window whose rows are complete: when it was requested (UTC), and its counts of rows and requests.

    `newest` is the latest `updated` time (UTC) of the window's objects; None if the window has no objects.
    """

    window: Window
    asked_at: datetime
    started_at: datetime
    rows_fetched: int
    requests: int
    row_counts: RowCounts
    newest: datetime | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The counts of rows and requests, by the name of the ledger's column."""
        return {
            "rows_fetched": self.rows_fetched,
            "rows_inserted": self.row_counts.inserted,
            "rows_updated": self.row_counts.updated,
            # An object that is read twice can be inserted and then updated.
            "rows_unchanged": max(0, self.rows_fetched - self.row_counts.inserted - self.row_counts.updated),
            "rows_deleted": self.row_counts.deleted,
            "requests": self.requests,
        }


@dataclass(frozen=True)
class ReportContext:
    """The conversion metric of a report request, and the account's time zone and currency at the time of the request.

    For entities, all three are None. `refused_statistics` are the statistics that Klaviyo refuses for the metric.
    """

    conversion_metric_id: str | None = None
    account_timezone: str | None = None
    account_currency: str | None = None
    refused_statistics: list[str] = field(default_factory=list)


def last_synced(connection: sa.Connection, schema: str) -> datetime | None:
    """When a window of any asset of this account was last synced; None if none ever was."""
    ledger = system_table(schema, "sync_windows")
    moment: datetime | None = connection.execute(
        sa.select(sa.func.max(ledger.c.finished_at)).where(ledger.c.status == "synced")
    ).scalar_one()
    return moment


def synced_ranges(connection: sa.Connection, schema: str) -> dict[str, list[tuple[datetime, datetime]]]:
    """The synced windows of each entity, joined into ranges without gaps: (start, end) in UTC, in order."""
    ledger = system_table(schema, "sync_windows")
    previous_end = sa.func.lag(ledger.c.window_end).over(partition_by=ledger.c.entity, order_by=ledger.c.window_start)
    marked = (
        sa.select(
            ledger.c.entity,
            ledger.c.window_start,
            ledger.c.window_end,
            sa.case((previous_end == ledger.c.window_start, 0), else_=1).label("begins"),
        )
        .where(ledger.c.status == "synced")
        .subquery()
    )
    numbered = sa.select(
        marked.c.entity,
        marked.c.window_start,
        marked.c.window_end,
        sa.func.sum(marked.c.begins).over(partition_by=marked.c.entity, order_by=marked.c.window_start).label("number"),
    ).subquery()
    query = (
        sa.select(numbered.c.entity, sa.func.min(numbered.c.window_start), sa.func.max(numbered.c.window_end))
        .group_by(numbered.c.entity, numbered.c.number)
        .order_by(numbered.c.entity, numbered.c.number)
    )
    found: dict[str, list[tuple[datetime, datetime]]] = {}
    for entity, start, end in connection.execute(query):
        found.setdefault(entity, []).append((start.astimezone(UTC), end.astimezone(UTC)))
    return found


def of_metric(report: str, metric_id: str) -> str:
    """The ledger's name for the windows of a report with a further conversion metric.

    The windows with the first conversion metric have the report's own name.
    """
    return f"{report}:{metric_id}"


@dataclass(frozen=True)
class Ledger:
    """The ledger of one asset in one account's schema. `entity` is the asset's table, or the result of `of_metric`."""

    schema: str
    entity: str

    @property
    def table(self) -> sa.TableClause:
        return system_table(self.schema, "sync_windows")

    def record_synced(
        self,
        connection: sa.Connection,
        windows: Sequence[SyncedWindow],
        *,
        run_id: str,
        report_context: ReportContext | None = None,
    ) -> None:
        """Record the windows as synced, in the transaction in which the caller writes the last batch of their rows.

        Of two attempts at the same window, the ledger keeps the one with the later request.
        """
        if not windows:
            return
        table = self.table
        insert = pg.insert(table)
        replaced = {
            column.name: insert.excluded[column.name]
            for column in table.columns
            if column.name not in ("entity", "window_start", "attempts")
        }
        statement = insert.on_conflict_do_update(
            index_elements=["entity", "window_start"],
            set_={**replaced, "attempts": table.c.attempts + 1},
            where=sa.or_(table.c.asked_at.is_(None), table.c.asked_at <= insert.excluded.asked_at),
        )
        connection.execute(
            statement,
            [
                {
                    "entity": self.entity,
                    "window_start": synced.window.start,
                    "window_end": synced.window.end,
                    "status": "synced",
                    "asked_at": synced.asked_at,
                    **synced.counts,
                    "attempts": 1,
                    "run_id": run_id,
                    "started_at": synced.started_at,
                    "finished_at": datetime.now(UTC),
                    "error": None,
                    **asdict(report_context or ReportContext()),
                }
                for synced in windows
            ],
        )

    def record_failed(
        self,
        connection: sa.Connection,
        windows: Iterable[Window],
        *,
        run_id: str,
        started_at: datetime,
        error: str,
    ) -> None:
        """Record a failed attempt at these windows.

        A window that is already synced stays synced: only its error and its number of attempts change.
        """
        table = self.table
        kept = table.c.status == "synced"
        insert = pg.insert(table)
        statement = insert.on_conflict_do_update(
            index_elements=["entity", "window_start"],
            set_={
                "attempts": table.c.attempts + 1,
                "error": insert.excluded.error,
                **{
                    name: sa.case((kept, table.c[name]), else_=insert.excluded[name])
                    for name in ("run_id", "started_at", "finished_at")
                },
            },
        )
        rows = [
            {
                "entity": self.entity,
                "window_start": window.start,
                "window_end": window.end,
                "status": "failed",
                "attempts": 1,
                "run_id": run_id,
                "started_at": started_at,
                "finished_at": datetime.now(UTC),
                "error": error[:ERROR_LENGTH],
            }
            for window in windows
        ]
        if rows:
            connection.execute(statement, rows)

    def record_lost(
        self, connection: sa.Connection, starts: Sequence[datetime], error: str, *, asked_before: datetime
    ) -> None:
        """Change these windows from synced to failed, because the table lacks rows of them.

        A window that was requested after `asked_before` stays synced.
        """
        table = self.table
        connection.execute(
            sa.update(table)
            .where(
                table.c.entity == self.entity,
                table.c.window_start.in_(starts),
                table.c.status == "synced",
                table.c.asked_at <= asked_before,
            )
            .values(status="failed", error=error[:ERROR_LENGTH])
        )

    def done(self, connection: sa.Connection, *, conversion_metric_id: str | None = None) -> dict[datetime, datetime]:
        """The windows that need no further request, by start, each with the time of its request.

        With a conversion metric, only windows that were requested with this metric count, whether it was the first
        metric or a further one.
        """
        table = self.table
        query = sa.select(table.c.window_start, table.c.asked_at).where(
            table.c.status == "synced", table.c.asked_at >= table.c.window_end + PRESENT_MARGIN
        )
        if conversion_metric_id is None:
            query = query.where(table.c.entity == self.entity)
        else:
            names = (self.entity, of_metric(self.entity, conversion_metric_id))
            query = query.where(table.c.entity.in_(names), table.c.conversion_metric_id == conversion_metric_id)
        return {start.astimezone(UTC): requested.astimezone(UTC) for start, requested in connection.execute(query)}

    def conversion_metric(self, connection: sa.Connection) -> str | None:
        """The conversion metric of the report's latest request; None if no window with a metric is synced."""
        table = self.table
        query = (
            sa.select(table.c.conversion_metric_id)
            .where(table.c.entity == self.entity, table.c.status == "synced", table.c.conversion_metric_id.is_not(None))
            .order_by(table.c.asked_at.desc())
            .limit(1)
        )
        metric_id: str | None = connection.execute(query).scalar_one_or_none()
        return metric_id

    def requested(self, connection: sa.Connection, windows: Sequence[Window]) -> dict[datetime, datetime]:
        """The synced windows among these contiguous windows, by start, each with the time of its request."""
        table = self.table
        query = sa.select(table.c.window_start, table.c.asked_at).where(
            table.c.entity == self.entity,
            table.c.window_start.between(windows[0].start, windows[-1].start),
            table.c.status == "synced",
        )
        return {start.astimezone(UTC): requested.astimezone(UTC) for start, requested in connection.execute(query)}

    def committed_by(self, connection: sa.Connection, run_ids: Sequence[str]) -> set[datetime]:
        """The starts of the synced windows that were last synced by one of these runs."""
        table = self.table
        query = sa.select(table.c.window_start).where(
            table.c.entity == self.entity, table.c.run_id.in_(run_ids), table.c.status == "synced"
        )
        return {start.astimezone(UTC) for start in connection.execute(query).scalars()}

    def synced(self, connection: sa.Connection, windows: Sequence[Window]) -> list[SyncedWindow]:
        """The synced windows among `windows`, with their counts. `windows` must be in chronological order."""
        if not windows:
            return []
        table = self.table
        names = ("asked_at", "started_at", "rows_fetched", "requests", "rows_inserted", "rows_updated", "rows_deleted")
        query = sa.select(table.c.window_start, *(table.c[name] for name in names)).where(
            table.c.entity == self.entity,
            table.c.window_start.between(windows[0].start, windows[-1].start),
            table.c.status == "synced",
        )
        found = {row.window_start.astimezone(UTC): row for row in connection.execute(query)}
        return [
            SyncedWindow(
                window=window,
                asked_at=row.asked_at,
                started_at=row.started_at,
                rows_fetched=row.rows_fetched,
                requests=row.requests,
                row_counts=RowCounts(row.rows_inserted, row.rows_updated, row.rows_deleted),
            )
            for window in windows
            if (row := found.get(window.start)) is not None
        ]
