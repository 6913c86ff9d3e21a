"""The ledger: what was asked of Klaviyo, window by window, and what came.

A row says `synced` exactly when the window's rows are in the table: it is written in the transaction of the last
batch of its data. A failed attempt leaves its reason, and never takes `synced` away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.windows import Window

PRESENT_MARGIN = timedelta(seconds=5)
"""Klaviyo refuses to be asked about the last seconds; a window is done when it was asked this long after its end."""

ERROR_LENGTH = 2_000


@dataclass(frozen=True)
class SyncedWindow:
    """A window whose rows are complete: when it was asked (UTC), what came, how many requests it took.

    `newest` is the latest time (UTC) that an object of the window was updated at; None without any.
    """

    window: Window
    asked_at: datetime
    started_at: datetime
    rows_fetched: int
    requests: int
    row_counts: RowCounts
    newest: datetime | None = None

    @property
    def rows_unchanged(self) -> int:
        return self.rows_fetched - self.row_counts.inserted - self.row_counts.updated


@dataclass(frozen=True)
class ReportContext:
    """What a report's figures depend on, and what the account was set to when it was asked; None for entities.

    `refused_statistics` are those that Klaviyo does not give for the metric.
    """

    conversion_metric_id: str | None = None
    account_timezone: str | None = None
    account_currency: str | None = None
    refused_statistics: list[str] = field(default_factory=list)


def last_synced(connection: sa.Connection, schema: str) -> datetime | None:
    """When a window of any asset of this account was last synced; None if none ever was."""
    ledger = sa.table("sync_windows", sa.column("status"), sa.column("finished_at"), schema=schema)
    moment: datetime | None = connection.execute(
        sa.select(sa.func.max(ledger.c.finished_at)).where(ledger.c.status == "synced")
    ).scalar_one()
    return moment


@dataclass(frozen=True)
class Ledger:
    """The ledger of one entity (an asset's table name) in one account's schema."""

    schema: str
    entity: str

    @property
    def table(self) -> sa.TableClause:
        return sa.table(
            "sync_windows",
            *(
                sa.column(name)
                for name in [
                    "entity",
                    "window_start",
                    "window_end",
                    "status",
                    "asked_at",
                    "rows_fetched",
                    "rows_inserted",
                    "rows_updated",
                    "rows_unchanged",
                    "rows_deleted",
                    "requests",
                    "attempts",
                    "run_id",
                    "started_at",
                    "finished_at",
                    "error",
                    "conversion_metric_id",
                    "account_timezone",
                    "account_currency",
                    "refused_statistics",
                ]
            ),
            schema=self.schema,
        )

    def record_synced(
        self,
        connection: sa.Connection,
        windows: Sequence[SyncedWindow],
        *,
        run_id: str,
        report_context: ReportContext | None = None,
    ) -> None:
        """Write the windows as synced, in the caller's transaction: that of the last batch of their rows.

        Of two attempts at the same window the one that asked later stands.
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
                    "rows_fetched": synced.rows_fetched,
                    "rows_inserted": synced.row_counts.inserted,
                    "rows_updated": synced.row_counts.updated,
                    "rows_unchanged": synced.rows_unchanged,
                    "rows_deleted": synced.row_counts.deleted,
                    "requests": synced.requests,
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
        """Note a failed attempt at these windows; those that were synced before stay as they were, with the error."""
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

    def done(self, connection: sa.Connection, *, conversion_metric_id: str | None = None) -> dict[datetime, datetime]:
        """Starts of the windows that need not be asked again, each with the moment it was asked.

        With a conversion metric, a window that was asked with another one does not count.
        """
        table = self.table
        query = sa.select(table.c.window_start, table.c.asked_at).where(
            table.c.entity == self.entity,
            table.c.status == "synced",
            table.c.asked_at >= table.c.window_end + PRESENT_MARGIN,
        )
        if conversion_metric_id is not None:
            query = query.where(table.c.conversion_metric_id == conversion_metric_id)
        return {start.astimezone(UTC): requested.astimezone(UTC) for start, requested in connection.execute(query)}

    def conversion_metric(self, connection: sa.Connection) -> str | None:
        """The metric that a report was last asked with; None before that."""
        table = self.table
        query = (
            sa.select(table.c.conversion_metric_id)
            .where(table.c.entity == self.entity, table.c.status == "synced", table.c.conversion_metric_id.is_not(None))
            .order_by(table.c.asked_at.desc())
            .limit(1)
        )
        found: str | None = connection.execute(query).scalar_one_or_none()
        return found

    def requested(self, connection: sa.Connection, windows: Sequence[Window]) -> dict[datetime, datetime]:
        """Starts of those of these contiguous windows that are synced, each with the moment it was asked."""
        table = self.table
        query = sa.select(table.c.window_start, table.c.asked_at).where(
            table.c.entity == self.entity,
            table.c.window_start.between(windows[0].start, windows[-1].start),
            table.c.status == "synced",
        )
        return {start.astimezone(UTC): requested.astimezone(UTC) for start, requested in connection.execute(query)}
