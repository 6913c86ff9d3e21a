"""The daily quota that each of Klaviyo's reports has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.rates import DAY, Endpoint
from klaviyo_pipeline.postgres.schema.system_tables import system_table


@dataclass(frozen=True)
class Quota:
    """`wanted` requests, compared with the `per_day` quota that Klaviyo publishes for this endpoint.

    `spent` counts the requests of the last 24 hours in this schema's pacing. The quota is the account's: requests of
    other tools also use it, and are not counted here.
    """

    endpoint: str
    per_day: int
    spent: int
    wanted: int

    @property
    def share(self) -> float:
        """The share of one day's quota; above 1, the requests take more than a day."""
        return self.wanted / self.per_day

    @property
    def days(self) -> int:
        """Days until the last report is requested: 1 means today, 0 means none is wanted."""
        return ceil((self.spent + self.wanted) / self.per_day) if self.wanted else 0


def daily_limit(endpoint: Endpoint) -> int | None:
    """Requests that Klaviyo allows per day; None if it limits only shorter periods."""
    return next((rate.requests for rate in endpoint.rates if rate.seconds == DAY), None)


def spent_today(connection: sa.Connection, schema: str, endpoint: Endpoint, now: datetime) -> int:
    """Requests of the last 24 hours, from the slots of the pacing."""
    pacing = system_table(schema, "api_pacing")
    slots = sa.select(sa.func.unnest(pacing.c.slots).label("at")).where(pacing.c.endpoint == endpoint.name)
    recent = slots.subquery()
    query = sa.select(sa.func.count()).select_from(recent).where(recent.c.at > now - timedelta(seconds=DAY))
    return int(connection.execute(query).scalar_one())
