"""Checks of the ledger: whether an asset's windows are without gaps and overlaps, synced, and recent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.catalog import METRICS
from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.orchestration.checks.check import (
    Check,
    CheckContext,
    CheckOutcome,
    earlier_start,
    error,
    passed,
    warning,
)
from klaviyo_pipeline.postgres.schema.system_tables import system_table

LATE = timedelta(hours=36)
"""A daily window is synced within hours of its end. 36 hours after that end, the next window is 12 hours late."""

LATE_HOURLY = timedelta(hours=6)

VERY_LATE = timedelta(days=7)


def ledger_checks(*, hourly: bool) -> tuple[Check, ...]:
    """The checks of the windows of one asset. With `hourly` windows, data is late sooner."""
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
            "Each window of the ledger ends where the next one begins, so that no time between two windows is missing.",
            windows_have_no_gaps,
        ),
        Check(
            "windows_have_not_failed",
            "No window has the status failed in the ledger. A window has it if every attempt to sync it failed, or if "
            "its rows were lost later.",
            windows_have_not_failed,
        ),
        Check(
            "synced_through_is_fresh",
            f"Data is synced without a gap up to a time at most {_age(late)} ago. An earlier time is a warning, or an "
            f"error if it is more than {_age(VERY_LATE)} ago. The end of the last window counts, not the time of the "
            "last successful run.",
            lambda ctx: synced_through_is_fresh(ctx, late),
        ),
    )


def windows_do_not_overlap(ctx: CheckContext) -> CheckOutcome:
    overlapping = [row for row in ctx.once(_odd_windows)[ctx.asset] if row.window_end > row.following]
    if overlapping:
        return error(
            f"{ctx.asset} has {counted(len(overlapping), 'overlap')} between windows: "
            f"{some(_utc(row.window_start) for row in overlapping)}. {_RESET_WINDOWS}",
            windows=len(overlapping),
        )
    strays = ctx.once(_strays)[ctx.asset]
    if strays:
        return error(
            f"{ctx.asset} has {counted(len(strays), 'window')} with another time zone or size than the account's "
            f"windows: {some(_utc(row.window_start) for row in strays)}. {_RESET_WINDOWS}",
            windows=len(strays),
        )
    return passed("all windows match the account's time zone and window size, and none overlap")


def windows_have_no_gaps(ctx: CheckContext) -> CheckOutcome:
    odd = ctx.once(_odd_windows)[ctx.asset]
    # Gaps before the start date are no error: the date was moved to a later day.
    gaps = [row for row in odd if row.window_end < row.following and row.following > _start(ctx)]
    if not gaps:
        return passed("no gaps between windows")
    zone = ctx.account.zone
    sample = some(f"{_utc(row.window_end)} to {_utc(row.following)}" for row in gaps)
    first = max(gaps[0].window_end.astimezone(zone).date(), ctx.account.start_date)
    last = (gaps[-1].following.astimezone(zone) - timedelta(microseconds=1)).date()
    return warning(
        f"{ctx.asset} has {counted(len(gaps), 'gap')} between its windows: {sample}. Run "
        f"`klaviyo-pipeline sync {_assets(ctx)} --from {first} --to {last}`.",
        gaps=len(gaps),
    )


def windows_have_not_failed(ctx: CheckContext) -> CheckOutcome:
    failed = ctx.once(_failed_windows)[ctx.asset]
    if not failed:
        return passed("no failed windows")
    return error(
        f"{ctx.asset} has {counted(len(failed), 'failed window')}: "
        f"{some(_utc(row.window_start) for row in failed)}. Last error: {str(failed[-1].error).rstrip('.')}. "
        f"{earlier_start(ctx, failed[0].window_start.astimezone(ctx.account.zone).date())}"
        f"Run `klaviyo-pipeline sync {_assets(ctx)}` to retry.",
        windows=len(failed),
    )


def synced_through_is_fresh(ctx: CheckContext, late: timedelta) -> CheckOutcome:
    through = ctx.once(_synced_through).get(ctx.asset)
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
    "Run `klaviyo-pipeline reset-windows`, then `klaviyo-pipeline sync`: rows are kept, and all windows are synced "
    "again."
)


def _assets(ctx: CheckContext) -> str:
    """The assets to sync. A metrics table needs its report too, because a sync of metrics alone sends no requests."""
    return f"{METRICS[ctx.asset].report} {ctx.asset}" if ctx.asset in METRICS else ctx.asset


# Each of the following functions reads the ledger once for all assets of a snapshot.


def _odd_windows(ctx: CheckContext) -> Mapping[str, Sequence[Any]]:
    """The windows that do not end where the next one begins, with the start of the next one, by asset."""
    ledger = system_table(ctx.account.slug, "sync_windows")
    following = sa.func.lead(ledger.c.window_start).over(partition_by=ledger.c.entity, order_by=ledger.c.window_start)
    windows = (
        sa.select(ledger.c.entity, ledger.c.window_start, ledger.c.window_end, following.label("following"))
        .where(ledger.c.entity.in_(ctx.assets))
        .subquery()
    )
    query = sa.select(windows).where(windows.c.window_end != windows.c.following).order_by(windows.c.window_end)
    return _by_asset(ctx.rows(query))


def _failed_windows(ctx: CheckContext) -> Mapping[str, Sequence[Any]]:
    ledger = system_table(ctx.account.slug, "sync_windows")
    # No sync requests windows before the start date, which may have been moved to a later day. A failed window before
    # the start date counts only if it was synced earlier.
    is_wanted, was_synced = ledger.c.window_end > _start(ctx), ledger.c.asked_at.is_not(None)
    query = (
        sa.select(ledger.c.entity, ledger.c.window_start, ledger.c.error)
        .where(ledger.c.entity.in_(ctx.assets), ledger.c.status == "failed", sa.or_(is_wanted, was_synced))
        .order_by(ledger.c.window_start)
    )
    return _by_asset(ctx.rows(query))


def _strays(ctx: CheckContext) -> Mapping[str, Sequence[Any]]:
    """The ended windows of the ledger that `expected_windows` lacks, from its first window on, by asset."""
    ledger = system_table(ctx.account.slug, "sync_windows")
    view = ctx.view("expected_windows", ["entity", "window_start", "window_end"])
    expected = sa.select(view).where(view.c.entity.in_(ctx.assets)).cte()
    start = sa.func.min(expected.c.window_start).label("start")
    since = sa.select(expected.c.entity, start).group_by(expected.c.entity).subquery()
    same = sa.and_(*(expected.c[name] == ledger.c[name] for name in ("entity", "window_start", "window_end")))
    query = (
        sa.select(ledger.c.entity, ledger.c.window_start)
        .select_from(ledger.join(since, since.c.entity == ledger.c.entity).outerjoin(expected, same))
        .where(
            ledger.c.window_end <= sa.func.now(),
            ledger.c.window_start >= since.c.start,
            expected.c.window_start.is_(None),
        )
        .order_by(ledger.c.window_start)
    )
    return _by_asset(ctx.rows(query))


def _synced_through(ctx: CheckContext) -> Mapping[str, datetime | None]:
    status = ctx.view("sync_status", ["entity", "synced_through"])
    return {row.entity: row.synced_through for row in ctx.rows(sa.select(status))}


def _by_asset(rows: Sequence[sa.Row[Any]]) -> Mapping[str, Sequence[sa.Row[Any]]]:
    found: defaultdict[str, list[sa.Row[Any]]] = defaultdict(list)
    for row in rows:
        found[row.entity].append(row)
    return found


def _start(ctx: CheckContext) -> datetime:
    """The first moment of the account's start date."""
    return datetime.combine(ctx.account.start_date, time(), ctx.account.zone)


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _age(age: timedelta) -> str:
    return f"{age.days} days" if age >= timedelta(days=3) else f"{age / timedelta(hours=1):.0f} h"
