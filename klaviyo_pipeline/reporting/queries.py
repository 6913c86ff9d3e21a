"""The queries of a report: metrics by day and by object, the account, and the coverage of the days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Generic

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from klaviyo_pipeline.catalog import CONVERSIONS_DAILY, MetricsTable
from klaviyo_pipeline.reporting.metric_values import Kind, MetricValues
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.subjects import Subject

_COVERED = "SELECT date, state FROM {schema}.days_covered(:asset, :first, :last)"

NAME_LENGTH = 1_000
"""The largest number of characters of a name that is read. A name in Klaviyo can be a megabyte long."""


@dataclass(frozen=True)
class AccountFacts:
    """The account in the schema. `zone` is the time zone of the windows. All fields are None before the first sync."""

    account_id: str | None = None
    zone: str | None = None
    currency: str | None = None
    attribution_days: int | None = None


@dataclass(frozen=True)
class Ranked(Generic[Kind]):
    """An object's metrics over a period. `last_day` is its latest day with metrics."""

    id: str
    name: str | None
    status: str | None
    last_day: date
    values: Kind


@dataclass(frozen=True)
class Coverage:
    """How complete a table is on the days of a period. `synced` counts the days that were requested after their end.

    `missing` days are not synced, or their sync failed. `open` days were requested before they ended. On `unsettled`
    days, which are synced, metrics may still change. On the days in `without_revenue`, Klaviyo refuses the revenue for
    the conversion metric.
    """

    missing: tuple[date, ...]
    open: tuple[date, ...]
    unsettled: tuple[date, ...]
    synced: int
    without_revenue: tuple[date, ...] = ()

    @property
    def is_whole(self) -> bool:
        return not self.missing and not self.open


@dataclass(frozen=True)
class Reader:
    """Reads one account's schema over one connection. The results are consistent only in a snapshot transaction."""

    connection: sa.Connection
    schema: str

    def table(self, name: str, *columns: str) -> sa.TableClause:
        """A table or view in the account's schema, with only these columns."""
        return sa.table(name, *(sa.column(column) for column in columns), schema=self.schema)

    def of_latest_metric(self, report: sa.TableClause) -> sa.ColumnElement[bool]:
        """Whether a row belongs to the first conversion metric of the last request for its day.

        A report may have rows of several conversion metrics. A sum over all of them would count deliveries twice.
        """
        days = self.table("report_days", "entity", "date", "conversion_metric_id")
        same = days.c.conversion_metric_id.is_not_distinct_from(report.c.conversion_metric_id)
        return sa.exists().where(days.c.entity == report.name, days.c.date == report.c.date, same)

    def account(self) -> AccountFacts:
        table = self.table("account", "account_id", "window_timezone", "currency", "attribution_days")
        row = self.connection.execute(sa.select(*table.c)).first()
        return AccountFacts(*row) if row else AccountFacts()

    def by_day(self, subject: Subject[Kind], period: Period) -> dict[date, Kind]:
        """The sums over all objects, for each day with metrics."""
        kind = subject.kind
        names = [name for name in kind.columns() if name not in kind.LATEST]
        table = self.table(subject.table.name, "date", *names)
        query = (
            sa.select(table.c.date, *(_sum(kind, table.c[name]).label(name) for name in names))
            .where(table.c.date.between(period.first, period.last))
            .group_by(table.c.date)
        )
        return {row.pop("date"): kind(**row) for row in self._rows(query)}

    def by_object(self, subject: Subject[Kind], period: Period) -> list[Ranked[Kind]]:
        """Every object with metrics in the period, ordered by the metric `subject.rank`, highest first."""
        kind, key, name, status = subject.kind, subject.table.key, subject.name_column, subject.status_column
        label_columns = [name, status] if status else [name]
        table = self.table(subject.table.name, key, "date", *label_columns, *kind.columns())
        query = (
            sa.select(
                table.c[key],
                sa.func.left(sa.func.max(table.c[name]), NAME_LENGTH),
                sa.func.max(table.c[status]) if status else sa.null(),
                sa.func.max(table.c.date),
                *(
                    _latest(table.c[one], table.c.date) if one in kind.LATEST else _sum(kind, table.c[one])
                    for one in kind.columns()
                ),
            )
            .where(table.c.date.between(period.first, period.last))
            .group_by(table.c[key])
        )
        found = [
            Ranked(id, name_shown, state, day, kind(*values))
            for id, name_shown, state, day, *values in self.connection.execute(query)
        ]
        return ranked(found, subject.rank)

    def coverage(self, table: MetricsTable, period: Period) -> Coverage:
        """The coverage of these days in a metrics table. A day is final if the report of that day is final."""
        return self._reported(table.name, table.report, period)

    def coverage_of_conversions(self, period: Period) -> Coverage:
        """The coverage of these days in `conversions_daily`."""
        return self._reported(CONVERSIONS_DAILY, CONVERSIONS_DAILY, period)

    def coverage_of_listing(self, entity: str, period: Period) -> Coverage:
        """The coverage of these days for an entity: whether the objects that were updated on each day are synced."""
        return self._coverage(entity, period, set(period.days))

    def last_settled_day(self, *reports: str) -> date | None:
        """The latest day with final values in one of these reports."""
        days = self.table("report_days", "entity", "date", "is_settled")
        query = sa.select(sa.func.max(days.c.date)).where(days.c.entity.in_(reports), days.c.is_settled)
        found: date | None = self.connection.execute(query).scalar_one()
        return found

    def statuses(self) -> list[Mapping[str, Any]]:
        """The view `sync_status`, one row for each asset."""
        view = self.table(
            "sync_status", "entity", "status", "last_synced_at", "synced_through", "windows_missing", "last_error"
        )
        return [dict(row) for row in self.connection.execute(sa.select(*view.c)).mappings()]

    def now(self) -> datetime:
        """The start of the transaction, by the database's clock."""
        moment: datetime = self.connection.execute(sa.select(sa.func.now())).scalar_one()
        return moment

    def _reported(self, asset: str, report: str, period: Period) -> Coverage:
        days = self.table("report_days", "entity", "date", "is_settled", "refused_statistics")
        query = sa.select(days.c.date, days.c.is_settled, days.c.refused_statistics).where(
            days.c.entity == report, days.c.date.between(period.first, period.last)
        )
        reported = self.connection.execute(query).all()
        coverage = self._coverage(asset, period, {day for day, is_settled, _ in reported if is_settled})
        refused = sorted(day for day, _, names in reported if "conversion_value" in (names or []))
        return replace(coverage, without_revenue=tuple(refused))

    def _coverage(self, asset: str, period: Period, settled: set[date]) -> Coverage:
        # `sa.func` would not quote a schema whose name is a reserved word of SQL.
        schema = self.connection.dialect.identifier_preparer.quote_identifier(self.schema)
        query = sa.text(_COVERED.format(schema=schema))
        by_state: dict[str, list[date]] = defaultdict(list)
        for day, state in self.connection.execute(query, {"asset": asset, **vars(period)}):
            by_state[state].append(day)
        return Coverage(
            missing=tuple(sorted([*by_state["missing"], *by_state["failed"]])),
            open=tuple(by_state["open"]),
            unsettled=tuple(day for day in by_state["synced"] if day not in settled),
            synced=len(by_state["synced"]),
        )

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in self.connection.execute(query).mappings()]


def ranked(found: Iterable[Ranked[Kind]], metric: str) -> list[Ranked[Kind]]:
    """These objects, ordered by a metric, highest first. Objects without a value come last."""
    return sorted(found, key=lambda one: (_descending(getattr(one.values, metric)), one.id))


def _sum(kind: type[MetricValues], column: sa.ColumnClause[Any]) -> sa.ColumnElement[Any]:
    added_up: sa.ColumnElement[Any] = sa.func.sum(column)
    whole = sa.func.count(column) == sa.func.count()
    return sa.case((whole, added_up)) if column.name in kind.WHOLE else added_up


def _latest(column: sa.ColumnElement[Any], day: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.array_agg(aggregate_order_by(column, day.desc()), type_=sa.ARRAY(sa.Numeric))[1]


def _descending(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else -value)
