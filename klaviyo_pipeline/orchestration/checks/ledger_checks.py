"""Checks of the ledger: whether an asset's windows are without gaps and overlaps, synced, and recent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.catalog import METRICS
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.orchestration.checks.check import (
    Check,
    CheckContext,
    CheckOutcome,
    error,
    passed,
    some,
    warning,
)
from klaviyo_pipeline.postgres.ledger import Ledger

LATE = timedelta(hours=36)
"""A day's window is synced within hours of its end. After 36 hours, the next day's window is due."""

LATE_HOURLY = timedelta(hours=6)

VERY_LATE = timedelta(days=7)


def ledger_checks(*, hourly: bool) -> tuple[Check, ...]:
    """The checks of the windows of one asset."""
    late = LATE_HOURLY if hourly else LATE
    return (
        Check(
            "windows_do_not_overlap",
            "No two windows of the ledger overlap, and each is one of the account's windows. Windows of another time "
            "zone, and days that are counted twice, fail this check.",
            windows_do_not_overlap,
        ),
        Check(
            "windows_have_no_gaps",
            "Each window of the ledger ends where the next begins, so that no time between two windows was left out.",
            windows_have_no_gaps,
        ),
        Check(
            "windows_have_not_failed",
            "No window is without data because every attempt to sync it failed, or because its rows were lost.",
            windows_have_not_failed,
        ),
        Check(
            "synced_through_is_fresh",
            f"Data is synced without a gap up to at most {_age(late)} ago (else a warning) or {_age(VERY_LATE)} ago "
            "(else an error). What counts is the end of the last window, not the time of the last successful run.",
            lambda ctx: synced_through_is_fresh(ctx, late),
        ),
    )


def windows_do_not_overlap(ctx: CheckContext) -> CheckOutcome:
    windows = _windows(ctx)
    overlapping = ctx.rows(
        sa.select(windows).where(windows.c.window_end > windows.c.following).order_by(windows.c.window_end)
    )
    if overlapping:
        return error(
            f"{counted(len(overlapping), 'overlap')} between windows of {ctx.asset}: "
            f"{some(_utc(row.window_start) for row in overlapping)}. {_RESET_WINDOWS}",
            windows=len(overlapping),
        )
    strays = _strays(ctx)
    if strays:
        return error(
            f"{counted(len(strays), 'window')} of {ctx.asset} that do not match the account's time zone and window "
            f"size: {some(_utc(start) for start in strays)}. {_RESET_WINDOWS}",
            windows=len(strays),
        )
    return passed("all windows match the account's time zone and window size, and none overlap")


def windows_have_no_gaps(ctx: CheckContext) -> CheckOutcome:
    windows = _windows(ctx)
    gaps = ctx.rows(sa.select(windows).where(windows.c.window_end < windows.c.following).order_by(windows.c.window_end))
    if not gaps:
        return passed("no gaps between windows")
    zone = ctx.account.zone
    sample = some(f"{_utc(row.window_end)} to {_utc(row.following)}" for row in gaps)
    first = gaps[0].window_end.astimezone(zone).date()
    last = (gaps[-1].following.astimezone(zone) - timedelta(microseconds=1)).date()
    return warning(
        f"{counted(len(gaps), 'gap')} between windows of {ctx.asset}, never synced: {sample}. Run "
        f"`klaviyo-pipeline sync {_assets(ctx)} --from {first} --to {last}`.",
        gaps=len(gaps),
    )


def windows_have_not_failed(ctx: CheckContext) -> CheckOutcome:
    ledger = Ledger(ctx.account.slug, ctx.asset).table
    query = (
        sa.select(ledger.c.window_start, ledger.c.error)
        .where(ledger.c.entity == ctx.asset, ledger.c.status == "failed")
        .order_by(ledger.c.window_start)
    )
    failed = ctx.rows(query)
    if not failed:
        return passed("no failed windows")
    return error(
        f"{counted(len(failed), 'window')} of {ctx.asset} not synced: "
        f"{some(_utc(row.window_start) for row in failed)}. Last error: {failed[-1].error}. "
        f"Run `klaviyo-pipeline sync {_assets(ctx)}` to retry.",
        windows=len(failed),
    )


def synced_through_is_fresh(ctx: CheckContext, late: timedelta) -> CheckOutcome:
    status = ctx.view("sync_status", ["entity", "synced_through"])
    query = sa.select(status.c.synced_through).where(status.c.entity == ctx.asset)
    through: datetime | None = ctx.connection.execute(query).scalar_one_or_none()
    remedy = f"run `klaviyo-pipeline sync {_assets(ctx)}`"
    if through is None:
        return warning(f"{ctx.asset} was never synced: {remedy}")
    age = ctx.now - through
    found = f"{ctx.asset} is synced through {through:%Y-%m-%d %H:%M} UTC"
    if age <= late:
        return passed(found)
    outcome = error if age > VERY_LATE else warning
    return outcome(
        f"{found}, {_age(age)} ago: {remedy} or switch on its schedule", hours=round(age / timedelta(hours=1))
    )


_RESET_WINDOWS = (
    "Run `klaviyo-pipeline reset-windows`, then sync again: rows are kept, and all windows are synced anew."
)


def _assets(ctx: CheckContext) -> str:
    """The assets to sync: for metrics the report too, because a sync of metrics alone requests nothing."""
    return f"{METRICS[ctx.asset].report} {ctx.asset}" if ctx.asset in METRICS else ctx.asset


def _windows(ctx: CheckContext) -> sa.Subquery:
    """Every window of the asset, with the start of the next one."""
    ledger = Ledger(ctx.account.slug, ctx.asset).table
    following = sa.func.lead(ledger.c.window_start).over(order_by=ledger.c.window_start)
    query = sa.select(ledger.c.window_start, ledger.c.window_end, following.label("following"))
    return query.where(ledger.c.entity == ctx.asset).subquery()


def _strays(ctx: CheckContext) -> Sequence[Any]:
    """Starts of the ended windows since the start date that are not among the expected windows."""
    ledger = Ledger(ctx.account.slug, ctx.asset).table
    expected = ctx.view("expected_windows", ["entity", "window_start", "window_end"])
    ours = sa.select(expected).where(expected.c.entity == ctx.asset).cte()
    first = sa.select(sa.func.min(ours.c.window_start)).scalar_subquery()
    same = sa.and_(ours.c.window_start == ledger.c.window_start, ours.c.window_end == ledger.c.window_end)
    query = (
        sa.select(ledger.c.window_start)
        .select_from(ledger.outerjoin(ours, same))
        .where(
            ledger.c.entity == ctx.asset,
            ledger.c.window_end <= sa.func.now(),
            ledger.c.window_start >= first,
            ours.c.window_start.is_(None),
        )
        .order_by(ledger.c.window_start)
    )
    return ctx.connection.execute(query).scalars().all()


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _age(age: timedelta) -> str:
    return f"{age.days} days" if age >= timedelta(days=3) else f"{age / timedelta(hours=1):.0f} h"
