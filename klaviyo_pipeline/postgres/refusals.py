"""What Klaviyo refuses of its reports for a conversion metric, kept for a while."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

REFUSAL_HOLDS = timedelta(hours=20)
"""Within it the refused statistics are not asked for; a sync of the next day asks for all of them again."""


@dataclass(frozen=True)
class Refusal:
    """The statistics that a report (by Klaviyo's name) does not give for this metric; `refused_at` is UTC."""

    report: str
    metric_id: str
    statistics: frozenset[str]
    refused_at: datetime

    def holds(self, now: datetime) -> bool:
        """Whether the statistics are still left out at that moment."""
        return now - self.refused_at < REFUSAL_HOLDS


def _table(schema: str) -> sa.TableClause:
    names = ("report", "metric_id", "statistics", "refused_at")
    return sa.table("conversion_refusals", *(sa.column(name) for name in names), schema=schema)


def refusals(connection: sa.Connection, schema: str) -> list[Refusal]:
    """Every refusal on record, those that no longer hold included."""
    rows = connection.execute(sa.select(_table(schema)).order_by("report", "metric_id"))
    return [Refusal(report, metric_id, frozenset(statistics), at) for report, metric_id, statistics, at in rows]


def refusals_of(connection: sa.Connection, schema: str, report: str) -> list[Refusal]:
    """The refusals of this report that hold."""
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return [one for one in refusals(connection, schema) if one.report == report and one.holds(now)]


def remember_refusal(
    connection: sa.Connection, schema: str, report: str, metric_id: str, statistics: Collection[str]
) -> None:
    """Keep that Klaviyo has just refused these statistics, and no others."""
    insert = pg.insert(_table(schema)).values(
        report=report, metric_id=metric_id, statistics=sorted(statistics), refused_at=sa.func.clock_timestamp()
    )
    row_values = {name: insert.excluded[name] for name in ("statistics", "refused_at")}
    connection.execute(insert.on_conflict_do_update(index_elements=["report", "metric_id"], set_=row_values))


def forget_refusals(
    connection: sa.Connection, schema: str, reports: Collection[str], metric_id: str | None = None
) -> None:
    """Let these reports be asked for all statistics again, with this metric or with any."""
    table = _table(schema)
    statement = sa.delete(table).where(table.c.report.in_(reports))
    connection.execute(statement if metric_id is None else statement.where(table.c.metric_id == metric_id))
