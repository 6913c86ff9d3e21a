"""Checks of the metrics tables: whether they are their report's sums, and their rates can be rates."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import sqlalchemy as sa

from klaviyo_pipeline.checks.check import Check, Examination, Verdict, counted, error, passed, some
from klaviyo_pipeline.postgres.counts import days_that_differ
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.metrics import MetricsTable

NOISE = Decimal("0.000001")
"""Counts arrive as floats with noise, so that all of them may come to a little more than all."""

FRACTIONS = (
    "open_rate",
    "click_rate",
    "bounce_rate",
    "delivery_rate",
    "unsubscribe_rate",
    "spam_complaint_rate",
    "close_rate",
)
"""Rates of which the upper number is a part of the lower: from 0 to 1."""

NOT_NEGATIVE = ("click_to_open_rate", "conversion_rate", "submit_rate")
"""Rates that may exceed 1: a click is counted where images, and so the open, were blocked; a conversion where the
delivery was never confirmed; a submit where an embedded form's view was not counted. Revenue per recipient and the
like are no rates, and a segment may shrink, so neither is bounded."""


def metrics_checks(table: MetricsTable) -> tuple[Check, ...]:
    """The checks of one metrics table."""
    checks = [
        Check(
            "sums_are_the_reports",
            f"For each {table.key.removesuffix('_id')} and day the sums equal those of {table.report}, exactly. Days "
            "whose report was asked again since are left out: the next run computes them anew.",
            lambda look: sums_are_the_reports(look, table),
        )
    ]
    if table.name != "segment_metrics":
        checks.append(
            Check(
                "rates_can_be_rates",
                f"Between 0 and 1: {', '.join(FRACTIONS)}. Not below 0: {', '.join(NOT_NEGATIVE)}.",
                rates_can_be_rates,
            )
        )
    return tuple(checks)


def rates_can_be_rates(look: Examination) -> Verdict:
    target = look.target()
    columns = target.table.c
    wrong = {name: columns[name] < 0 for name in (*FRACTIONS, *NOT_NEGATIVE) if name in columns}
    wrong |= {name: sa.or_(columns[name] < 0, columns[name] > 1 + NOISE) for name in FRACTIONS if name in columns}
    key = target.key[0]
    query = sa.select(columns[key], columns.date, *(test.label(name) for name, test in wrong.items()))
    rows = look.rows(query.where(sa.or_(*wrong.values())).order_by(columns.date))
    if not rows:
        return passed("every rate can be one")
    told = some(f"{', '.join(n for n in wrong if getattr(row, n))} of {row[0]} on {row.date}" for row in rows)
    return error(
        f"{counted(len(rows), 'row')} of {look.asset} have a rate that cannot be: {told}. Rates are computed from the "
        "report's sums: look at its checks.",
        rows=len(rows),
    )


def sums_are_the_reports(look: Examination, table: MetricsTable) -> Verdict:
    metrics, report = look.target(), look.target(table.report)
    names = [name for name in metrics.content if name in report.content and name != "conversion_metric_id"]
    days = _computed_days(look, table)
    key = table.key
    sums = (
        sa.select(report.table.c[key], report.table.c.date, *(sa.func.sum(report.table.c[n]).label(n) for n in names))
        .where(report.table.c.date.in_(sa.select(days.c.date)))
        .group_by(report.table.c[key], report.table.c.date)
        .subquery()
    )
    ours = (
        sa.select(metrics.table.c[key], metrics.table.c.date, *(metrics.table.c[n] for n in names))
        .where(metrics.table.c.date.in_(sa.select(days.c.date)))
        .subquery()
    )
    same_key = sa.and_(ours.c[key] == sums.c[key], ours.c.date == sums.c.date)
    # The key stands among what is compared, so that a row of nulls alone does not pass for none.
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
    rows = look.rows(query)
    if not rows:
        return passed(f"every sum is {table.report}'s")
    found: list[date] = [row.date for row in rows]
    # From a report that lost its rows the metrics would be computed as nothing.
    lost = days_that_differ(look.connection, look.account, table.report, found[0], found[-1])
    assets = f"{table.report} {look.asset}" if lost else look.asset
    return error(
        f"{counted(len(rows), 'row')} of {look.asset} differ from the sums of {table.report}: "
        f"{some(f'{row.id} on {row.date}' for row in rows)}. "
        f"Run `klaviyo-pipeline sync {assets} --from {found[0]} --to {found[-1]} --force`.",
        rows=len(rows),
    )


def _computed_days(look: Examination, table: MetricsTable) -> sa.CTE:
    """The days whose metrics sum up the report's latest answer."""
    ledger = Ledger(look.account.slug, table.name).table
    computed, asked = ledger.alias("computed"), ledger.alias("asked")
    query = (
        sa.select(look.day_of(computed.c.window_start).label("date"))
        .join_from(computed, asked, computed.c.window_start == asked.c.window_start)
        .where(
            computed.c.entity == table.name,
            asked.c.entity == table.report,
            computed.c.status == "synced",
            asked.c.status == "synced",
            computed.c.asked_at >= asked.c.asked_at,
        )
    )
    return query.cte("days")
