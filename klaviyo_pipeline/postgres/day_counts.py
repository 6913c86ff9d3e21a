"""Finds periods for which a report or metrics table and the ledger have different numbers of rows."""

from __future__ import annotations

from datetime import date

import sqlalchemy as sa

from klaviyo_pipeline.catalog import has_conversion_metric, period_column
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.postgres.ledger import Ledger, of_metric


def days_that_differ(
    connection: sa.Connection,
    account: Account,
    name: str,
    first: date | None = None,
    last: date | None = None,
    *,
    further_metric: str | None = None,
) -> list[date]:
    """Return the first day of each period for which the table `name` and the ledger have different numbers of rows.

    The days are in order, from `first` to `last`, both included. One statement compares the table with the ledger, so
    that both are of the same snapshot. `further_metric` selects the windows and rows of a further conversion metric;
    without it, those of the first are compared.
    """
    ledger = Ledger(account.slug, name).table
    metric = [sa.column("conversion_metric_id", sa.Text)] if has_conversion_metric(name) else []
    stored = sa.table(name, sa.column(period_column(name), sa.Date), *metric, schema=account.slug)
    period = stored.c[period_column(name)]
    day = sa.cast(sa.func.timezone(account.timezone, ledger.c.window_start), sa.Date)
    between = (first or date.min, last or date.max)
    counts = (
        sa.select(period.label("day"), *metric, sa.func.count().label("rows"))
        .select_from(stored)
        .where(period.between(*between))
        .group_by(period, *metric)
        .subquery()
    )
    same = sa.and_(counts.c.day == day, *(counts.c[one.name] == ledger.c[one.name] for one in metric))
    query = (
        sa.select(day.label("day"))
        .select_from(ledger.outerjoin(counts, same))
        .where(
            ledger.c.entity == (name if further_metric is None else of_metric(name, further_metric)),
            ledger.c.status == "synced",
            day.between(*between),
            sa.func.coalesce(counts.c.rows, 0) != ledger.c.rows_fetched,
        )
        .order_by("day")
    )
    return list(connection.execute(query).scalars())
