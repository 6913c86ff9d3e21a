"""Reads Klaviyo's unique counts of flows for a whole period, if they are stored.

These counts are stored for a single day, for a calendar week or month, and for a period that was requested with
`metrics --exact`. For any other period, only daily unique counts are known, and their sum counts some people twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.catalog import FLOW_METRICS_MONTHLY, FLOW_METRICS_WEEKLY, MetricsTable
from klaviyo_pipeline.reporting.metric_values import Sending, added
from klaviyo_pipeline.reporting.period import DAY, Period
from klaviyo_pipeline.reporting.queries import NAME_LENGTH, Ranked, Reader, ranked
from klaviyo_pipeline.reporting.subjects import FLOWS

WEEK = 7 * DAY
_NAMES = ("flow_id", "flow_name", "flow_status")
WEEKS_LISTED = timedelta(days=62)
"""The longest period for which calendar weeks are listed. For a longer one, calendar months are listed."""


def exact_flows(reader: Reader, period: Period) -> list[Ranked[Sending]] | None:
    """The flows with the unique counts of the whole period, ordered by revenue; None if these counts are not stored."""
    found = _requested(reader, period)
    if not found and (table := _calendar_table(period)) is not None:
        found = _calendar(reader, table, period)
    return found or None


def exact_periods(reader: Reader, period: Period) -> tuple[MetricsTable, list[tuple[Period, Sending]]]:
    """The weekly or monthly table, and each complete week or month within the period with the sums of all flows."""
    table = FLOW_METRICS_WEEKLY if period.last - period.first < WEEKS_LISTED else FLOW_METRICS_MONTHLY
    columns = reader.table(table.name, "period_start", "covered_from", "covered_to", *Sending.columns())
    query = (
        sa.select(columns)
        .where(columns.c.period_start >= period.first, columns.c.covered_to <= period.last)
        .order_by(columns.c.period_start)
    )
    by_period: dict[Period, list[Sending]] = {}
    for row in reader.connection.execute(query).mappings():
        covered = Period(row["covered_from"], row["covered_to"])
        if covered.first == row["period_start"] and _calendar_table(covered) is table:
            by_period.setdefault(covered, []).append(Sending(**{name: row[name] for name in Sending.columns()}))
    return table, [(covered, added(Sending, values)) for covered, values in by_period.items()]


def _calendar_table(period: Period) -> MetricsTable | None:
    """The table that contains this period if it is one calendar week (Monday to Sunday) or month; None otherwise."""
    after = period.last + DAY
    if period.first.weekday() == 0 and after - period.first == WEEK:
        return FLOW_METRICS_WEEKLY
    if period.first.day == after.day == 1 and after - period.first <= timedelta(days=31):
        return FLOW_METRICS_MONTHLY
    return None


def _calendar(reader: Reader, table: MetricsTable, period: Period) -> list[Ranked[Sending]]:
    if reader.coverage(table, period).synced < len(period.days):
        return []
    metrics = reader.table(table.name, *_NAMES, "period_start", "covered_from", "covered_to", *Sending.columns())
    query = _selected(metrics).where(
        metrics.c.period_start == period.first,
        metrics.c.covered_from == period.first,
        metrics.c.covered_to == period.last,
    )
    return _ranked(reader, query, period.last)


def _requested(reader: Reader, period: Period) -> list[Ranked[Sending]]:
    # `sa.func` would not quote a schema whose name is a reserved word of SQL.
    schema = reader.connection.dialect.identifier_preparer.quote_identifier(reader.schema)
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in (*_NAMES, *Sending.columns(), "uniques")]
    between = sa.text(f"SELECT * FROM {schema}.flow_metrics_between(:first, :last)").bindparams(**vars(period))  # noqa: S608 - the schema is quoted
    metrics = between.columns(*columns).subquery()
    return _ranked(reader, _selected(metrics).where(metrics.c.uniques == "exact"), period.last)


def _selected(metrics: sa.FromClause) -> sa.Select[Any]:
    id, name, status = (metrics.c[one] for one in _NAMES)
    return sa.select(id, sa.func.left(name, NAME_LENGTH), status, *(metrics.c[one] for one in Sending.columns()))


def _ranked(reader: Reader, query: sa.Select[Any], last: date) -> list[Ranked[Sending]]:
    rows: Sequence[Any] = reader.connection.execute(query).all()
    return ranked([Ranked(row[0], row[1], row[2], last, Sending(*row[3:])) for row in rows], FLOWS.rank)
