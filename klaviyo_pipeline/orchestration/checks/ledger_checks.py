"""Checks of the ledger: whether an asset's windows are whole, in their places, synced, and of today."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.orchestration.checks.check import (
    Check,
    CheckContext,
    CheckOutcome,
    counted,
    error,
    passed,
    some,
    warning,
)
from klaviyo_pipeline.postgres.ledger import Ledger

LATE = timedelta(hours=36)
"""A day's window is asked within hours of its end: by then the next day's is due."""

LATE_HOURLY = timedelta(hours=6)

VERY_LATE = timedelta(days=7)


def ledger_checks(*, hourly: bool) -> tuple[Check, ...]:
    """The checks of the windows of one asset."""
    late = LATE_HOURLY if hourly else LATE
    return (
        Check(
            "windows_do_not_overlap",
            "No two windows of the ledger share a moment, and each is one of the account's windows: a day counted "
            "twice, or cut in another zone, is told here.",
            windows_do_not_overlap,
        ),
        Check(
            "windows_have_no_gaps",
            "Each window of the ledger ends where the next begins: nothing between two synced windows was never asked.",
            windows_have_no_gaps,
        ),
        Check(
            "windows_have_not_failed",
            "No window is without data because its last attempt failed.",
            windows_have_not_failed,
        ),
        Check(
            "synced_through_is_fresh",
            f"Everything is synced, without a gap, up to {_age(late)} ago or later (a warning), {_age(VERY_LATE)} ago "
            "or later (an error). It counts what the data reaches up to, not when a run last succeeded.",
            lambda ctx: synced_through_is_fresh(ctx, late),
        ),
    )


def windows_do_not_overlap(ctx: CheckContext) -> CheckOutcome:
    spans = _spans(ctx)
    overlapping = ctx.rows(sa.select(spans).where(spans.c.window_end > spans.c.following).order_by(spans.c.window_end))
    if overlapping:
        return error(
            f"{counted(len(overlapping), 'window')} of {ctx.asset} overlap the next one: "
            f"{some(_seen(row.window_start) for row in overlapping)}. {_RESET_WINDOWS}",
            windows=len(overlapping),
        )
    strays = _strays(ctx)
    if strays:
        return error(
            f"{counted(len(strays), 'window')} of {ctx.asset} are not as the account's windows are cut: "
            f"{some(_seen(start) for start in strays)}. {_RESET_WINDOWS}",
            windows=len(strays),
        )
    return passed("every window is one of the account's, and none overlaps another")


def windows_have_no_gaps(ctx: CheckContext) -> CheckOutcome:
    spans = _spans(ctx)
    gaps = ctx.rows(sa.select(spans).where(spans.c.window_end < spans.c.following).order_by(spans.c.window_end))
    if not gaps:
        return passed("the windows follow one another")
    zone = ctx.account.zone
    sample = some(f"{_seen(row.window_end)} to {_seen(row.following)}" for row in gaps)
    first = gaps[0].window_end.astimezone(zone).date()
    last = (gaps[-1].following.astimezone(zone) - timedelta(microseconds=1)).date()
    return warning(
        f"{counted(len(gaps), 'gap')} between the windows of {ctx.asset} were never asked: {sample}. Run "
        f"`klaviyo-pipeline sync {ctx.asset} --from {first} --to {last}`.",
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
        return passed("no window is failed")
    return error(
        f"{counted(len(failed), 'window')} of {ctx.asset} were never synced, and the last attempt failed: "
        f"{some(_seen(row.window_start) for row in failed)}; the last reason: {failed[-1].error}. "
        f"`klaviyo-pipeline sync {ctx.asset}` asks for them again.",
        windows=len(failed),
    )


def synced_through_is_fresh(ctx: CheckContext, late: timedelta) -> CheckOutcome:
    status = ctx.view("sync_status", ["entity", "synced_through"])
    query = sa.select(status.c.synced_through).where(status.c.entity == ctx.asset)
    through: datetime | None = ctx.connection.execute(query).scalar_one_or_none()
    remedy = f"run `klaviyo-pipeline sync {ctx.asset}`"
    if through is None:
        return warning(f"no window of {ctx.asset} was ever synced: {remedy}")
    age = ctx.now - through
    found = f"{ctx.asset} is synced through {through:%Y-%m-%d %H:%M} UTC"
    if age <= late:
        return passed(found)
    judged = error if age > VERY_LATE else warning
    return judged(
        f"{found}, {_age(age)} ago: {remedy}, or switch on its schedule", hours=round(age / timedelta(hours=1))
    )


_RESET_WINDOWS = "Run `klaviyo-pipeline reset-windows`, then sync again: rows stay, every window is asked again."


def _spans(ctx: CheckContext) -> sa.Subquery:
    """Every window of the asset, with the start of the one that follows."""
    ledger = Ledger(ctx.account.slug, ctx.asset).table
    following = sa.func.lead(ledger.c.window_start).over(order_by=ledger.c.window_start)
    query = sa.select(ledger.c.window_start, ledger.c.window_end, following.label("following"))
    return query.where(ledger.c.entity == ctx.asset).subquery()


def _strays(ctx: CheckContext) -> Sequence[Any]:
    """Starts of the ended windows since the start date that are not among those expected."""
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


def _seen(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _age(age: timedelta) -> str:
    return f"{age.days} days" if age >= timedelta(days=3) else f"{age / timedelta(hours=1):.0f} h"
