"""The tables `exact_answers` and `flow_metrics_exact`: Klaviyo's own values for ranges of days that were requested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.schema.system_tables import system_table

_CURRENT = ("first_day", "last_day", "asked_at", "conversion_metric_id", "refused_statistics", "settled_at")


@dataclass(frozen=True)
class ExactAnswer:
    """Klaviyo's answer for one range of days. It is final if it was requested after `settled_at`. Times are aware."""

    asked_at: datetime
    settled_at: datetime
    conversion_metric_id: str
    refused_statistics: frozenset[str]

    @property
    def is_final(self) -> bool:
        """Whether the attribution window of the last day had closed when it was requested."""
        return self.asked_at >= self.settled_at


def current_answer(connection: sa.Connection, schema: str, first: date, last: date) -> ExactAnswer | None:
    """The stored answer for exactly these days, if it is final or less than an hour old."""
    current = sa.table("current_exact_answers", *(sa.column(name) for name in _CURRENT), schema=schema)
    query = sa.select(current).where(current.c.first_day == first, current.c.last_day == last)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return ExactAnswer(row.asked_at, row.settled_at, row.conversion_metric_id, frozenset(row.refused_statistics))


def store_answer(
    connection: sa.Connection,
    schema: str,
    days: tuple[date, date],
    *,
    asked_at: datetime,
    conversion_metric_id: str,
    refused: frozenset[str],
    rows: Iterable[Mapping[str, Any]],
) -> None:
    """Replace the answer for these days, both included, unless a later one is stored. A row is `flow_id` and counts."""
    answers, metrics = system_table(schema, "exact_answers"), system_table(schema, "flow_metrics_exact")
    key = dict(zip(("first_day", "last_day"), days, strict=True))
    insert = pg.insert(answers).values(
        **key,
        asked_at=asked_at,
        conversion_metric_id=conversion_metric_id,
        refused_statistics=sorted(refused),
    )
    replaced = {name: insert.excluded[name] for name in ("asked_at", "conversion_metric_id", "refused_statistics")}
    # The row of the range is locked until the end of the transaction, so that two answers are not mixed.
    upsert = insert.on_conflict_do_update(
        index_elements=list(key), set_=replaced, where=answers.c.asked_at < insert.excluded.asked_at
    )
    if connection.execute(upsert.returning(answers.c.asked_at)).first() is None:
        return
    connection.execute(sa.delete(metrics).where(*(metrics.c[name] == day for name, day in key.items())))
    if values := [{**key, **{name: row[name] for name in row if name in metrics.columns}} for row in rows]:
        connection.execute(sa.insert(metrics), values)
