"""The daily quota that each of Klaviyo's reports has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.rates import DAY, Endpoint


@dataclass(frozen=True)
class Quota:
    """`wanted` requests against the `per_day` that Klaviyo publishes for this endpoint.

    `spent` counts what this schema's pacing let through in the last 24 hours; the quota is the account's, and other
    tools take from it unseen.
    """

    endpoint: str
    per_day: int
    spent: int
    wanted: int

    @property
    def share(self) -> float:
        """Of one day's quota; above 1 it takes more than a day."""
        return self.wanted / self.per_day

    @property
    def days(self) -> int:
        """Days until the last report is asked: 1 is today, 0 that none is wanted."""
        return ceil((self.spent + self.wanted) / self.per_day) if self.wanted else 0


def daily_limit(endpoint: Endpoint) -> int | None:
    """Requests that Klaviyo allows in a day; None where only shorter spans are limited."""
    return next((rate.requests for rate in endpoint.rates if rate.seconds == DAY), None)


def spent_today(connection: sa.Connection, schema: str, endpoint: Endpoint, now: datetime) -> int:
    """Requests of the last 24 hours, by the pacing's memory."""
    pacing = sa.table("api_pacing", sa.column("endpoint"), sa.column("slots"), schema=schema)
    slots = sa.select(sa.func.unnest(pacing.c.slots).label("at")).where(pacing.c.endpoint == endpoint.name)
    recent = slots.subquery()
    query = sa.select(sa.func.count()).select_from(recent).where(recent.c.at > now - timedelta(seconds=DAY))
    return int(connection.execute(query).scalar_one())
