"""The table `conversion_refusals`: the statistics that Klaviyo refuses for a conversion metric."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.engine import database_now
from klaviyo_pipeline.postgres.schema.system_tables import system_table

REFUSAL_HOLDS = timedelta(hours=20)
"""Refused statistics are not requested for this long. The next day's sync requests all statistics again."""

METRIC_IS_PASSED_OVER = timedelta(days=30)
"""A metric is not chosen for this long after Klaviyo refused every statistic of a report for it.

This is longer than `REFUSAL_HOLDS`, because every stored day counts as missing when another metric is chosen.
"""


@dataclass(frozen=True)
class Refusal:
    """The statistics that Klaviyo refuses for a report and a conversion metric.

    `report` is Klaviyo's name of the report. `refused_at` is in UTC.
    """

    report: str
    metric_id: str
    statistics: frozenset[str]
    refused_at: datetime

    def holds(self, now: datetime) -> bool:
        """Whether the refusal still holds at that moment."""
        return now - self.refused_at < REFUSAL_HOLDS


def refusals(connection: sa.Connection, schema: str) -> list[Refusal]:
    """Every stored refusal, including those that no longer hold."""
    query = sa.select(system_table(schema, "conversion_refusals")).order_by("report", "metric_id")
    rows = connection.execute(query)
    return [Refusal(report, metric_id, frozenset(statistics), at) for report, metric_id, statistics, at in rows]


def refusals_of(connection: sa.Connection, schema: str, report: str) -> list[Refusal]:
    """The refusals of this report that still hold."""
    now = database_now(connection)
    return [one for one in refusals(connection, schema) if one.report == report and one.holds(now)]


def remember_refusal(
    connection: sa.Connection, schema: str, report: str, metric_id: str, statistics: Collection[str]
) -> None:
    """Store the statistics that Klaviyo has just refused, in place of any that were stored for the metric before."""
    insert = pg.insert(system_table(schema, "conversion_refusals")).values(
        report=report, metric_id=metric_id, statistics=sorted(statistics), refused_at=sa.func.clock_timestamp()
    )
    row_values = {name: insert.excluded[name] for name in ("statistics", "refused_at")}
    connection.execute(insert.on_conflict_do_update(index_elements=["report", "metric_id"], set_=row_values))


def forget_refusals(
    connection: sa.Connection, schema: str, reports: Collection[str], metric_id: str | None = None
) -> None:
    """Delete the refusals of these reports, so that all statistics are requested again.

    Without a metric, the refusals for every metric are deleted.
    """
    table = system_table(schema, "conversion_refusals")
    statement = sa.delete(table).where(table.c.report.in_(reports))
    connection.execute(statement if metric_id is None else statement.where(table.c.metric_id == metric_id))
