"""The daily quotas that Klaviyo has for reports, and how much of them is used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.rates import DAY, Endpoint
from klaviyo_pipeline.postgres.schema.system_tables import system_table


@dataclass(frozen=True)
class Quota:
    """A number of requests to an endpoint, `wanted`, compared with the `per_day` quota that Klaviyo publishes for it.

    `spent` is the number of requests of the last 24 hours in this schema's pacing. Requests that other tools send to
    the same account use the same quota, but are not counted here.
    """

    endpoint: str
    per_day: int
    spent: int
    wanted: int

    @property
    def share(self) -> float:
        """The wanted requests as a share of one day's quota. Above 1, they take more than a day."""
        return self.wanted / self.per_day

    @property
    def days(self) -> int:
        """The number of days on which the requests are sent: 1 means today only, 0 means no requests."""
        return ceil((self.spent + self.wanted) / self.per_day) if self.wanted else 0


def daily_limit(endpoint: Endpoint) -> int | None:
    """How many requests to an endpoint Klaviyo allows a day; None if its limits are only for shorter periods."""
    return next((rate.requests for rate in endpoint.rates if rate.seconds == DAY), None)


def spent_today(connection: sa.Connection, schema: str, endpoint: Endpoint, now: datetime) -> int:
    """How many requests to an endpoint were sent in the last 24 hours, from the slots of the pacing."""
    pacing = system_table(schema, "api_pacing")
    slots = sa.select(sa.func.unnest(pacing.c.slots).label("at")).where(pacing.c.endpoint == endpoint.name)
    recent = slots.subquery()
    query = sa.select(sa.func.count()).select_from(recent).where(recent.c.at > now - timedelta(seconds=DAY))
    return int(connection.execute(query).scalar_one())
