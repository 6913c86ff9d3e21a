"""A check of the reports by week and month: whether their values are possible, given the values of their days."""

from __future__ import annotations

from datetime import date
from functools import partial

import sqlalchemy as sa

from klaviyo_pipeline.catalog import FLOW_REPORT, ReportAsset, with_metrics
from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.orchestration.checks.check import Check, CheckContext, CheckOutcome, passed, warning
from klaviyo_pipeline.postgres.ledger import Ledger

NOISE = 0.5
"""Counts that really differ do so by at least 1. Differences of money values below this limit are ignored too."""


def period_checks(spec: ReportAsset) -> tuple[Check, ...]:
    """The check of a report by week or month; none for a daily report."""
    if spec.period == "day":
        return ()
    return (
        Check(
            "periods_match_days",
            f"For each {spec.period} that was requested after its attribution window closed, counts equal the sums of "
            f"{FLOW_REPORT.name}. Unique counts are at least the largest daily value and at most the sum of the daily "
            "values.",
            partial(periods_match_days, spec=spec),
        ),
    )


def periods_match_days(ctx: CheckContext, spec: ReportAsset) -> CheckOutcome:
    table, daily = ctx.target().table, ctx.target(FLOW_REPORT.name).table
    period = ctx.period()
    settled = _settled_periods(ctx, period.element)
    keys = spec.report.keys
    sums, uniques = spec.report.by_use.sums, spec.report.by_use.uniques
    days = sa.and_(
        *(daily.c[key] == table.c[key] for key in (*keys, "conversion_metric_id")),
        daily.c.date.between(table.c.covered_from, table.c.covered_to),
    )
    zero = sa.literal(0)
    wrong = [
        sa.func.abs(sa.func.coalesce(table.c[name], zero) - sa.func.coalesce(sa.func.sum(daily.c[name]), zero)) > NOISE
        for name in sums
    ]
    wrong += [
        sa.or_(
            table.c[name] > sa.func.coalesce(sa.func.sum(daily.c[name]), zero) + NOISE,
            table.c[name] < sa.func.max(daily.c[name]) - NOISE,
        )
        for name in uniques
    ]
    query = (
        sa.select(table.c[keys[0]].label("id"), period)
        .select_from(table.outerjoin(daily, days))
        .where(settled)
        .group_by(*table.primary_key.columns)
        .having(sa.or_(*wrong))
        .order_by(period)
    )
    rows = ctx.rows(query)
    if not rows:
        return passed(f"every settled {spec.period} matches its days")
    first, last = max(rows[0].date, ctx.account.start_date), rows[-1].date
    assets = f"{with_metrics(FLOW_REPORT.name, ctx.account)} {with_metrics(spec.name, ctx.account)}"
    return warning(
        f"{ctx.asset} has {counted(len(rows), 'row')} with values that do not match those of their days: "
        f"{some(f'{row.id} in the {spec.period} of {row.date}' for row in rows)}. Klaviyo has restated settled days. "
        f"Run `klaviyo-pipeline sync {assets} --from {first} --force`. The last of these {spec.period}s begins on "
        f"{last}.",
        rows=len(rows),
    )


def _settled_periods(ctx: CheckContext, period: sa.ColumnElement[date]) -> sa.ColumnElement[bool]:
    """Whether the period and its days were requested after their attribution windows, with all statistics."""
    table, ledger = ctx.target().table, Ledger(ctx.account.slug, ctx.asset).table
    account = ctx.view("account", ["attribution_days"])
    wait = sa.select(account.c.attribution_days * sa.text("interval '1 day'")).scalar_subquery()
    asked = sa.exists().where(
        ledger.c.entity == ctx.asset,
        ledger.c.status == "synced",
        ledger.c.conversion_metric_id == table.c.conversion_metric_id,
        ctx.day_of(ledger.c.window_start) == period,
        ledger.c.asked_at >= ledger.c.window_end + wait,
        sa.func.cardinality(ledger.c.refused_statistics) == 0,
    )
    days = ctx.view("report_days", ["entity", "date", "conversion_metric_id", "is_settled", "refused_statistics"])
    settled_days = (
        sa.select(sa.func.count())
        .where(
            days.c.entity == FLOW_REPORT.name,
            days.c.conversion_metric_id == table.c.conversion_metric_id,
            days.c.date.between(table.c.covered_from, table.c.covered_to),
            days.c.is_settled,
            sa.func.cardinality(days.c.refused_statistics) == 0,
        )
        .scalar_subquery()
    )
    return sa.and_(asked, settled_days == table.c.covered_to - table.c.covered_from + 1)
