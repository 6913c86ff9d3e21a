"""What a report reads from Postgres: figures by day and by object, the account, and how complete the days are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from klaviyo_pipeline.postgres.metrics import MetricsTable
from klaviyo_pipeline.reporting.figures import Figures, Kind
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.subjects import Subject

NAME_LENGTH = 1_000
"""Characters of a name that are read: a name may be a megabyte long."""


@dataclass(frozen=True)
class AccountFacts:
    """What the schema says of the account; `zone` is that of the days, None before anything was synced."""

    account_id: str | None = None
    zone: str | None = None
    currency: str | None = None
    attribution_days: int | None = None


@dataclass(frozen=True)
class Ranked(Generic[Kind]):
    """An object's figures over a period; `last_day` is the latest day on which it has any."""

    id: str
    name: str | None
    status: str | None
    last_day: date
    figures: Kind


@dataclass(frozen=True)
class Coverage:
    """The days of a period whose figures are not there, not of a whole day, or not final yet.

    `without_revenue` are those of which Klaviyo gives no revenue for the conversion metric.
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
    """Reads one account's schema over one connection: in a snapshot, if all is to fit together."""

    connection: sa.Connection
    schema: str

    def account(self) -> AccountFacts:
        table = self._table("account", "account_id", "window_timezone", "currency", "attribution_days")
        row = self.connection.execute(sa.select(*table.c)).first()
        return AccountFacts(*row) if row else AccountFacts()

    def by_day(self, subject: Subject[Kind], period: Period) -> dict[date, Kind]:
        """The figures of all objects together, for each day that has any."""
        kind = subject.kind
        names = [name for name in kind.columns() if name not in kind.LATEST]
        table = self._table(subject.table.name, "date", *names)
        query = (
            sa.select(table.c.date, *(_sum(kind, table.c[name]).label(name) for name in names))
            .where(table.c.date.between(period.first, period.last))
            .group_by(table.c.date)
        )
        return {row.pop("date"): kind(**row) for row in self._rows(query)}

    def by_object(self, subject: Subject[Kind], period: Period) -> list[Ranked[Kind]]:
        """Every object with figures in the period, highest rank first."""
        kind, key, name, status = subject.kind, subject.table.key, subject.name_column, subject.status_column
        told = [name, status] if status else [name]
        table = self._table(subject.table.name, key, "date", *told, *kind.columns())
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
            Ranked(id, shown, state, day, kind(*figures))
            for id, shown, state, day, *figures in self.connection.execute(query)
        ]
        return sorted(found, key=lambda one: (_descending(getattr(one.figures, subject.rank)), one.id))

    def coverage(self, table: MetricsTable, period: Period) -> Coverage:
        """How complete these days are. A day of metrics is as complete, and as final, as the report it sums up."""
        states = self._states(table, period)
        synced = [day for day, (state, *_) in states.items() if state == "synced"]
        return Coverage(
            missing=tuple(day for day in period.days if states.get(day, ("missing",))[0] in ("missing", "failed")),
            open=tuple(day for day, (state, *_) in states.items() if state == "open"),
            unsettled=tuple(day for day in synced if not states[day][1]),
            synced=len(synced),
            without_revenue=tuple(day for day, (*_, refused) in states.items() if "conversion_value" in refused),
        )

    def last_settled_day(self, *reports: str) -> date | None:
        """The newest day whose figures are final in one of these reports."""
        days = self._table("report_days", "entity", "date", "is_settled")
        query = sa.select(sa.func.max(days.c.date)).where(days.c.entity.in_(reports), days.c.is_settled)
        found: date | None = self.connection.execute(query).scalar_one()
        return found

    def statuses(self) -> list[Mapping[str, Any]]:
        """The view `sync_status`, a row for each asset."""
        view = self._table(
            "sync_status", "entity", "status", "last_synced_at", "synced_through", "windows_missing", "last_error"
        )
        return [dict(row) for row in self.connection.execute(sa.select(*view.c)).mappings()]

    def now(self) -> datetime:
        """The database's clock: the beginning of the transaction."""
        moment: datetime = self.connection.execute(sa.select(sa.func.now())).scalar_one()
        return moment

    def _states(self, table: MetricsTable, period: Period) -> dict[date, tuple[str, bool, list[str]]]:
        windows = self._table("window_states", "entity", "window_start", "state")
        account = self._table("account", "window_timezone")
        reported = self._table("report_days", "entity", "date", "is_settled", "refused_statistics")
        day = sa.cast(sa.func.timezone(account.c.window_timezone, windows.c.window_start), sa.Date)
        query = (
            sa.select(
                day.label("day"),
                windows.c.state,
                sa.func.coalesce(reported.c.is_settled, sa.false()),
                reported.c.refused_statistics,
            )
            .select_from(
                windows.join(account, sa.true()).outerjoin(
                    reported, sa.and_(reported.c.entity == table.report, reported.c.date == day)
                )
            )
            .where(windows.c.entity == table.name, day.between(period.first, period.last))
            .order_by(day)
        )
        rows = self.connection.execute(query)
        return {found: (state, settled, refused or []) for found, state, settled, refused in rows}

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in self.connection.execute(query).mappings()]

    def _table(self, name: str, *columns: str) -> sa.TableClause:
        return sa.table(name, *(sa.column(column) for column in columns), schema=self.schema)


def _sum(kind: type[Figures], column: sa.ColumnClause[Any]) -> sa.ColumnElement[Any]:
    added_up: sa.ColumnElement[Any] = sa.func.sum(column)
    whole = sa.func.count(column) == sa.func.count()
    return sa.case((whole, added_up)) if column.name in kind.WHOLE else added_up


def _latest(column: sa.ColumnElement[Any], day: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.array_agg(aggregate_order_by(column, day.desc()), type_=sa.ARRAY(sa.Numeric))[1]


def _descending(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else -value)
