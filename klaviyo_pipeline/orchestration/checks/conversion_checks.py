"""Checks of the conversions by the day of the order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import sqlalchemy as sa

from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.klaviyo.reports import FLOW_SERIES
from klaviyo_pipeline.orchestration.checks.check import Check, CheckContext, CheckOutcome, error, passed
from klaviyo_pipeline.orchestration.checks.reconciliation_checks import NOISE, settled_span
from klaviyo_pipeline.orchestration.checks.report_checks import (
    conversions_are_of_one_metric,
    timezone_matches_account,
    values_are_in_one_currency,
)
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session

NAME = "groups_match_total"
DESCRIPTION = (
    "Over the last settled days (at most 30), the conversions of all flows, campaigns and messages, and of no message, "
    "add up to Klaviyo's total of each day: number and value. Calls Klaviyo's API once; the request has no daily quota."
)

SUMS = ("conversions", "conversion_value")
"""One person may convert through several messages, so the people of the groups do not add up."""

CONVERSION_CHECKS = (
    Check(
        "timezone_matches_account",
        "Sync windows use the account's own time zone, now and when each day was requested.",
        timezone_matches_account,
    ),
    Check(
        "conversions_are_of_one_metric",
        "Every day was requested with the account's conversion metric, and with each further one that is set.",
        lambda ctx: conversions_are_of_one_metric(ctx, FLOW_SERIES),
    ),
    Check(
        "values_are_in_one_currency",
        "Every day was requested while the account had its present currency.",
        values_are_in_one_currency,
    ),
)

Sums = Mapping[str, Decimal | None]


def groups_match_total(ctx: CheckContext, session: Session) -> CheckOutcome:
    """Compare the sums of the last settled days with one ungrouped answer."""
    span = settled_span(ctx)
    if span is None or span.metric_id is None:
        return passed("no settled days yet")
    stored = _stored(ctx, span.metric_id, span.first, span.last)
    ctx.release()
    total = _total(session, span.metric_id, span.first, span.last)
    days = f"{span.first} to {span.last}"
    differing = [
        f"{name} on {day}: {ours:f} in Postgres, {theirs:f} in Klaviyo"
        for day in sorted({*stored, *total})
        for name in SUMS
        if abs((ours := _value(stored, day, name)) - (theirs := _value(total, day, name))) > NOISE
    ]
    if differing:
        return error(
            f"{counted(len(differing), 'sum')} of {days} not equal to Klaviyo's total: {some(differing)}. Run "
            f"`klaviyo-pipeline sync {ctx.asset} --from {span.first} --to {span.last} --force`.",
            differing=len(differing),
        )
    return passed(f"the groups of {days} add up to Klaviyo's total", days=(span.last - span.first).days + 1)


def _value(sums: Mapping[date, Sums], day: date, name: str) -> Decimal:
    return sums.get(day, {}).get(name) or Decimal()


def _stored(ctx: CheckContext, metric_id: str, first: date, last: date) -> dict[date, Sums]:
    table = ctx.target().table
    query = (
        sa.select(table.c.date, *(sa.func.sum(table.c[name]).label(name) for name in SUMS))
        .where(table.c.conversion_metric_id == metric_id, table.c.date.between(first, last))
        .group_by(table.c.date)
    )
    return {row.date: dict(row._mapping) for row in ctx.rows(query)}


def _total(session: Session, metric_id: str, first: date, last: date) -> dict[date, Sums]:
    zone, now = session.account.zone, session.now()
    pages = session.client.aggregates(metric_id, first, last, zone, now, grouped=False)
    return {row["date"]: row for page in pages for row in page.rows if first <= row["date"] <= last}
