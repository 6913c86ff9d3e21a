"""Checks of the report tables: whether values are plausible and complete, and requested with the current settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from operator import eq

import sqlalchemy as sa

from klaviyo_pipeline.catalog import BREAKDOWNS, ReportAsset, period_of, with_metrics
from klaviyo_pipeline.config.time_zones import same_zone
from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.klaviyo.refused_statistics import refused_words
from klaviyo_pipeline.klaviyo.report_types import GROUPS, Report, SeriesReport
from klaviyo_pipeline.orchestration.checks.check import (
    Check,
    CheckContext,
    CheckOutcome,
    error,
    passed,
    shortened,
    sync_again,
    warning,
)
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.refusals import refusals
from klaviyo_pipeline.postgres.write.campaign_days import undated_of

SIGNED = frozenset({"conversion_value", "net_members_changed"})
"""Sums that may be negative: a refund is an event with a negative value, and a segment may shrink."""

NOISE = Decimal("0.5")
"""Klaviyo returns counts as floats with rounding noise. Counts that really differ do so by at least 1."""

SILENT_DAYS = 30

_OF_MESSAGES = {
    "opens_unique": "opens",
    "clicks_unique": "clicks",
    "conversion_uniques": "conversions",
    "unsubscribe_uniques": "unsubscribes",
}
_OF_FORMS = {
    f"{name}_uniques": name
    for name in ("viewed_form", "viewed_form_step", "submitted_form_step", "closed_form", "qualified_form")
}

_OF_EMAILS = {"opens_unique": "delivered", "clicks_unique": "delivered"}
"""Pairs for email only. People can open or click an email only if it was delivered. Opens, clicks and deliveries are
counted by the day of the send. A click on a text message counts even if its delivery was never confirmed, and one push
notification can be opened on several devices."""


@dataclass(frozen=True)
class Active:
    """Which objects of an entity should have values in its report: those whose `column` has this `value`.

    With `sent`, only objects that were sent in the last `SILENT_DAYS` days are examined. Otherwise, only objects that
    were created before these days are examined.
    """

    column: str
    value: object
    sent: bool = False


ACTIVE: Mapping[str, Active] = {
    "flows": Active("status", "live"),
    "campaigns": Active("status", "Sent", sent=True),
    "forms": Active("status", "live"),
    "segments": Active("is_active", True),
}


def report_checks(spec: ReportAsset) -> tuple[Check, ...]:
    """The checks of one report's table."""
    checks = [
        Check(
            "timezone_matches_account",
            "Sync windows use the account's own time zone, and every day was requested while the account had this time "
            "zone. Otherwise, values are stored under the wrong day.",
            timezone_matches_account,
            blocking=True,
        ),
        Check(
            "counts_are_not_negative",
            "No count is below zero. Conversion values may be negative (refunds), and a segment may shrink.",
            lambda ctx: counts_are_not_negative(ctx, spec.report),
            blocking=True,
        ),
    ]
    if spec.name not in BREAKDOWNS and spec.period == "day":
        checks.append(
            Check(
                "active_objects_have_metrics",
                f"All {_active_words(spec)} have values within the last {SILENT_DAYS} days. Only {spec.listing.entity} "
                f"{'sent in' if ACTIVE[spec.listing.entity].sent else 'created before'} these days are examined.",
                lambda ctx: active_objects_have_metrics(ctx, spec),
            )
        )
    checks.append(
        Check(
            "groups_have_ids",
            f"Each row is one group of Klaviyo's response and has a {spec.report.keys[0]}. Groups without an id are "
            "stored under an empty id, and groups with the same ids are added together.",
            lambda ctx: groups_have_ids(ctx, spec.report),
        )
    )
    if not isinstance(spec.report, SeriesReport):
        checks.append(
            Check(
                "rows_have_a_day",
                "Every campaign with values has a send time. The values of campaigns without one are stored in "
                f"{undated_of(spec.name)}.",
                rows_have_a_day,
            )
        )
    if pairs_of(spec.report):
        checks.append(
            Check(
                "uniques_are_within_counts",
                "Counts of people never exceed the counts of their actions (opens, clicks, views) or of delivered "
                "emails.",
                lambda ctx: uniques_are_within_counts(ctx, spec.report),
            )
        )
    if spec.report.needs_conversion_metric:
        checks += [
            Check(
                "conversions_are_of_one_metric",
                "Every day was requested with the current conversion metric, and with each further metric that is set.",
                lambda ctx: conversions_are_of_one_metric(ctx, spec.report),
            ),
            Check(
                "no_statistic_is_refused",
                "Klaviyo returned every statistic for every day. For some conversion metrics it returns counts, but no "
                "conversion values.",
                lambda ctx: no_statistic_is_refused(ctx, spec.report),
            ),
            Check(
                "values_are_in_one_currency",
                "Every day was requested while the account had its current currency.",
                values_are_in_one_currency,
            ),
        ]
    return tuple(checks)


def _active_words(spec: ReportAsset) -> str:
    return f"{'recently sent' if ACTIVE[spec.listing.entity].sent else 'active'} {spec.listing.entity}"


def pairs_of(report: Report) -> dict[str, str]:
    """Each statistic that counts people, with the statistic that counts their actions."""
    return {unique: count for unique, count in (_OF_MESSAGES | _OF_FORMS).items() if unique in report.statistics}


def counts_are_not_negative(ctx: CheckContext, report: Report) -> CheckOutcome:
    table = ctx.target().table
    counts = (*report.by_use.sums, *report.by_use.uniques, *report.by_use.levels)
    bad = sa.or_(*(table.c[name] < 0 for name in counts if name not in SIGNED))
    period = ctx.period()
    rows = ctx.rows(sa.select(table.c[report.keys[0]], period).where(bad).order_by(period))
    if not rows:
        return passed("no count is below zero")
    days = [row.date for row in rows]
    return error(
        f"{ctx.asset} has {counted(len(rows), 'row')} with a count below zero: "
        f"{some(f'{row[0]} on {row.date}' for row in rows)}. {_sync_again(ctx, days[0], days[-1])}",
        rows=len(rows),
    )


def uniques_are_within_counts(ctx: CheckContext, report: Report) -> CheckOutcome:
    table = ctx.target().table
    above = [table.c[unique] > table.c[count] + NOISE for unique, count in pairs_of(report).items()]
    if "send_channel" in table.c:
        email = table.c.send_channel == "email"
        above += [sa.and_(email, table.c[unique] > table.c[count] + NOISE) for unique, count in _OF_EMAILS.items()]
    period = ctx.period()
    query = sa.select(table.c[report.keys[0]], period).where(sa.or_(*above)).order_by(period)
    rows = ctx.rows(query)
    if not rows:
        return passed("no row counts more people than actions")
    return warning(
        f"{ctx.asset} has {counted(len(rows), 'row')} with more people than actions: "
        f"{some(f'{row[0]} on {row.date}' for row in rows)}. {_sync_again(ctx, rows[0].date, rows[-1].date)} If these "
        "rows stay the same, the values are Klaviyo's own, and rates of these days may exceed 1.",
        rows=len(rows),
    )


def groups_have_ids(ctx: CheckContext, report: Report) -> CheckOutcome:
    table, key = ctx.target().table, report.keys[0]
    odd = sa.or_(table.c[key] == "", table.c[GROUPS] > 1)
    period = ctx.period()
    query = sa.select(table.c[key].label("id"), period, table.c[GROUPS]).where(odd).order_by(period)
    rows = ctx.rows(query)
    if not rows:
        return passed("every row is one group with an id")
    named = some(f"{row.id or 'no id'} on {row.date} ({counted(row.groups, 'group')})" for row in rows)
    return warning(
        f"{ctx.asset} has {counted(len(rows), 'row')} from groups without an id, or from several groups with the same "
        f"ids: {named}. You have nothing to do: the counts are complete, but Klaviyo does not say to which object or "
        "message they belong.",
        rows=len(rows),
    )


def rows_have_a_day(ctx: CheckContext) -> CheckOutcome:
    undated = undated_of(ctx.asset)
    table = ctx.target(undated).table
    query = (
        sa.select(
            table.c.campaign_id.label("id"),
            sa.func.sum(table.c.recipients).label("recipients"),
            sa.func.sum(table.c.conversion_value).label("value"),
        )
        .group_by(table.c.campaign_id)
        .order_by(table.c.campaign_id)
    )
    if metric_id := Ledger(ctx.account.slug, ctx.asset).conversion_metric(ctx.connection):
        query = query.where(table.c.conversion_metric_id == metric_id)
    rows = ctx.rows(query)
    if not rows:
        return passed("every campaign with values has a send time")
    sample = some(
        f"{row.id or 'no id'} ({row.recipients or 0:,.0f} recipients, {row.value or 0:,.2f} in conversion_value)"
        for row in rows
    )
    return warning(
        f"{ctx.asset} has values of {counted(len(rows), 'campaign')} without a known send time: {sample}. The values "
        f"are stored in {undated} and belong to no day. Check the campaigns in Klaviyo. If they have a send time "
        f"there, run `klaviyo-pipeline sync campaigns_census {ctx.asset}`.",
        campaigns=len(rows),
    )


def active_objects_have_metrics(ctx: CheckContext, spec: ReportAsset) -> CheckOutcome:
    """Passes if some of the last days are not synced, because the checks of the ledger report such days."""
    active = ACTIVE[spec.listing.entity]
    until = ctx.account.today(ctx.now)
    since = until - timedelta(days=SILENT_DAYS)
    if not _all_requested(ctx, since, until):
        return passed(f"not all of the last {SILENT_DAYS} days are synced yet")
    parents, report = ctx.target(spec.listing.entity).table, ctx.target().table
    born = parents.c.send_time if active.sent else parents.c.created_at
    day = ctx.day_of(born)
    old_enough = sa.and_(day >= since, day < until) if active.sent else day < since
    values = sa.exists().where(report.c[spec.report.keys[0]] == parents.c.id, report.c.date >= since)
    query = (
        sa.select(parents.c.id, parents.c.name)
        .where(parents.c.deleted_at.is_(None), parents.c[active.column] == active.value, old_enough, ~values)
        .order_by(parents.c.id)
    )
    if "archived" in parents.c:
        query = query.where(parents.c.archived.is_not(True))
    silent = ctx.rows(query)
    if not silent:
        return passed(f"all {_active_words(spec)} have values since {since}")
    return warning(
        f"{ctx.asset} has no values since {since} for {len(silent):,} of the {_active_words(spec)}: "
        f"{some(f'{shortened(row.name)} ({row.id})' for row in silent)}. Check them in Klaviyo: perhaps no profile "
        "qualifies any more, or something is broken.",
        silent=len(silent),
    )


def timezone_matches_account(ctx: CheckContext) -> CheckOutcome:
    account = ctx.view("account", ["timezone"])
    theirs = ctx.connection.execute(sa.select(account.c.timezone)).scalar_one_or_none()
    ours = ctx.account.timezone
    if theirs is None:
        return passed("the account's time zone is not known yet")
    if not same_zone(theirs, ours):
        return error(
            f"the sync windows use {ours}, but the account's own time zone is {theirs}, which Klaviyo uses for report "
            f"days. Set KLAVIYO_TIMEZONE={theirs}, run `klaviyo-pipeline reset-windows`, then `klaviyo-pipeline sync`.",
            configured=ours,
            account=theirs,
        )
    return _same_as_now(
        ctx, "account_timezone", theirs, "while the account's time zone was", "the time zone is now", same_zone
    )


def no_statistic_is_refused(ctx: CheckContext, report: Report) -> CheckOutcome:
    ledger = Ledger(ctx.account.slug, ctx.asset).table
    query = (
        sa.select(
            ctx.day_of(ledger.c.window_start).label("day"), ledger.c.conversion_metric_id, ledger.c.refused_statistics
        )
        .where(
            ledger.c.entity == ctx.asset,
            ledger.c.status == "synced",
            sa.func.cardinality(ledger.c.refused_statistics) > 0,
        )
        .order_by(ledger.c.window_start)
    )
    days = ctx.rows(query)
    if not days:
        return passed("Klaviyo returned every requested statistic")
    names = frozenset(name for row in days for name in row.refused_statistics)
    words = refused_words(report, days[-1].conversion_metric_id, names)
    first, last = days[0].day, days[-1].day
    return warning(
        f"{words}, so they are NULL for {counted(len(days), 'day')} ({first} to {last}), here and in the metrics "
        "computed from them. Set KLAVIYO_CONVERSION_METRIC_ID to a metric for which Klaviyo returns them. To "
        f"request them for this metric again: {_sync_again(ctx, first, last)}",
        days=len(days),
        statistics=sorted(names),
    )


def conversions_are_of_one_metric(ctx: CheckContext, report: Report) -> CheckOutcome:
    present = _of_account(ctx, "conversion_metric_id")
    ledger = Ledger(ctx.account.slug, ctx.asset)
    refused = {(one.report, one.metric_id): one.statistics for one in refusals(ctx.connection, ctx.account.slug)}
    if present is not None and refused.get((report.name, present), frozenset()) >= frozenset(report.statistics):
        # Klaviyo refuses this report altogether for the account's metric, so it is requested with another metric.
        present = ledger.conversion_metric(ctx.connection)
    found = _same_as_now(ctx, "conversion_metric_id", present, "with the conversion metric", "the metric is now")
    every = set(ledger.done(ctx.connection))
    for metric_id in ctx.account.conversion_metrics[1:] if found.outcome == "passed" else ():
        if lacking := sorted(every - set(ledger.done(ctx.connection, conversion_metric_id=metric_id))):
            first, last = (moment.astimezone(ctx.account.zone).date() for moment in (lacking[0], lacking[-1]))
            return warning(
                f"{ctx.asset} was not requested with the further conversion metric {metric_id} for "
                f"{counted(len(lacking), period_of(ctx.asset))} ({first} to {last}). Run `klaviyo-pipeline sync "
                f"{ctx.asset} --from {max(first, ctx.account.start_date)} --to {last}`.",
                days=len(lacking),
            )
    return found


def values_are_in_one_currency(ctx: CheckContext) -> CheckOutcome:
    present = _of_account(ctx, "currency")
    return _same_as_now(ctx, "account_currency", present, "while the account's currency was", "the currency is now")


def _same_as_now(
    ctx: CheckContext, column: str, present: str | None, requested: str, now: str, same: Callable[[str, str], bool] = eq
) -> CheckOutcome:
    """Whether every synced day was requested with the `present` value; `same` compares two values of the column."""
    if present is None:
        return passed("not synced yet")
    ledger = Ledger(ctx.account.slug, ctx.asset).table
    days = ctx.day_of(ledger.c.window_start)
    other = ledger.c[column]
    query = (
        sa.select(
            other, sa.func.count().label("days"), sa.func.min(days).label("first"), sa.func.max(days).label("last")
        )
        .where(ledger.c.entity == ctx.asset, ledger.c.status == "synced", other != present)
        .group_by(other)
        .order_by(sa.func.min(days))
    )
    groups = [row for row in ctx.rows(query) if not same(row[0], present)]
    if not groups:
        return passed(f"every day was requested {requested} {present}")
    sample = some(f"{counted(row.days, 'day')} ({row.first} to {row.last}) {requested} {row[0]}" for row in groups)
    first, last = min(row.first for row in groups), max(row.last for row in groups)
    return error(
        f"{ctx.asset} was requested for {sample}; {now} {present}. {_sync_again(ctx, first, last)}",
        days=sum(row.days for row in groups),
    )


def _of_account(ctx: CheckContext, column: str) -> str | None:
    account = ctx.view("account", [column])
    found: str | None = ctx.connection.execute(sa.select(account.c[column])).scalar_one_or_none()
    return found


def _all_requested(ctx: CheckContext, since: date, until: date) -> bool:
    """Whether every day of [since, until) was requested after its end."""
    done = Ledger(ctx.account.slug, ctx.asset).done(ctx.connection)
    days = {start.astimezone(ctx.account.zone).date() for start in done}
    return all(since + timedelta(days=number) in days for number in range((until - since).days))


def _sync_again(ctx: CheckContext, first: date, last: date) -> str:
    return sync_again(ctx, with_metrics(ctx.asset, ctx.account), first, last)
