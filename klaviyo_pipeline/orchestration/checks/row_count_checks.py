"""Checks that tables have as many rows as the ledger counted: a table may be truncated while its ledger is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import partial

import sqlalchemy as sa

from klaviyo_pipeline.catalog import MetricsTable, has_conversion_metric, period_of, with_metrics
from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.orchestration.checks.check import (
    Check,
    CheckContext,
    CheckOutcome,
    error,
    passed,
    sync_again,
)
from klaviyo_pipeline.postgres.day_counts import days_that_differ
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.windows import asset_windows

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
        "For each synced window that contained objects, the history has states with an `updated` time in that window.",
        entity_rows_match_ledger,
    )


def report_rows_match_ledger(ctx: CheckContext) -> CheckOutcome:
    found = _compared(
        ctx, days_that_differ(ctx.connection, ctx.account, ctx.asset), with_metrics(ctx.asset, ctx.account)
    )
    further = (
        ctx.account.conversion_metrics[1:] if has_conversion_metric(ctx.asset) and found.outcome == "passed" else ()
    )
    for metric_id in further:
        days = days_that_differ(ctx.connection, ctx.account, ctx.asset, further_metric=metric_id)
        if days:
            return replace(_compared(ctx, days, ctx.asset), lost=())
    return found


def metrics_rows_match_ledger(ctx: CheckContext, table: MetricsTable) -> CheckOutcome:
    """Compare the rows of a metrics table with the ledger.

    If the report's rows do not match either, the remedy syncs the report too, because metrics are computed from it.
    """
    days = days_that_differ(ctx.connection, ctx.account, ctx.asset)
    lost = set(days) & set(days_that_differ(ctx.connection, ctx.account, table.report))
    return _compared(ctx, days, f"{table.report} {ctx.asset}" if lost else ctx.asset)


def _compared(ctx: CheckContext, days: list[date], assets: str) -> CheckOutcome:
    if not days:
        return passed("every synced day has as many rows as the ledger counted")
    windows = asset_windows(ctx.account, ctx.asset).of_keys(day.isoformat() for day in days)
    found = error(
        f"{ctx.asset} has a different number of rows than the ledger counted for "
        f"{counted(len(days), period_of(ctx.asset))}: {some(days)}. The table was changed by hand, truncated or "
        f"restored. {sync_again(ctx, assets, days[0], days[-1])}",
        days=len(days),
    )
    return replace(found, lost=[window.start for window in windows])


def entity_rows_match_ledger(ctx: CheckContext) -> CheckOutcome:
    """Compare the ledger with the history of an entity, which keeps the earlier states of changed objects.

    An object without a readable `updated` time was counted in some window, but the history does not show in which one.
    A window is therefore examined only if it contained more objects than the history has states without a time.
    """
    ledger = Ledger(ctx.account.slug, ctx.asset).table
    history = ctx.view(f"{ctx.asset}_history", ["updated_at"])
    inside = sa.and_(history.c.updated_at >= ledger.c.window_start, history.c.updated_at < ledger.c.window_end)
    without_time = sa.select(sa.func.count()).select_from(history).where(history.c.updated_at.is_(None))
    query = (
        sa.select(ledger.c.window_start, ledger.c.window_end)
        .where(
            ledger.c.entity == ctx.asset,
            ledger.c.status == "synced",
            ledger.c.rows_fetched > without_time.scalar_subquery(),
            ~sa.exists().where(inside),
        )
        .order_by(ledger.c.window_start)
    )
    windows = ctx.rows(query)
    if not windows:
        return passed("every window that contained objects has objects in the history")
    zone = ctx.account.zone
    first = windows[0].window_start.astimezone(zone).date()
    last = (windows[-1].window_end.astimezone(zone) - timedelta(microseconds=1)).date()
    found = error(
        f"{counted(len(windows), 'window')} of {ctx.asset} contained objects when synced, but the history has none of "
        f"their objects now: {some(row.window_start.astimezone(zone).date() for row in windows)}. The table was "
        f"truncated or restored. {sync_again(ctx, f'{ctx.asset} {ctx.asset}_census', first, last)}",
        windows=len(windows),
    )
    return replace(found, lost=[row.window_start for row in windows])
