"""Whether the rows that the ledger counted are there: a table may be emptied or restored while the ledger stays."""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial

import sqlalchemy as sa

from klaviyo_pipeline.catalog import MetricsTable
from klaviyo_pipeline.orchestration.checks.check import Check, CheckContext, CheckOutcome, counted, error, passed, some
from klaviyo_pipeline.postgres.day_counts import days_that_differ
from klaviyo_pipeline.postgres.ledger import Ledger

NAME = "rows_match_ledger"


def report_count_check() -> Check:
    """The check of a report's table."""
    return Check(NAME, "Each synced day has as many rows as the ledger counted.", report_rows_match_ledger)


def metrics_count_check(table: MetricsTable) -> Check:
    """The check of a metrics table."""
    return Check(
        NAME, "Each synced day has as many rows as the ledger counted.", partial(metrics_rows_match_ledger, table=table)
    )


def entity_count_check() -> Check:
    """The check of an entity's table."""
    return Check(
        NAME,
        "Each synced window that contained objects has states of objects, present or earlier, in the table's history.",
        entity_rows_match_ledger,
    )


def report_rows_match_ledger(ctx: CheckContext) -> CheckOutcome:
    metrics = ctx.asset.replace("_report", "_metrics")
    return _compared(ctx, days_that_differ(ctx.connection, ctx.account, ctx.asset), f"{ctx.asset} {metrics}")


def metrics_rows_match_ledger(ctx: CheckContext, table: MetricsTable) -> CheckOutcome:
    """Computing metrics again from a report that lost its rows would lose the metrics too: the report comes first."""
    days = days_that_differ(ctx.connection, ctx.account, ctx.asset)
    lost = set(days) & set(days_that_differ(ctx.connection, ctx.account, table.report))
    return _compared(ctx, days, f"{table.report} {ctx.asset}" if lost else ctx.asset)


def _compared(ctx: CheckContext, days: list[date], assets: str) -> CheckOutcome:
    if not days:
        return passed("every synced day has the rows that the ledger counted")
    return error(
        f"{counted(len(days), 'day')} of {ctx.asset} have other numbers of rows than the ledger counted: "
        f"{some(days)}. The table was changed by hand, emptied or restored. "
        f"Run `klaviyo-pipeline sync {assets} --from {days[0]} --to {days[-1]} --force`.",
        days=len(days),
    )


def entity_rows_match_ledger(ctx: CheckContext) -> CheckOutcome:
    """An object that changed since counts in another window, but its earlier state stays in the history.

    One whose time cannot be read counts in a window that the history does not tell.
    """
    ledger = Ledger(ctx.account.slug, ctx.asset).table
    history = ctx.view(f"{ctx.asset}_history", ["updated_at"])
    inside = sa.or_(
        sa.and_(history.c.updated_at >= ledger.c.window_start, history.c.updated_at < ledger.c.window_end),
        history.c.updated_at.is_(None),
    )
    query = (
        sa.select(ledger.c.window_start, ledger.c.window_end)
        .where(
            ledger.c.entity == ctx.asset,
            ledger.c.status == "synced",
            ledger.c.rows_fetched > 0,
            ~sa.exists().where(inside),
        )
        .order_by(ledger.c.window_start)
    )
    windows = ctx.rows(query)
    if not windows:
        return passed("every window that contained objects has some in the history")
    zone = ctx.account.zone
    first = windows[0].window_start.astimezone(zone).date()
    last = (windows[-1].window_end.astimezone(zone) - timedelta(microseconds=1)).date()
    return error(
        f"{counted(len(windows), 'window')} of {ctx.asset} contained objects when they were synced, and none is in "
        f"the table: {some(row.window_start.astimezone(zone).date() for row in windows)}. The table was emptied or "
        "restored by hand. "
        f"Run `klaviyo-pipeline sync {ctx.asset} {ctx.asset}_census --from {first} --to {last} --force`.",
        windows=len(windows),
    )
