"""The answers to `metrics --exact`: Klaviyo's own values of flows, campaigns or forms for ranges of days.

`exact_answers` has the ranges; `flow_metrics_exact`, `campaign_metrics_exact` and `form_metrics_exact` have the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.catalog import ExactMetrics
from klaviyo_pipeline.postgres.schema.system_tables import SystemTable, system_table
from klaviyo_pipeline.postgres.schema.tables import reflect

_CURRENT = ("first_day", "last_day", "asked_at", "conversion_metric_id", "refused_statistics", "settled_at")


@dataclass(frozen=True)
class ExactAnswer:
    """Klaviyo's answer for one range of days. It is final if it was requested at `settled_at` or later."""

    asked_at: datetime
    settled_at: datetime
    conversion_metric_id: str | None
    refused_statistics: frozenset[str]

    @property
    def is_final(self) -> bool:
        """Whether the attribution window of the last day had closed when the answer was requested."""
        return self.asked_at >= self.settled_at


def current_answer(connection: sa.Connection, schema: str, entity: str, first: date, last: date) -> ExactAnswer | None:
    """Return the stored answer for exactly these days, if it may be used without a new request.

    It may be used if it is final or less than an hour old; the view `valid_exact_answers` has all conditions.
    """
    current = sa.table("valid_exact_answers", *(sa.column(name) for name in ("entity", *_CURRENT)), schema=schema)
    query = sa.select(current).where(
        current.c.entity == entity, current.c.first_day == first, current.c.last_day == last
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return ExactAnswer(row.asked_at, row.settled_at, row.conversion_metric_id, frozenset(row.refused_statistics))


def store_answer(
    connection: sa.Connection,
    schema: str,
    exact: ExactMetrics,
    days: tuple[date, date],
    *,
    asked_at: datetime,
    conversion_metric_id: str | None,
    refused: frozenset[str],
    rows: Iterable[Mapping[str, Any]],
) -> None:
    """Store the answer for these days, both included, unless a later answer for them is stored.

    It replaces the earlier answer and its values. Each of `rows` has the id of an object and its counts.
    """
    answers, metrics = system_table(schema, "exact_answers"), _values(schema, exact)
    key = dict(zip(("first_day", "last_day"), days, strict=True))
    insert = pg.insert(answers).values(
        entity=exact.metrics.entity,
        **key,
        asked_at=asked_at,
        conversion_metric_id=conversion_metric_id,
        refused_statistics=sorted(refused),
    )
    replaced = {name: insert.excluded[name] for name in ("asked_at", "conversion_metric_id", "refused_statistics")}
    # The upsert locks the row of the range until the transaction ends, so that the values of two answers do not mix.
    upsert = insert.on_conflict_do_update(
        index_elements=["entity", *key], set_=replaced, where=answers.c.asked_at < insert.excluded.asked_at
    )
    if connection.execute(upsert.returning(answers.c.asked_at)).first() is None:
        return
    connection.execute(sa.delete(metrics).where(*(metrics.c[name] == day for name, day in key.items())))
    if values := [{**key, **{name: row[name] for name in row if name in metrics.columns}} for row in rows]:
        connection.execute(sa.insert(metrics), values)


def forget_answers(connection: sa.Connection, schema: str, exact: ExactMetrics, metric_id: str) -> None:
    """Delete the answers that were requested with a conversion metric other than `metric_id`."""
    answers, metrics = system_table(schema, "exact_answers"), _values(schema, exact)
    other = sa.and_(answers.c.entity == exact.metrics.entity, answers.c.conversion_metric_id != metric_id)
    same = sa.and_(*(answers.c[name] == metrics.c[name] for name in ("first_day", "last_day")))
    connection.execute(sa.delete(metrics).where(sa.exists().where(other, same)))
    connection.execute(sa.delete(answers).where(other))


def exact_metrics(
    connection: sa.Connection, schema: str, exact: ExactMetrics, first: date, last: date
) -> list[dict[str, Any]]:
    """The stored values for exactly these days, one row for each object, highest revenue or most submits first.

    Each row has the latest name and status of its object.
    """
    values, entity = (reflect(connection, schema, name).table for name in (exact.table, exact.metrics.entity))
    key = values.c[exact.metrics.key]
    rank = values.c["conversion_value" if "conversion_value" in values.c else "submits"]
    query = (
        sa.select(
            key,
            *(entity.c[source].label(name) for name, source in exact.metrics.named.items()),
            *(column for column in values.c if column.name not in ("first_day", "last_day", key.name)),
        )
        .select_from(values.outerjoin(entity, entity.c.id == key))
        .where(values.c.first_day == first, values.c.last_day == last)
        .order_by(sa.nulls_last(sa.desc(rank)), key)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def _values(schema: str, exact: ExactMetrics) -> sa.TableClause:
    return system_table(schema, cast("SystemTable", exact.table))
