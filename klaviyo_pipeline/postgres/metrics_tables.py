"""The metrics tables: sums of a report by object and period, computed in Postgres.

Flow metrics can also be read as sums over any range of days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.catalog import MetricsTable, has_conversion_metric, period_column
from klaviyo_pipeline.postgres.schema.system_tables import system_table
from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT, DestinationTable, reflect

Row = dict[str, Any]

_KNOWN = """
SELECT EXISTS (SELECT FROM {schema}.flows WHERE id = :flow_id)
    OR EXISTS (SELECT FROM {schema}.flow_metrics WHERE flow_id = :flow_id)
"""

_BETWEEN = """
SELECT * FROM {schema}.flow_metrics_between(:first, :last)
WHERE flow_id = coalesce(CAST(:flow_id AS text), flow_id)
ORDER BY conversion_value DESC NULLS LAST, flow_id
"""


@dataclass(frozen=True)
class Metrics:
    """One metrics table in one account's schema."""

    schema: str
    table: MetricsTable

    def compute(self, connection: sa.Connection, first: date, last: date) -> list[Row]:
        """Compute one row per object and period of the report, for the periods that begin from `first` to `last`.

        Both days are included. The rates are not among the columns: the table generates them from the sums.
        """
        metrics, report, entity = (
            reflect(connection, self.schema, name) for name in (self.table.name, self.table.report, self.table.entity)
        )
        statistics, named = report.table, entity.table
        latest = {name: named.c[source] for name, source in self.table.named.items()}
        optional = {
            "covered_from": sa.func.min(statistics.c.get("covered_from", sa.null())),
            "covered_to": sa.func.max(statistics.c.get("covered_to", sa.null())),
            "messages": sa.func.count(),
            "conversion_metric_id": sa.func.max(statistics.c.get("conversion_metric_id", sa.null())),
        }
        key, period = statistics.c[self.table.key], statistics.c[period_column(self.table.report)]
        query = (
            sa.select(
                key,
                period,
                *(column.label(name) for name, column in latest.items()),
                *(column.label(name) for name, column in optional.items() if name in metrics.written),
                *(sa.func.sum(statistics.c[name]).label(name) for name in _sums(metrics, report)),
                sa.func.statement_timestamp().label(OBSERVED_AT),
            )
            .select_from(statistics.outerjoin(named, named.c.id == key))
            .where(period.between(first, last), self._is_of_first_metric(statistics, period))
            .group_by(key, period, *latest.values())
            .order_by(key, period)
        )
        return [dict(row) for row in connection.execute(query).mappings()]

    def _is_of_first_metric(self, report: sa.Table, period: sa.ColumnElement[date]) -> sa.ColumnElement[bool]:
        """Whether the ledger has no other conversion metric for the period of a report's row than that of the row."""
        if not has_conversion_metric(self.table.report):
            return sa.true()
        ledger, account = system_table(self.schema, "sync_windows"), system_table(self.schema, "account")
        day = sa.cast(sa.func.timezone(account.c.window_timezone, ledger.c.window_start), sa.Date)
        other = sa.exists().where(
            # Windows of any status: a failed window keeps the metric of its rows.
            ledger.c.entity == self.table.report,
            day == period,
            ledger.c.conversion_metric_id != report.c.conversion_metric_id,
        )
        return ~other

    def columns(self, connection: sa.Connection) -> tuple[str, ...]:
        """The columns that `compute` fills."""
        return reflect(connection, self.schema, self.table.name).written

    def refresh_names(self, connection: sa.Connection) -> int:
        """Copy the latest name, status and so on of each object to its metrics rows; return how many rows changed."""
        metrics = sa.table(
            self.table.name,
            *(sa.column(name) for name in (self.table.key, *self.table.named)),
            schema=self.schema,
        )
        entity = sa.table(
            self.table.entity, *(sa.column(name) for name in ("id", *self.table.named.values())), schema=self.schema
        )
        latest = {name: entity.c[source] for name, source in self.table.named.items()}
        differs = sa.or_(*(metrics.c[name].is_distinct_from(value) for name, value in latest.items()))
        return connection.execute(
            sa.update(metrics).values(latest).where(metrics.c[self.table.key] == entity.c.id, differs)
        ).rowcount

    def stale(self, connection: sa.Connection, first: datetime, last: datetime) -> set[datetime]:
        """The starts of the report's synced windows whose metrics are missing or were computed from an earlier request.

        A metrics window has the `asked_at` of the report window that it was computed from. If the report window now has
        a later `asked_at`, it was requested again.
        """
        ledger = system_table(self.schema, "sync_windows")
        report, metrics = ledger.alias("report"), ledger.alias("metrics")
        query = (
            sa.select(report.c.window_start)
            .select_from(
                report.outerjoin(
                    metrics,
                    sa.and_(
                        metrics.c.entity == self.table.name,
                        metrics.c.status == "synced",
                        metrics.c.window_start == report.c.window_start,
                    ),
                )
            )
            .where(
                report.c.entity == self.table.report,
                report.c.status == "synced",
                report.c.window_start.between(first, last),
                sa.or_(metrics.c.asked_at.is_(None), metrics.c.asked_at < report.c.asked_at),
            )
        )
        return {start.astimezone(UTC) for start in connection.execute(query).scalars()}


def flow_metrics_between(
    connection: sa.Connection, schema: str, first: date, last: date, *, flow_id: str | None = None
) -> Iterator[Row]:
    """Yield one row for each flow over the days from `first` to `last`, both included, highest revenue first.

    Counts are summed. If the column `uniques` is `exact`, the unique counts are Klaviyo's own for these days, and the
    rates are computed from them. If it is `weighted`, the unique counts are None, and the rates of unique counts are
    averages of the daily rates, weighted by deliveries (`click_to_open_rate`: by opens).
    """
    query = _in_schema(connection, schema, _BETWEEN)
    for row in connection.execute(query, {"first": first, "last": last, "flow_id": flow_id}).mappings():
        yield dict(row)


def is_known_flow(connection: sa.Connection, schema: str, flow_id: str) -> bool:
    """Whether `flows` or `flow_metrics` has a row of this flow."""
    known: bool = connection.execute(_in_schema(connection, schema, _KNOWN), {"flow_id": flow_id}).scalar_one()
    return known


def _in_schema(connection: sa.Connection, schema: str, query: str) -> sa.TextClause:
    # Not `sa.func`: it does not quote a schema whose name is a reserved word of SQL.
    return sa.text(query.format(schema=connection.dialect.identifier_preparer.quote_identifier(schema)))


def _sums(metrics: DestinationTable, report: DestinationTable) -> list[str]:
    others = {"conversion_metric_id", "covered_from", "covered_to", OBSERVED_AT, *metrics.key}
    return [name for name in metrics.written if name in report.table.columns and name not in others]
