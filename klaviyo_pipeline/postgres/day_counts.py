"""Periods of a report or of its metrics whose number of rows differs from the ledger's."""

from __future__ import annotations

from datetime import date

import sqlalchemy as sa

from klaviyo_pipeline.catalog import period_column
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.postgres.ledger import Ledger


def days_that_differ(
    connection: sa.Connection, account: Account, name: str, first: date | None = None, last: date | None = None
) -> list[date]:
    """The first days of these periods of the table `name`, from `first` to `last`, in order. One statement, so one
    snapshot."""
    ledger = Ledger(account.slug, name).table
    stored = sa.table(name, sa.column(period_column(name), sa.Date), schema=account.slug)
    period = stored.c[period_column(name)]
    day = sa.cast(sa.func.timezone(account.timezone, ledger.c.window_start), sa.Date)
    between = (first or date.min, last or date.max)
    counts = (
        sa.select(period.label("day"), sa.func.count().label("rows"))
        .where(period.between(*between))
        .group_by(period)
        .subquery()
    )
    query = (
        sa.select(day.label("day"))
        .select_from(ledger.outerjoin(counts, counts.c.day == day))
        .where(
            ledger.c.entity == name,
            ledger.c.status == "synced",
            day.between(*between),
            sa.func.coalesce(counts.c.rows, 0) != ledger.c.rows_fetched,
        )
        .order_by("day")
    )
    return list(connection.execute(query).scalars())
