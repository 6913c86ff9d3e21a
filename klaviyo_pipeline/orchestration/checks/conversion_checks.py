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
    "On each of the last settled days (at most 30), the number and the value of all conversions, including those "
    "without a message, add up to Klaviyo's total. A day is settled if it was requested after its attribution window "
    "closed. Calls Klaviyo's API once; the request has no daily quota."
)

SUMS = ("conversions", "conversion_value")
"""The compared values. People are not compared: a person may convert through several messages, and counts for each."""

CONVERSION_CHECKS = (
    Check(
        "timezone_matches_account",
        "Sync windows use the account's own time zone, and every day was requested while the account had this zone.",
        timezone_matches_account,
    ),
    Check(
        "conversions_are_of_one_metric",
        "Every day was requested with the current conversion metric, and with each further metric that is set.",
        lambda ctx: conversions_are_of_one_metric(ctx, FLOW_SERIES),
    ),
    Check(
        "values_are_in_one_currency",
        "Every day was requested while the account had its current currency.",
        values_are_in_one_currency,
    ),
)

Sums = Mapping[str, Decimal | None]


def groups_match_total(ctx: CheckContext, session: Session) -> CheckOutcome:
    """Compare the sums of the last settled days with the response to one query without groups."""
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
            f"Klaviyo's total differs in {counted(len(differing), 'sum')} over {days}: {some(differing)}. Run "
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
