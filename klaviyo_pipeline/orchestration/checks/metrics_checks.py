"""Checks of the metrics tables: whether they equal the sums of their report, and whether rates are within bounds."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import sqlalchemy as sa

from klaviyo_pipeline.catalog import METRICS, MetricsTable, has_conversion_metric, period_column, period_of
from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.orchestration.checks.check import (
    Check,
    CheckContext,
    CheckOutcome,
    error,
    passed,
    sync_again,
    warning,
)
from klaviyo_pipeline.postgres.ledger import Ledger

NOISE = Decimal("0.000001")
"""Klaviyo returns counts as floats with rounding noise, so a rate may be slightly above 1."""

FRACTIONS = (
    "open_rate",
    "click_rate",
    "bounce_rate",
    "delivery_rate",
    "unsubscribe_rate",
    "spam_complaint_rate",
    "close_rate",
)
"""Rates from 0 to 1: the numerator is a part of the denominator."""

NOT_NEGATIVE = ("click_to_open_rate", "conversion_rate", "submit_rate")
"""Rates that may exceed 1. A click counts even if blocked images hid the open. A conversion counts even if the delivery
was never confirmed. A submit counts even if the view of an embedded form did not. Other columns have no bounds:
revenue per recipient is not a rate, and the change of a segment may be negative."""


def metrics_checks(table: MetricsTable) -> tuple[Check, ...]:
    """The checks of one metrics table."""
    period = period_of(table.name)
    checks = [
        Check(
            "metrics_match_report",
            f"For each {table.key.removesuffix('_id')} and {period}, the sums equal those of {table.report} exactly. "
            f"{period.title()}s whose report was synced again later are ignored: the next run computes them again.",
            lambda ctx: metrics_match_report(ctx, table),
        )
    ]
    if table.name != "segment_metrics":
        checks.append(
            Check(
                "rates_within_bounds",
                f"Between 0 and 1: {', '.join(FRACTIONS)}. Not below 0: {', '.join(NOT_NEGATIVE)}.",
                rates_within_bounds,
            )
        )
    return tuple(checks)


def rates_within_bounds(ctx: CheckContext) -> CheckOutcome:
    target = ctx.target()
    columns = target.table.c
    wrong = {name: columns[name] < 0 for name in (*FRACTIONS, *NOT_NEGATIVE) if name in columns}
    wrong |= {name: sa.or_(columns[name] < 0, columns[name] > 1 + NOISE) for name in FRACTIONS if name in columns}
    key, report = target.key[0], METRICS[ctx.asset].report
    query = sa.select(columns[key], ctx.period(), *(test.label(name) for name, test in wrong.items()))
    rows = ctx.rows(query.where(sa.or_(*wrong.values())).order_by(ctx.period()))
    if not rows:
        return passed("all rates are within bounds")
    sample = some(f"{', '.join(n for n in wrong if getattr(row, n))} of {row[0]} on {row.date}" for row in rows)
    # Only a warning: if the sums differ from those of the report, `metrics_match_report` ends in an error.
    return warning(
        f"{ctx.asset} has {counted(len(rows), 'row')} with a rate out of bounds: {sample}. "
        f"{sync_again(ctx, f'{report} {ctx.asset}', rows[0].date, rows[-1].date)} If these rows stay the "
        f"same, the counts are Klaviyo's own: see the checks of {report}.",
        rows=len(rows),
    )


def metrics_match_report(ctx: CheckContext, table: MetricsTable) -> CheckOutcome:
    metrics, report = ctx.target(), ctx.target(table.report)
    others = {"conversion_metric_id", "covered_from", "covered_to"}
    names = [name for name in metrics.content if name in report.content and name not in others]
    days = _computed_days(ctx, table)
    key, period, reported = table.key, ctx.period(), report.table.c[period_column(table.report)]
    metric = "conversion_metric_id"
    of_metric = [days.c[metric] == report.table.c[metric]] if has_conversion_metric(table.report) else []
    sums = (
        sa.select(
            report.table.c[key], reported.label("date"), *(sa.func.sum(report.table.c[n]).label(n) for n in names)
        )
        .join(days, sa.and_(days.c.date == reported, *of_metric))
        .group_by(report.table.c[key], reported)
        .subquery()
    )
    ours = (
        sa.select(metrics.table.c[key], period, *(metrics.table.c[n] for n in names))
        .where(period.element.in_(sa.select(days.c.date)))
        .subquery()
    )
    same_key = sa.and_(ours.c[key] == sums.c[key], ours.c.date == sums.c.date)
    # The key is part of the comparison. Otherwise a row with only NULLs would equal a missing row.
    ours_is, sums_is = (sa.tuple_(*(side.c[name] for name in (key, *names))) for side in (ours, sums))
    query = (
        sa.select(
            sa.func.coalesce(ours.c[key], sums.c[key]).label("id"),
            sa.func.coalesce(ours.c.date, sums.c.date).label("date"),
        )
        .select_from(ours.outerjoin(sums, same_key, full=True))
        .where(ours_is.op("IS DISTINCT FROM")(sums_is))
        .order_by("date", "id")
    )
    rows = ctx.rows(query)
    if not rows:
        return passed(f"all sums match {table.report}")
    found: list[date] = [row.date for row in rows]
    # The remedy syncs the report too: metrics that are computed from a wrong report would match it and hide the error.
    return error(
        f"{ctx.asset} has {counted(len(rows), 'row')} not equal to the sums of {table.report}: "
        f"{some(f'{row.id} on {row.date}' for row in rows)}. "
        f"{sync_again(ctx, f'{table.report} {ctx.asset}', found[0], found[-1])}",
        rows=len(rows),
    )


def _computed_days(ctx: CheckContext, table: MetricsTable) -> sa.CTE:
    """The days whose metrics were computed from the latest report, with the conversion metric of its request."""
    ledger = Ledger(ctx.account.slug, table.name).table
    computed, requested = ledger.alias("computed"), ledger.alias("requested")
    query = (
        sa.select(ctx.day_of(computed.c.window_start).label("date"), requested.c.conversion_metric_id)
        .join_from(computed, requested, computed.c.window_start == requested.c.window_start)
        .where(
            computed.c.entity == table.name,
            requested.c.entity == table.report,
            computed.c.status == "synced",
            requested.c.status == "synced",
            computed.c.asked_at >= requested.c.asked_at,
        )
    )
    return query.cte("days")
