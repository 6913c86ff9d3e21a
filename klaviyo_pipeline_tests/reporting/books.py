"""Writes metrics directly into the tables, and builds the report from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from klaviyo_pipeline.catalog import METRICS, period_of
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.postgres.account_binding import bind_schema
from klaviyo_pipeline.postgres.engine import snapshot
from klaviyo_pipeline.reporting.content import Content, gather
from klaviyo_pipeline.reporting.page import render
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader
from klaviyo_pipeline_tests.postgres.store import FIRST_DAY, NOON, SLUG, Store, synced, window

WEEK = Period(FIRST_DAY + timedelta(days=7), FIRST_DAY + timedelta(days=13))
"""The second week of the test data, 8 to 14 March 2025. The first week is the previous period."""
LONG_SETTLED = timedelta(days=60)


HOSTILE = (
    "</title><script>alert(1)</script>",
    '"><img src=x onerror="alert(2)">',
    "{{ 7 * 7 }} &amp; \u202egnp.exe \x07 \x1b[31m",
)


@dataclass(frozen=True)
class Books:
    """A schema bound to an account, with methods that add metrics day by day."""

    store: Store

    def open(self, currency: str | None = "USD") -> None:
        account = Account(slug=SLUG, start_date=FIRST_DAY)
        with self.store.engine.begin() as connection:
            bind_schema(connection, account, account_id="A", timezone="UTC", currency=currency, verified_at=NOON)

    def book(self, table: str, id: str, on: date, name: str | None = "Welcome", **figures: Any) -> None:
        """One row of a metrics table."""
        metrics = METRICS[table]
        [name_column] = [column for column, source in metrics.named.items() if source == "name"]
        row = {metrics.key: id, "date": on, name_column: name, "observed_at": NOON, **figures}
        if table in ("flow_metrics", "campaign_metrics"):
            row["messages"] = 1
        columns = sa.table(table, *(sa.column(column) for column in row), schema=SLUG)
        with self.store.engine.begin() as connection:
            connection.execute(sa.insert(columns).values(row))

    def sync(self, days: Iterable[date], *tables: str, after: timedelta = LONG_SETTLED) -> None:
        """Record these days as synced in the daily reports and metrics (default: all), requested `after` their end."""
        for name in tables or (name for name in METRICS if period_of(name) == "day"):
            for day in days:
                number = (day - FIRST_DAY).days
                one = synced(number, window(number).end + after)
                self.store.record(METRICS[name].report, one, metric="M")
                self.store.record(name, replace(one, requests=0))

    def content(self, period: Period = WEEK) -> Content:
        with snapshot(self.store.engine) as connection:
            return gather(Reader(connection, SLUG), period, ZoneInfo("UTC"))

    def page(self, period: Period = WEEK) -> str:
        return render(self.content(period))

    def value(self, label: str, period: Period = WEEK) -> tuple[str, str, str]:
        """A key metric: its value, its value in the previous period, and the change."""
        [found] = [one for one in self.content(period).key_metrics if one.label == label]
        return found.value, found.before, found.change

    def fill(self) -> None:
        """Metrics of every kind on every day of both weeks, for objects with hostile names."""
        days = [*WEEK.before.days, *WEEK.days]
        self.sync(days)
        sent = {"recipients": 100, "delivered": 95, "opens_unique": 40, "clicks_unique": 4, "conversion_uniques": 1}
        members = {"total_members": 100, "members_added": 3, "members_removed": 1, "net_members_changed": 2}
        for number, name in enumerate(HOSTILE):
            for on in days:
                self.book("flow_metrics", f"F{number}", on, name, **sent, conversion_value=9)
                self.book("campaign_metrics", f"C{number}", on, name, **sent, conversion_value=on.day)
                self.book("form_metrics", f"W{number}", on, name, viewed_form=50, submits=5, closed_form=12)
                self.book("segment_metrics", f"S{number}", on, name, **members)
