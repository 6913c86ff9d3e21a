"""The day of a campaign's report rows: the day on which the send of the message began.

Klaviyo returns the statistics of a campaign without a day. The rows get the day of the send time. If the send time
changes, is set or is removed after the rows were stored, the rows move, so that each is stored once. Rows without a day
are stored in a separate table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.catalog import CAMPAIGN_METRICS
from klaviyo_pipeline.klaviyo.channels import OTHER_WORDS
from klaviyo_pipeline.postgres.engine import database_now
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.metrics_tables import Metrics
from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT, VALID_FROM, VALID_TO, DestinationTable, reflect
from klaviyo_pipeline.postgres.write.merge import ReplaceRange, merge

REPORT = CAMPAIGN_METRICS.report

LEAST = timedelta(microseconds=1)
"""The smallest difference between two times that Postgres stores."""

ASKED_FROM, ASKED_TO = "asked_from", "asked_to"
ROW_KEY = ("campaign_id", "campaign_message_id", "send_channel")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class CampaignDays:
    """The send days of one account's campaigns in its time zone, and the rows of the campaign report `report`."""

    schema: str
    timezone: str
    report: str = REPORT

    @property
    def undated(self) -> str:
        """The table of the report's rows without a day."""
        return undated_of(self.report)

    def of(self, connection: sa.Connection, rows: Sequence[Row]) -> list[date | None]:
        """The day of each of these rows of a report, in the order of the rows; None if no send time is known."""
        keys = [[row[name] for row in rows] for name in ROW_KEY]
        reported = sa.func.unnest(*(sa.literal(values, pg.ARRAY(sa.Text)) for values in keys)).table_valued(
            *ROW_KEY, with_ordinality="place"
        )
        reported = reported.render_derived()
        query = sa.select(self._send_day(reported)).select_from(reported).order_by(reported.c.place)
        return list(connection.execute(query).scalars())

    def settle(self, connection: sa.Connection) -> list[str]:
        """Move every row that is not stored on its send day; return the ids of the campaigns of these rows.

        A row that no longer has a send day moves to the table of undated rows. An undated row that now has a send day
        moves to the report. A row that leaves a day is archived with that day in the table of earlier states, and the
        metrics of the changed days are recomputed. The caller holds the lock of the report's writers.
        """
        report, undated = (reflect(connection, self.schema, name) for name in (self.report, self.undated))
        misplaced = self._take(connection, report, self._send_day(report.table).is_distinct_from(report.table.c.date))
        now_dated = self._take(connection, undated, self._send_day(undated.table).is_not(None))
        if not misplaced and not now_dated:
            return []
        # A later time makes the moved row a separate state: a row that moves away and back must not repeat the key of
        # its earlier state.
        dated = [
            {**row, "date": row["day"], OBSERVED_AT: row[OBSERVED_AT] + LEAST}
            for row in (*misplaced, *now_dated)
            if row["day"] is not None
        ]
        dayless = [{**row, ASKED_FROM: row["date"], ASKED_TO: row["date"]} for row in misplaced if row["day"] is None]
        merge(connection, report, _frame(report, dated))
        merge(connection, undated, _frame(undated, dayless))
        self._restate(connection, {row["date"] for row in (*misplaced, *dated)})
        return sorted({row["campaign_id"] for row in (*misplaced, *now_dated)})

    def keep_undated(self, connection: sa.Connection, rows: Sequence[Row], span: ReplaceRange) -> None:
        """Store the undated rows of an answer for the days of `span`; delete stored rows that the answer lacks.

        A stored row may come from an earlier answer, for other days than `span`. It is replaced only if `span` covers
        all days of the earlier answer, or if the new row has at least as many recipients. Otherwise statistics of the
        days that `span` lacks would be lost. A stored row that the new answer lacks is deleted only if `span` covers
        all of its days and the new answer is later.
        """
        target = reflect(connection, self.schema, self.undated)
        of_metric = target.table.c.conversion_metric_id == span.conversion_metric_id
        stored_rows = [dict(row) for row in connection.execute(sa.select(target.table).where(of_metric)).mappings()]
        stored = {_key(target, row): row for row in stored_rows}
        received = {_key(target, row): {**row, ASKED_FROM: span.first, ASKED_TO: span.last} for row in rows}
        replaced = {key: row for key, row in received.items() if key not in stored or _supersedes(row, stored[key])}
        merge(connection, target, _frame(target, replaced.values()))
        gone = [
            key for key in stored.keys() - received.keys() if _covers(span, stored[key], observed_before=span.asked_at)
        ]
        if gone:
            keys = sa.tuple_(*(target.table.c[name] for name in target.key))
            connection.execute(sa.delete(target.table).where(keys.in_(gone)))

    def _table(self, name: str, *columns: str) -> sa.TableClause:
        send_time = sa.column("send_time", sa.DateTime(timezone=True))
        return sa.table(name, *(sa.column(one, sa.Text) for one in columns), send_time, schema=self.schema)

    @cached_property
    def _campaigns(self) -> sa.TableClause:
        return self._table(CAMPAIGN_METRICS.entity, "id", "deleted_at")

    def _send_day(self, rows: sa.FromClause) -> sa.ColumnElement[date]:
        """The send day of a row: that of its message, or else of the campaign's first message in the row's channel, or
        else of the campaign. A report may have the campaign's id in place of the message's.
        """
        campaigns = self._campaigns.alias("sent_campaign")
        messages = self._table("campaign_messages", "id", "campaign_id", "deleted_at")
        variations = self._table("campaign_variations", "message_id", "channel")
        is_row = messages.c.campaign_id == rows.c.campaign_id
        channel = sa.case(OTHER_WORDS, value=rows.c.send_channel, else_=rows.c.send_channel)
        own = sa.select(messages.c.send_time).where(is_row, messages.c.id == rows.c.campaign_message_id)
        in_channel = (
            sa.select(sa.func.min(messages.c.send_time))
            .select_from(
                messages.join(variations, variations.c.message_id == messages.c.id).join(
                    campaigns, campaigns.c.id == messages.c.campaign_id
                )
            )
            # All messages of a deleted campaign are marked deleted, but they were sent.
            .where(
                is_row,
                variations.c.channel == channel,
                messages.c.deleted_at.is_(None) | campaigns.c.deleted_at.is_not(None),
            )
        )
        whole = sa.select(campaigns.c.send_time).where(campaigns.c.id == rows.c.campaign_id)
        found = (query.correlate(rows).scalar_subquery() for query in (own, in_channel, whole))
        return self._day_of(sa.func.coalesce(*found))

    def _day_of(self, moment: sa.ColumnElement[datetime]) -> sa.ColumnElement[date]:
        return sa.cast(sa.func.timezone(self.timezone, moment), sa.Date)

    def _take(
        self, connection: sa.Connection, target: DestinationTable, condition: sa.ColumnElement[bool]
    ) -> list[dict[str, Any]]:
        """Delete the rows that meet the condition, and archive them if the table has earlier states.

        Returns the rows, each with its send day as `day`.
        """
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
                # A row that moves away and back without a new answer in between has one state on that day.
                .on_conflict_do_nothing()
            )
            query = query.add_cte(kept.cte("kept"))
        return [dict(row) for row in connection.execute(query).mappings()]

    def _restate(self, connection: sa.Connection, days: Collection[date]) -> None:
        """Recompute the existing metrics of these days, and correct the row counts of the ledger."""
        names = [self.report]
        if self.report == REPORT:
            self._recompute(connection, days)
            names.append(CAMPAIGN_METRICS.name)
        for name in names:
            ledger = Ledger(self.schema, name).table
            table = sa.table(name, sa.column("date"), sa.column("conversion_metric_id"), schema=self.schema)
            row_count = sa.select(sa.func.count()).where(table.c.date == self._day_of(ledger.c.window_start))
            if name == self.report:
                row_count = row_count.where(table.c.conversion_metric_id == ledger.c.conversion_metric_id)
            connection.execute(
                sa.update(ledger)
                .values(rows_fetched=row_count.scalar_subquery())
                .where(
                    # This includes the windows of further metrics.
                    sa.func.split_part(ledger.c.entity, ":", 1) == name,
                    ledger.c.status == "synced",
                    self._day_of(ledger.c.window_start).in_(days),
                )
            )

    def _recompute(self, connection: sa.Connection, days: Collection[date]) -> None:
        metrics, target = (
            Metrics(self.schema, CAMPAIGN_METRICS),
            reflect(connection, self.schema, CAMPAIGN_METRICS.name),
        )
        now = database_now(connection)
        ledger = Ledger(self.schema, CAMPAIGN_METRICS.name).table
        day_of_window = self._day_of(ledger.c.window_start)
        computed = sa.select(day_of_window).where(
            ledger.c.entity == CAMPAIGN_METRICS.name, ledger.c.status == "synced", day_of_window.in_(days)
        )
        for day in connection.execute(computed).scalars().all():
            rows = metrics.compute(connection, day, day)
            merge(connection, target, _frame(target, rows), replaces=ReplaceRange("date", day, day, now))


def undated_of(report: str) -> str:
    """The table with those rows of a campaign report that have no day."""
    return f"{report}_undated"


def _frame(target: DestinationTable, rows: Iterable[Row]) -> pd.DataFrame:
    names = target.written
    return pd.DataFrame([[row[name] for name in names] for row in rows], columns=pd.Index(names), dtype=object)


def _key(target: DestinationTable, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in target.key)


def _supersedes(new: Row, old: Row) -> bool:
    covers = new[ASKED_FROM] <= old[ASKED_FROM] and new[ASKED_TO] >= old[ASKED_TO]
    return covers or (new["recipients"] or 0) >= (old["recipients"] or 0)


def _covers(span: ReplaceRange, row: Row, *, observed_before: datetime) -> bool:
    return bool(span.first <= row[ASKED_FROM] and span.last >= row[ASKED_TO] and row[OBSERVED_AT] < observed_before)
