"""Days of a report or of its metrics whose rows are other in number than the ledger counted."""

from __future__ import annotations

from datetime import date

import sqlalchemy as sa

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.postgres.ledger import Ledger


def days_that_differ(
    connection: sa.Connection, account: Account, name: str, first: date | None = None, last: date | None = None
) -> list[date]:
    """The synced days of the table `name`, from `first` to `last`, in order; in one statement, so in one snapshot."""
    ledger = Ledger(account.slug, name).table
    stored = sa.table(name, sa.column("date", sa.Date), schema=account.slug)
    day = sa.cast(sa.func.timezone(account.timezone, ledger.c.window_start), sa.Date)
    between = (first or date.min, last or date.max)
    counts = (
        sa.select(stored.c.date, sa.func.count().label("rows"))
        .where(stored.c.date.between(*between))
        .group_by(stored.c.date)
        .subquery()
    )
    query = (
        sa.select(day.label("day"))
        .select_from(ledger.outerjoin(counts, counts.c.date == day))
        .where(
            ledger.c.entity == name,
            ledger.c.status == "synced",
            day.between(*between),
            sa.func.coalesce(counts.c.rows, 0) != ledger.c.rows_fetched,
        )
        .order_by("day")
    )
    return list(connection.execute(query).scalars())
