"""The day of a campaign's figures: that on which the send of the message began.

Klaviyo states a campaign's figures without a day. The day is that of its send time, which may move, appear or go after
the figures were stored: they follow it, so that they stand once. Figures without a day stand in a table of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.catalog import CAMPAIGN_METRICS
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.metrics_tables import Metrics
from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT, VALID_FROM, VALID_TO, DestinationTable, reflect
from klaviyo_pipeline.postgres.write.merge import ReplaceRange, merge

REPORT = CAMPAIGN_METRICS.report
UNDATED = f"{REPORT}_undated"
ASKED_FROM, ASKED_TO = "asked_from", "asked_to"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class SendDays:
    """The days on which sends began, by campaign, and by campaign and message."""

    by_campaign: Mapping[str, date]
    by_message: Mapping[tuple[str, str], date]

    def of(self, row: Row) -> date | None:
        """The day of a report's row: its message's, or else its campaign's; None where neither is known."""
        campaign = row["campaign_id"]
        return self.by_message.get((campaign, row["campaign_message_id"])) or self.by_campaign.get(campaign)


@dataclass(frozen=True)
class CampaignDays:
    """The days of one account's campaigns, in its time zone."""

    schema: str
    timezone: str

    def sent(self, connection: sa.Connection) -> SendDays:
        """The days on which sends began; campaigns and messages without a send time are left out."""
        campaigns, messages = self._campaigns, self._messages
        by_campaign = sa.select(campaigns.c.id, self._day_of(campaigns.c.send_time)).where(
            campaigns.c.send_time.is_not(None)
        )
        by_message = sa.select(messages.c.campaign_id, messages.c.id, self._day_of(messages.c.send_time)).where(
            messages.c.send_time.is_not(None)
        )
        return SendDays(
            {row[0]: row[1] for row in connection.execute(by_campaign)},
            {(row[0], row[1]): row[2] for row in connection.execute(by_message)},
        )

    def settle(self, connection: sa.Connection) -> list[str]:
        """Move every row that does not stand on its campaign's day; return the ids of these campaigns.

        Figures whose campaign has no send time any more become undated, and the other way round. The state that a day
        showed is kept among the earlier ones; the metrics of the days are computed anew. Takes its turn with the
        writers of the report: the caller has that lock.
        """
        report, undated = (reflect(connection, self.schema, name) for name in (REPORT, UNDATED))
        gone = self._take(connection, report, self._send_day(report.table).is_distinct_from(report.table.c.date))
        found = self._take(connection, undated, self._send_day(undated.table).is_not(None))
        if not gone and not found:
            return []
        dated = [{**row, "date": row["day"]} for row in (*gone, *found) if row["day"] is not None]
        dayless = [{**row, ASKED_FROM: row["date"], ASKED_TO: row["date"]} for row in gone if row["day"] is None]
        merge(connection, report, _frame(report, dated))
        merge(connection, undated, _frame(undated, dayless))
        self._restate(connection, {row["date"] for row in (*gone, *dated)})
        return sorted({row["campaign_id"] for row in (*gone, *found)})

    def keep_undated(self, connection: sa.Connection, rows: Sequence[Row], span: ReplaceRange) -> None:
        """Store the rows of an answer for these days that have no day, and remove those that it no longer shows.

        A row that is there already stands for other days: it is replaced by an answer that covers them, or that shows
        as many recipients. An answer for a part of its days would take figures away.
        """
        target = reflect(connection, self.schema, UNDATED)
        kept = [dict(row) for row in connection.execute(sa.select(target.table)).mappings()]
        stored = {_key(target, row): row for row in kept}
        displayed = {_key(target, row): {**row, ASKED_FROM: span.first, ASKED_TO: span.last} for row in rows}
        replaced = {key: row for key, row in displayed.items() if key not in stored or _says_as_much(row, stored[key])}
        merge(connection, target, _frame(target, replaced.values()))
        gone = [
            key for key in stored.keys() - displayed.keys() if _covers(span, stored[key], observed_before=span.asked_at)
        ]
        if gone:
            keys = sa.tuple_(*(target.table.c[name] for name in target.key))
            connection.execute(sa.delete(target.table).where(keys.in_(gone)))

    @cached_property
    def _campaigns(self) -> sa.TableClause:
        send_time = sa.column("send_time", sa.DateTime(timezone=True))
        return sa.table(CAMPAIGN_METRICS.entity, sa.column("id", sa.Text), send_time, schema=self.schema)

    @cached_property
    def _messages(self) -> sa.TableClause:
        send_time = sa.column("send_time", sa.DateTime(timezone=True))
        ids = (sa.column("id", sa.Text), sa.column("campaign_id", sa.Text))
        return sa.table("campaign_messages", *ids, send_time, schema=self.schema)

    def _send_day(self, table: sa.Table) -> sa.ColumnElement[date]:
        """The day of a row: its message's, or else its campaign's."""
        messages = self._messages
        own = (
            sa.select(messages.c.send_time)
            .where(messages.c.id == table.c.campaign_message_id, messages.c.campaign_id == table.c.campaign_id)
            .correlate(table)
            .scalar_subquery()
        )
        return self._day_of(sa.func.coalesce(own, self._campaigns.c.send_time))

    def _day_of(self, moment: sa.ColumnElement[datetime]) -> sa.ColumnElement[date]:
        return sa.cast(sa.func.timezone(self.timezone, moment), sa.Date)

    def _take(
        self, connection: sa.Connection, target: DestinationTable, condition: sa.ColumnElement[bool]
    ) -> list[dict[str, Any]]:
        """Delete the rows that meet the condition and return them, each with the `day` of its campaign."""
        table = target.table
        day = self._send_day(table).label("day")
        same = self._campaigns.c.id == table.c.campaign_id
        gone = sa.delete(table).where(same, condition).returning(*table.c, day).cte("gone")
        query = sa.select(gone)
        if target.superseded is not None:
            names = [one.name for one in target.superseded.columns if one.name not in (VALID_FROM, VALID_TO)]
            seen = gone.c[OBSERVED_AT]
            until = sa.func.greatest(sa.func.clock_timestamp(), seen + sa.text("interval '1 microsecond'"))
            kept = (
                pg.insert(target.superseded)
                .from_select([*names, VALID_FROM, VALID_TO], sa.select(*(gone.c[name] for name in names), seen, until))
                # Figures that move there and back unasked are one state of that day.
                .on_conflict_do_nothing()
            )
            query = query.add_cte(kept.cte("kept"))
        return [dict(row) for row in connection.execute(query).mappings()]

    def _restate(self, connection: sa.Connection, days: Collection[date]) -> None:
        """Compute the metrics of these days anew where there are any, and put right what the ledger counts."""
        metrics, target = (
            Metrics(self.schema, CAMPAIGN_METRICS),
            reflect(connection, self.schema, CAMPAIGN_METRICS.name),
        )
        now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        ledger = Ledger(self.schema, CAMPAIGN_METRICS.name).table
        is_day = self._day_of(ledger.c.window_start).in_(days)
        computed = sa.select(self._day_of(ledger.c.window_start)).where(
            ledger.c.entity == CAMPAIGN_METRICS.name, ledger.c.status == "synced", is_day
        )
        for day in connection.execute(computed).scalars().all():
            rows = metrics.compute(connection, day, day)
            merge(connection, target, _frame(target, rows), replaces=ReplaceRange("date", day, day, now))
        for name in (REPORT, CAMPAIGN_METRICS.name):
            table = sa.table(name, sa.column("date"), schema=self.schema)
            there = sa.select(sa.func.count()).where(table.c.date == self._day_of(ledger.c.window_start))
            connection.execute(
                sa.update(ledger)
                .values(rows_fetched=there.scalar_subquery())
                .where(ledger.c.entity == name, ledger.c.status == "synced", is_day)
            )


def _frame(target: DestinationTable, rows: Iterable[Row]) -> pd.DataFrame:
    names = target.written
    return pd.DataFrame([[row[name] for name in names] for row in rows], columns=pd.Index(names), dtype=object)


def _key(target: DestinationTable, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in target.key)


def _says_as_much(new: Row, old: Row) -> bool:
    covers = new[ASKED_FROM] <= old[ASKED_FROM] and new[ASKED_TO] >= old[ASKED_TO]
    return covers or (new["recipients"] or 0) >= (old["recipients"] or 0)


def _covers(span: ReplaceRange, row: Row, *, observed_before: datetime) -> bool:
    return bool(span.first <= row[ASKED_FROM] and span.last >= row[ASKED_TO] and row[OBSERVED_AT] < observed_before)
