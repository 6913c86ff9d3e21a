"""An API check: whether the days of a report add up to Klaviyo's values report over the same days.

Each page of the values report costs one request. That report has its own quota of 225 requests a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.catalog import ReportAsset, with_metrics
from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.klaviyo.errors import ConversionMetricIneligible
from klaviyo_pipeline.klaviyo.refused_statistics import refused_words
from klaviyo_pipeline.klaviyo.report_rows import added_up
from klaviyo_pipeline.klaviyo.report_types import SeriesReport
from klaviyo_pipeline.klaviyo.reports import VALUES, body
from klaviyo_pipeline.orchestration.assets.allowed_statistics import fetch_allowed
from klaviyo_pipeline.orchestration.assets.report_fetcher import whole_sends
from klaviyo_pipeline.orchestration.checks.check import CheckContext, CheckOutcome, error, passed, warning
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.postgres.write.campaign_days import CampaignDays, undated_of

NAME = "daily_sums_match_total"
DESCRIPTION = (
    "Over the last settled days (at most 30), the sums of the additive statistics equal Klaviyo's values report over "
    "the same days. A day is settled if it was requested after its attribution window closed. Calls Klaviyo's API: "
    "each page costs one request of that report's daily quota."
)

LONGEST_SPAN = 30

NOISE = Decimal("0.005")
"""Klaviyo returns floats with rounding noise, and may add them up in a different order than Postgres."""

Key = tuple[str, ...]
Values = Mapping[str, Decimal]


@dataclass(frozen=True)
class Span:
    """Settled days without a gap, both ends inclusive, and the conversion metric of their requests.

    `refused` contains the statistics that Klaviyo refused on at least one of the days.
    """

    first: date
    last: date
    metric_id: str | None
    refused: frozenset[str] = frozenset()


def daily_sums_match_total(ctx: CheckContext, session: Session, spec: ReportAsset) -> CheckOutcome:
    """Compare the last settled days with the totals of the values report."""
    span = settled_span(ctx, spec.report.first_day)
    if span is None:
        return passed("no settled days yet")
    stored = _stored(ctx, spec, span)
    ctx.release()
    try:
        totals, unknown, refused = _totals(session, spec, span)
    except ConversionMetricIneligible as ineligible:
        return warning(f"the days {span.first} to {span.last} cannot be compared: {ineligible}")
    dayless: dict[Key, Values] = {}
    if not isinstance(spec.report, SeriesReport):
        sent = _days_of_sends(ctx, spec, totals)
        dayless = {key: values for key, values in totals.items() if sent[key] is None and any(values.values())}
        # The request covers more days than the span, so campaigns that were sent outside of the span are left out.
        totals = {
            key: values
            for key, values in totals.items()
            if (day := sent[key]) is not None and span.first <= day <= span.last
        }
    not_given = span.refused | refused
    names = [
        name
        for name in spec.report.additive
        if name not in not_given and (not stored or any(name in row for row in stored.values()))
    ]
    differing = [
        f"{name} of {'/'.join(filter(None, key))}: {ours:f} in Postgres, {theirs:f} in Klaviyo"
        for key in sorted({*stored, *totals})
        for name in names
        if abs(
            (ours := stored.get(key, {}).get(name, Decimal())) - (theirs := totals.get(key, {}).get(name, Decimal()))
        )
        > NOISE
    ]
    days = f"{span.first} to {span.last}"
    ids = sorted({key[0] for key in dayless})
    metadata = {
        "days": (span.last - span.first).days + 1,
        "groups": len(totals),
        "unknown_statistics": unknown,
        "without_day": ids,
        "refused_statistics": sorted(not_given),
    }
    report = VALUES[spec.report.entity]
    but = f"; not compared: {refused_words(report, span.metric_id, not_given)}" if not_given else ""
    if differing:
        return error(
            f"the {report.name} report differs in {counted(len(differing), 'sum')} over {days}: "
            f"{some(differing)}. Klaviyo has restated settled days. Check that KLAVIYO_ATTRIBUTION_DAYS matches the "
            f"account's attribution window, and run `klaviyo-pipeline sync {with_metrics(spec.name, ctx.account)} "
            f"--from {span.first} --to {span.last} --force`.",
            differing=len(differing),
            **metadata,
        )
    if dayless:
        values = [amounts["conversion_value"] for amounts in dayless.values() if "conversion_value" in amounts]
        revenue = f" ({sum(values, Decimal()):f} in conversion_value)" if len(values) == len(dayless) else ""
        return warning(
            f"the days {days} add up to the {report.name} report, except for the values of "
            f"{counted(len(ids), 'campaign')} without a send time: "
            f"{some(id or 'no id' for id in ids)}. These values{revenue} are stored in {undated_of(spec.name)}. "
            f"Check the campaigns in Klaviyo{but}.",
            **metadata,
        )
    return passed(f"the days {days} add up to the {report.name} report{but}", **metadata)


def settled_span(ctx: CheckContext, first_day: date | None = None) -> Span | None:
    """The last settled days since `first_day`, without a gap and with one conversion metric; None if there are none."""
    earliest = first_day or date.min
    days = ctx.view("report_days", ["entity", "date", "conversion_metric_id", "is_settled", "refused_statistics"])
    query = (
        sa.select(days.c.date, days.c.conversion_metric_id, days.c.refused_statistics)
        .where(days.c.entity == ctx.asset, days.c.is_settled, days.c.date >= earliest)
        .order_by(days.c.date.desc())
        .limit(LONGEST_SPAN)
    )
    settled = ctx.rows(query)
    if not settled:
        return None
    last, metric_id = settled[0].date, settled[0].conversion_metric_id
    unbroken, refused = 0, frozenset[str]()
    for row in settled:
        if (row.date, row.conversion_metric_id) != (last - timedelta(days=unbroken), metric_id):
            break
        unbroken += 1
        refused |= frozenset(row.refused_statistics)
    return Span(last - timedelta(days=unbroken - 1), last, metric_id, refused)


def _stored(ctx: CheckContext, spec: ReportAsset, span: Span) -> dict[Key, Values]:
    """The sums of the span by the report's keys. A statistic that is NULL on every day is left out."""
    table = ctx.target().table
    keys = [table.c[name] for name in spec.report.keys]
    query = (
        sa.select(*keys, *(sa.func.sum(table.c[name]).label(name) for name in spec.report.additive))
        .where(table.c.date.between(span.first, span.last))
        .group_by(*keys)
    )
    if span.metric_id is not None:
        query = query.where(table.c.conversion_metric_id == span.metric_id)
    return {_key(spec, row._mapping): _values(spec, row._mapping) for row in ctx.rows(query)}


def _totals(session: Session, spec: ReportAsset, span: Span) -> tuple[dict[Key, Values], Sequence[str], frozenset[str]]:
    """Klaviyo's values over the span by the report's keys, the names of undeclared statistics in the response, and the
    statistics that Klaviyo refuses for the metric."""
    report, first, last = VALUES[spec.report.entity], span.first, span.last
    if not isinstance(spec.report, SeriesReport):
        first, last = whole_sends(first, last, session.account.today(session.now()))

    def fetch(left_out: frozenset[str]) -> tuple[dict[Key, Values], Sequence[str]]:
        request = body(report, first, last, span.metric_id, left_out=left_out)
        pages = list(session.client.report_pages(report, request))
        rows = added_up(report, [page.rows for page in pages])
        unknown = sorted({name for page in pages for name in page.unknown})
        return {_key(spec, row): _values(spec, row) for row in rows}, unknown

    if span.metric_id is None:
        return *fetch(frozenset()), frozenset()
    totals, refused = fetch_allowed(session, report, span.metric_id, fetch)
    return *totals, refused


def _days_of_sends(ctx: CheckContext, spec: ReportAsset, keys: Iterable[Key]) -> dict[Key, date | None]:
    """The send day of each group, by the group's key; None if no send time is known."""
    ordered = list(keys)
    rows = [dict(zip(spec.report.keys, key, strict=True)) for key in ordered]
    days = CampaignDays(ctx.account.slug, ctx.account.timezone).of(ctx.connection, rows)
    return dict(zip(ordered, days, strict=True))


def _key(spec: ReportAsset, row: Mapping[Any, Any]) -> Key:
    return tuple(row[name] for name in spec.report.keys)


def _values(spec: ReportAsset, row: Mapping[Any, Any]) -> Values:
    return {name: row[name] for name in spec.report.additive if row[name] is not None}
