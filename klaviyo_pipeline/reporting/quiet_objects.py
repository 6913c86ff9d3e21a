"""Finds flows, forms and campaigns that went quiet. Reads only Postgres."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal

import sqlalchemy as sa

from klaviyo_pipeline.catalog import FLOW_METRICS, FORM_METRICS, MetricsTable
from klaviyo_pipeline.reporting.silence import fallen_days, stopped_days, unconverted_days

HISTORY = timedelta(days=150)
LONGEST = 30
"""After this many days, a problem is no longer reported."""
UNSENT_AFTER = timedelta(hours=24)
UNSENT = ("scheduled", "preparing", "queued", "cancelled:")
"""How the status of an unsent campaign begins. `cancelled:` means that Klaviyo cancelled it, and a reason follows."""

Problem = Literal["stopped", "no conversions", "fell", "not sent"]

_COUNTED = {FLOW_METRICS.name: "delivered", FORM_METRICS.name: "viewed_form"}
_CONVERTED = {FLOW_METRICS.name: "conversions", FORM_METRICS.name: "submits"}
_RATES = {FLOW_METRICS.name: {"open_rate": "opens_unique", "click_rate": "clicks_unique"}, FORM_METRICS.name: {}}


@dataclass(frozen=True)
class QuietObject:
    """An object that went quiet. `found` describes the values since the last good day.

    The last good day of a campaign that was not sent is the day of its send time.
    """

    problem: Problem
    entity: str
    id: str
    name: str | None
    last_good_day: date
    found: str

    @property
    def key(self) -> str:
        """An identifier of the problem. It is the same whenever the problem is found again."""
        return f"{self.problem} {self.entity} {self.id} {self.last_good_day}"

    def __str__(self) -> str:
        return f"{self.name or self.id} ({self.id}): {self.details}"

    @property
    def details(self) -> str:
        """The values and the last good day, in words."""
        return self.found if self.problem == "not sent" else f"{self.found}, last good day {self.last_good_day}"


@dataclass(frozen=True)
class _History:
    """The daily values of one object, by column. They are zero on days without a row."""

    id: str
    name: str | None
    days: Sequence[date]
    values: Mapping[str, Sequence[float]]


def quiet_metrics(connection: sa.Connection, schema: str, zone: str, table: MetricsTable) -> list[QuietObject]:
    """Live flows or forms that stopped, that no longer convert, or whose rates fell, ordered by id."""
    found: list[QuietObject] = []
    for history in _histories(connection, schema, zone, table):
        found += _judged(table, history)
    return found


def unsent_campaigns(connection: sa.Connection, schema: str, zone: str, now: datetime) -> list[QuietObject]:
    """Campaigns that a sync still found unsent a day or more after their send time.

    These campaigns still wait to be sent, or Klaviyo cancelled them and gives a reason. Campaigns that a person
    cancelled are left out.
    """
    names = ("id", "name", "status", "send_time", "archived", "deleted_at")
    campaigns = sa.table("campaigns", *(sa.column(name) for name in names), schema=schema)
    status = sa.table("sync_status", sa.column("entity"), sa.column("synced_through"), schema=schema)
    through = sa.select(status.c.synced_through).where(status.c.entity == "campaigns").scalar_subquery()
    day = sa.cast(sa.func.timezone(zone, campaigns.c.send_time), sa.Date)
    query = (
        sa.select(campaigns.c.id, campaigns.c.name, campaigns.c.status, day.label("day"))
        .where(
            sa.or_(*(campaigns.c.status.ilike(f"{begin}%") for begin in UNSENT)),
            campaigns.c.deleted_at.is_(None),
            campaigns.c.archived.is_not(True),
            campaigns.c.send_time.between(now - timedelta(days=LONGEST), now - UNSENT_AFTER),
            through >= campaigns.c.send_time + UNSENT_AFTER,
        )
        .order_by(campaigns.c.id)
    )
    return [
        QuietObject(
            "not sent", "campaigns", row.id, row.name, row.day, f"scheduled for {row.day}, but not sent: {row.status}"
        )
        for row in connection.execute(query)
    ]


def _judged(table: MetricsTable, history: _History) -> list[QuietObject]:
    counts = history.values[_COUNTED[table.name]]
    word = _COUNTED[table.name].replace("_", " ")

    def quiet(problem: Problem, last_good: date, found: str) -> QuietObject:
        return QuietObject(problem, table.entity, history.id, history.name, last_good, found)

    if silent := stopped_days(counts):
        before = [count for count in counts[:-silent] if count][-28:]
        usual = f"{sum(before) / len(before):,.0f} on an active day"
        found = f"{word} 0 for {silent} days, usually about {usual}"
        is_news = not stopped_days(counts[:-LONGEST])
        return [quiet("stopped", history.days[-silent - 1], found)] if is_news else []
    converted = history.values[_CONVERTED[table.name]]
    if unconverted_days(converted, counts):
        last = max(at for at, count in enumerate(converted) if count)
        went_on = sum(counts[last + 1 :])
        found = f"{_CONVERTED[table.name]} 0 of {went_on:,.0f} {word}, {sum(converted[last - 27 : last + 1]):,.0f} of "
        found += f"{sum(counts[last - 27 : last + 1]):,.0f} in the four weeks before"
        return [quiet("no conversions", history.days[last], found)] if len(counts) - last <= LONGEST else []
    fallen = []
    for rate, part in _RATES[table.name].items():
        rates = [one / of if of else None for one, of in zip(history.values[part], counts, strict=True)]
        if since := fallen_days(rates, counts):
            of = sum(counts[-since - 28 : -since])
            mean = sum(history.values[part][-since - 28 : -since]) / of if of else 0.0
            now = ", ".join(f"{one:.1%}" for one in rates[-since:][-2:] if one is not None)
            good = history.days[-since - 1]
            fallen.append(quiet("fell", good, f"{rate.replace('_', ' ')} {now}, usually {mean:.1%}"))
    return fallen


def _histories(connection: sa.Connection, schema: str, zone: str, table: MetricsTable) -> list[_History]:
    """The live objects, with their values on the days of `_synced_range`."""
    synced = _synced_range(connection, schema, zone, table)
    if synced is None:
        return []
    names = {_COUNTED[table.name], _CONVERTED[table.name], *_RATES[table.name].values()}
    metrics = sa.table(table.name, *(sa.column(name) for name in (table.key, "date", *sorted(names))), schema=schema)
    columns = ("id", "name", "status", "deleted_at", *(("archived",) if table.entity == "flows" else ()))
    objects = sa.table(table.entity, *(sa.column(name) for name in columns), schema=schema)
    is_live = sa.and_(objects.c.status == "live", objects.c.deleted_at.is_(None))
    if "archived" in objects.c:
        is_live = sa.and_(is_live, objects.c.archived.is_not(True))
    query = (
        sa.select(objects.c.id, objects.c.name, metrics.c.date, *(metrics.c[name] for name in sorted(names)))
        .join_from(objects, metrics, metrics.c[table.key] == objects.c.id)
        .where(is_live, metrics.c.date.between(synced[0], synced[1]))
        .order_by(objects.c.id, metrics.c.date)
    )
    days = [synced[0] + timedelta(days=number) for number in range((synced[1] - synced[0]).days + 1)]
    rows: dict[tuple[str, str | None], dict[date, Mapping[str, Decimal | None]]] = defaultdict(dict)
    for row in connection.execute(query):
        rows[row.id, row.name][row.date] = {name: getattr(row, name) for name in names}
    return [
        _History(
            id,
            name,
            days,
            {one: [float(by_day[day][one] or 0) if day in by_day else 0.0 for day in days] for one in names},
        )
        for (id, name), by_day in rows.items()
    ]


def _synced_range(connection: sa.Connection, schema: str, zone: str, table: MetricsTable) -> tuple[date, date] | None:
    """The first and the last of the latest synced days without a gap, at most `HISTORY`. An open day is not synced."""
    states = sa.table(
        "window_states", *(sa.column(name) for name in ("entity", "window_start", "state")), schema=schema
    )
    day = sa.cast(sa.func.timezone(zone, states.c.window_start), sa.Date)
    query = sa.select(day).where(states.c.entity == table.name, states.c.state == "synced").order_by(day.desc())
    days: list[date] = list(connection.execute(query).scalars())
    if not days:
        return None
    first = last = days[0]
    for earlier in days[1:]:
        if first - earlier != timedelta(days=1) or last - earlier >= HISTORY:
            break
        first = earlier
    return first, last
