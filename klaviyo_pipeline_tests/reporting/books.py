"""Metrics written straight into the tables, and the report that is made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from klaviyo_pipeline.postgres.account import claim
from klaviyo_pipeline.postgres.engine import snapshot
from klaviyo_pipeline.postgres.metrics import METRICS
from klaviyo_pipeline.reporting.content import Content, gather
from klaviyo_pipeline.reporting.page import render
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader
from klaviyo_pipeline.settings import Account
from klaviyo_pipeline_tests.postgres.store import FIRST_DAY, NOON, SLUG, Store, synced, window

WEEK = Period(FIRST_DAY + timedelta(days=7), FIRST_DAY + timedelta(days=13))
"""The second week of these books, 8 to 14 March 2025; the first is the period before."""
LONG_SETTLED = timedelta(days=60)


@dataclass(frozen=True)
class Books:
    """A schema that is claimed, with days that are booked one by one."""

    store: Store

    def open(self, currency: str | None = "USD") -> None:
        account = Account(slug=SLUG, start_date=FIRST_DAY)
        with self.store.engine.begin() as connection:
            claim(connection, account, account_id="A", timezone="UTC", currency=currency, verified_at=NOON)

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
        """Note these days of reports and metrics as synced, asked so long after their end; of all by default."""
        for name in tables or METRICS:
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
        """A key figure: now, before, and the change."""
        [found] = [one for one in self.content(period).key_figures if one.label == label]
        return found.value, found.before, found.change
