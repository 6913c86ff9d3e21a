"""`flow_metrics`: sums by flow and day, computed in Postgres from the report, and read back for any span of days."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.postgres.tables import OBSERVED_AT, Target, reflect

NAMED = {"flow_name": "name", "flow_status": "status", "trigger_type": "trigger_type"}
"""Columns of `flow_metrics` that repeat the flow's latest state, by the flow's column."""

Row = dict[str, Any]


@dataclass(frozen=True)
class FlowMetrics:
    """The metrics of one account's schema."""

    schema: str

    def compute(self, connection: sa.Connection, first: date, last: date) -> list[Row]:
        """One row for each flow and day that the report has figures for, days inclusive; rates are the table's own."""
        metrics, report, flows = (
            reflect(connection, self.schema, name) for name in ("flow_metrics", "flow_report", "flows")
        )
        figures, named = report.table, flows.table
        query = (
            sa.select(
                figures.c.flow_id,
                figures.c.date,
                *(named.c[source].label(name) for name, source in NAMED.items()),
                sa.func.count().label("messages"),
                *(sa.func.sum(figures.c[name]).label(name) for name in _sums(metrics, report)),
                sa.func.max(figures.c.conversion_metric_id).label("conversion_metric_id"),
                sa.func.statement_timestamp().label(OBSERVED_AT),
            )
            .select_from(figures.outerjoin(named, named.c.id == figures.c.flow_id))
            .where(figures.c.date.between(first, last))
            .group_by(figures.c.flow_id, figures.c.date, *(named.c[source] for source in NAMED.values()))
            .order_by(figures.c.flow_id, figures.c.date)
        )
        return [dict(row) for row in connection.execute(query).mappings()]

    def columns(self, connection: sa.Connection) -> tuple[str, ...]:
        """The columns that `compute` fills."""
        return reflect(connection, self.schema, "flow_metrics").written

    def refresh_names(self, connection: sa.Connection) -> int:
        """Give every row its flow's latest name, status and trigger type; return how many changed."""
        metrics = sa.table("flow_metrics", *(sa.column(name) for name in ("flow_id", *NAMED)), schema=self.schema)
        flows = sa.table("flows", *(sa.column(name) for name in ("id", *NAMED.values())), schema=self.schema)
        latest = {name: flows.c[source] for name, source in NAMED.items()}
        differs = sa.or_(*(metrics.c[name].is_distinct_from(value) for name, value in latest.items()))
        return connection.execute(
            sa.update(metrics).values(latest).where(metrics.c.flow_id == flows.c.id, differs)
        ).rowcount

    def reported(self, connection: sa.Connection, first: datetime, last: datetime) -> dict[datetime, datetime]:
        """Starts of the report's synced windows from `first` to `last`, each with the moment it was asked."""
        names = ("entity", "window_start", "status", "asked_at")
        ledger = sa.table("sync_windows", *(sa.column(name) for name in names), schema=self.schema)
        query = sa.select(ledger.c.window_start, ledger.c.asked_at).where(
            ledger.c.entity == "flow_report",
            ledger.c.status == "synced",
            ledger.c.window_start.between(first, last),
        )
        return {start.astimezone(UTC): asked for start, asked in connection.execute(query)}

    def stale(self, connection: sa.Connection, first: datetime, last: datetime) -> set[datetime]:
        """Starts of the windows whose report was synced after their metrics were computed, or without any."""
        names = ("entity", "window_start", "status", "finished_at")
        ledger = sa.table("sync_windows", *(sa.column(name) for name in names), schema=self.schema)
        report, metrics = ledger.alias("report"), ledger.alias("metrics")
        query = (
            sa.select(report.c.window_start)
            .select_from(
                report.outerjoin(
                    metrics,
                    sa.and_(
                        metrics.c.entity == "flow_metrics",
                        metrics.c.status == "synced",
                        metrics.c.window_start == report.c.window_start,
                    ),
                )
            )
            .where(
                report.c.entity == "flow_report",
                report.c.status == "synced",
                report.c.window_start.between(first, last),
                sa.or_(metrics.c.finished_at.is_(None), metrics.c.finished_at < report.c.finished_at),
            )
        )
        return {start.astimezone(UTC) for start in connection.execute(query).scalars()}

    def between(
        self, connection: sa.Connection, first: date, last: date, *, flow_id: str | None = None
    ) -> Iterator[Row]:
        """One row for each flow over the days from `first` to `last`, highest revenue first.

        Counts are summed; rates that rest on uniques are the daily ones weighted by deliveries.
        """
        function = getattr(sa.func, self.schema).flow_metrics_between(first, last)
        spans = sa.select(sa.text("*")).select_from(function.alias("span"))
        if flow_id is not None:
            spans = spans.where(sa.column("flow_id") == flow_id)
        spans = spans.order_by(sa.column("conversion_value").desc().nulls_last(), sa.column("flow_id"))
        for row in connection.execute(spans).mappings():
            yield dict(row)


def _sums(metrics: Target, report: Target) -> list[str]:
    kept = {"conversion_metric_id", OBSERVED_AT, *metrics.key}
    return [name for name in metrics.written if name in report.table.columns and name not in kept]
