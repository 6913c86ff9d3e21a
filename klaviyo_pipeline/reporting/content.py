"""The content of a report about one period, read in one snapshot of the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from klaviyo_pipeline.catalog import FLOW_METRICS, FORM_METRICS, period_of
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.reporting.ab_tests import LEAD, ab_tests, tests_table
from klaviyo_pipeline.reporting.comparison import KeyMetric, by_source, key_metrics
from klaviyo_pipeline.reporting.exact_uniques import exact_flows, exact_periods
from klaviyo_pipeline.reporting.formats import Formatter, count, money, rate
from klaviyo_pipeline.reporting.metric_values import Sending, added
from klaviyo_pipeline.reporting.panels import BARS, LINES, Panel, Series
from klaviyo_pipeline.reporting.period import DAY, Period, spans
from klaviyo_pipeline.reporting.queries import AccountFacts, Coverage, Ranked, Reader
from klaviyo_pipeline.reporting.quiet_objects import quiet_metrics, unsent_campaigns
from klaviyo_pipeline.reporting.report_tables import Row, Table, display_name, ranking
from klaviyo_pipeline.reporting.revenue_dates import WHY, OrderDates, both_dates, both_dates_by_day, order_dates
from klaviyo_pipeline.reporting.subjects import (
    CAMPAIGNS,
    FLOWS,
    FORMS,
    SEGMENTS,
    SENDING_COLUMNS,
    SUBJECTS,
    Plot,
    by_day_of,
)
from klaviyo_pipeline.reporting.text import printable, shortened

RATES_OVER_TIME = (
    Plot("Open and click rate", LINES, {"open_rate": "opens", "click_rate": "clicks"}, rate),
    Plot("Conversion rate", LINES, {"conversion_rate": "conversion rate"}, rate),
)

DAYS = 30
"""Default length of a report, in days."""
TOP = 10
CAMPAIGNS_LISTED = 20
SPANS_NAMED = 6
ERROR_LENGTH = 300


@dataclass(frozen=True)
class Section:
    """A section of the page: some text, a table, and perhaps charts."""

    title: str
    lead: str
    table: Table
    panels: Sequence[Panel] = ()


@dataclass(frozen=True)
class Content:
    """Everything on a page."""

    slug: str
    account: AccountFacts
    period: Period
    made_at: datetime
    notices: Sequence[str]
    quiet: Sequence[str]
    """Lines about flows, forms and campaigns that are quiet when the report is made, whatever the report's period."""
    exact: bool
    """Whether the flows' unique counts are Klaviyo's for the whole period. Otherwise they are sums of daily counts."""
    key_metrics: Sequence[KeyMetric]
    compared_with: str
    by_source: Table
    panels: Sequence[Panel]
    sections: Sequence[Section]
    freshness: Table
    is_empty: bool


def last_days(reader: Reader, zone: ZoneInfo, days: int = DAYS) -> Period:
    """The `days` days up to the latest day with final metrics of flows or campaigns; up to yesterday without one."""
    settled = reader.last_settled_day(FLOWS.table.report, CAMPAIGNS.table.report)
    return Period.ending(settled or reader.now().astimezone(zone).date() - DAY, days)


def gather(reader: Reader, period: Period, zone: ZoneInfo) -> Content:
    """Read the content of a report. Times on the page are in `zone`, the account's time zone."""
    flows, campaigns = reader.by_day(FLOWS, period), reader.by_day(CAMPAIGNS, period)
    covered = {name: reader.coverage(subject.table, period) for name, subject in SUBJECTS.items()}
    account, statuses = reader.account(), reader.statuses()
    # If the account has switched off a metrics table, its days are not reported as missing.
    on = {row["entity"] for row in statuses}
    exact = exact_flows(reader, period)
    ranked_flows = reader.by_object(FLOWS, period) if exact is None else exact
    sources = {
        "Flows": added(Sending, [one.values for one in ranked_flows]),
        "Campaigns": added(Sending, campaigns.values()),
    }
    before, before_is_exact, compared_with = _before(reader, period, covered)
    same_uniques = before_is_exact == (exact is not None)
    if before is not None and not same_uniques:
        compared_with += " Rates are not compared, because only one of the two periods has exact rates."
    forms, segments = reader.by_day(FORMS, period), reader.by_day(SEGMENTS, period)
    orders, of_orders = order_dates(reader, period), reader.coverage_of_conversions(period)
    by_day = {
        day: added(Sending, [one[day] for one in (flows, campaigns) if day in one]) for day in {*flows, *campaigns}
    }
    return Content(
        slug=reader.schema,
        account=account,
        period=period,
        made_at=reader.now().astimezone(zone),
        notices=[
            *_notices({name: one for name, one in covered.items() if name in on}),
            *(f"Revenue by order date: {notice}" for notice in (coverage_notices(of_orders) if orders else ())),
        ],
        quiet=list(_quiet(reader, zone)),
        exact=exact is not None,
        key_metrics=key_metrics(
            added(Sending, sources.values()),
            before,
            weighted=exact is None,
            same_uniques=same_uniques,
        ),
        compared_with=compared_with,
        by_source=by_source(str(period), list(sources.items()), weighted=exact is None),
        panels=_over_time(period, flows, campaigns, by_day),
        sections=[
            *(_by_both_dates(period, sources, by_day, one) for one in (orders,) if one),
            Section(
                "Top flows",
                "Ordered by revenue. Opens, clicks and conversions count on the day on which their message was sent.",
                ranking(FLOWS, ranked_flows, period, TOP, exact=exact is not None),
            ),
            *(_exact_periods(reader, period) if exact is None else ()),
            _campaigns(reader, period),
            *(Section("A/B tests", LEAD, tests_table(one, period)) for one in (ab_tests(reader, period),) if one),
            Section(
                "Forms",
                "All views and submits count, including repeated ones by the same person.",
                ranking(FORMS, reader.by_object(FORMS, period), period, TOP),
                [plot.panel(forms, period.days) for plot in FORMS.plots],
            ),
            Section(
                "Segment growth",
                "A person who joined two segments counts in both, so the table has no total.",
                ranking(SEGMENTS, reader.by_object(SEGMENTS, period), period, TOP),
                [plot.panel(segments, period.days) for plot in SEGMENTS.plots],
            ),
        ],
        freshness=_freshness(statuses, zone),
        is_empty=not (flows or campaigns or forms or segments),
    )


def _before(reader: Reader, period: Period, covered: Mapping[str, Coverage]) -> tuple[Sending | None, bool, str]:
    """The sums of the previous period, whether their unique counts are exact, and a sentence about the comparison.

    The sums are None if days of flows or campaigns are missing in one of the two periods. A table with no synced day in
    either period does not count as missing.
    """
    before = period.before
    lacking: list[str] = []
    for subject in (FLOWS, CAMPAIGNS):
        earlier, now = reader.coverage(subject.table, before), covered[subject.table.name]
        never = not earlier.synced and not now.synced
        if not never and not (earlier.is_whole and now.is_whole):
            lacking.append(subject.table.entity)
    if lacking:
        missing = f"Not compared with {before}: days of {' and '.join(lacking)} are missing in one of the periods."
        return None, False, missing
    exact = exact_flows(reader, before)
    flows = reader.by_object(FLOWS, before) if exact is None else exact
    sums = [one.values for one in (*flows, *reader.by_object(CAMPAIGNS, before))]
    return added(Sending, sums), exact is not None, f"Compared with {before}."


def _quiet(reader: Reader, zone: ZoneInfo) -> Iterator[str]:
    found = [
        *quiet_metrics(reader.connection, reader.schema, zone.key, FLOW_METRICS),
        *quiet_metrics(reader.connection, reader.schema, zone.key, FORM_METRICS),
        *unsent_campaigns(reader.connection, reader.schema, zone.key, reader.now()),
    ]
    for one in found:
        name = f"{display_name(one.name)} ({one.entity.removesuffix('s')} {shortened(one.id, 40)})"
        yield f"{name}: {printable(one.details)}."


def _by_both_dates(
    period: Period, sources: Mapping[str, Sending], by_day: Mapping[date, Sending], orders: OrderDates
) -> Section:
    panel = both_dates_by_day(period, by_day, orders)
    return Section("Revenue by send and order date", WHY, both_dates(period, sources, orders), [panel])


def _exact_periods(reader: Reader, period: Period) -> Iterator[Section]:
    """The flows' exact rates by calendar week or month, for a period that has no exact rates as a whole."""
    table, periods = exact_periods(reader, period)
    if periods:
        unit = period_of(table.name)
        rows = [Row(str(one), [column.of(values) for column in SENDING_COLUMNS]) for one, values in periods]
        headings = [unit.capitalize(), *(column.heading for column in SENDING_COLUMNS)]
        yield Section(
            f"Flows by {unit}",
            f"These rates are exact. They use Klaviyo's unique counts for each message and {unit}.",
            Table(f"All flows by complete {unit}, {period}", headings, rows),
        )


def _notices(covered: Mapping[str, Coverage]) -> Iterator[str]:
    """Notices about incomplete or preliminary metrics. A notice that applies to several entities appears once."""
    about: dict[str, list[str]] = {}
    for name, described in covered.items():
        for notice in coverage_notices(described):
            about.setdefault(notice, []).append(SUBJECTS[name].table.entity)
    for notice, entities in about.items():
        yield f"{', '.join(entities).capitalize()}: {notice}"


def coverage_notices(described: Coverage) -> Iterator[str]:
    """Notices about days whose metrics are missing or may change. There are none if all days are complete and final."""
    if not described.synced and not described.open:
        yield "not synced for any of these days."
    elif described.missing:
        yield f"not synced for {named_days(described.missing)}."
    if described.open:
        yield f"incomplete for {named_days(described.open)}, because the request was sent before the end of the day."
    if described.unsettled:
        yield f"metrics may still change for {named_days(described.unsettled)}."
    if described.without_revenue:
        yield (
            f"revenue is not known for {named_days(described.without_revenue)}, because Klaviyo refuses it for the "
            "conversion metric."
        )


def named_days(days: Sequence[date]) -> str:
    """The number of days, and the first few ranges: `4 days (1 Mar 2025 to 3 Mar 2025, 9 Mar 2025)`."""
    ranges = [str(span) for span in spans(days)]
    others = len(ranges) - SPANS_NAMED
    more = f" and {counted(others, 'more range')}" if others > 0 else ""
    return f"{counted(len(days), 'day')} ({', '.join(ranges[:SPANS_NAMED])}{more})"


def _over_time(
    period: Period, flows: Mapping[date, Sending], campaigns: Mapping[date, Sending], by_day: Mapping[date, Sending]
) -> list[Panel]:
    def both(title: str, metric: str, formatter: Formatter) -> Panel:
        sources = {"flows": flows, "campaigns": campaigns}
        series = [Series(label, by_day_of(by_day, metric, period.days)) for label, by_day in sources.items()]
        return Panel(title, BARS, period.days, series, formatter)

    return [
        both("Revenue", "conversion_value", money),
        both("Recipients", "recipients", count),
        *(plot.panel(by_day, period.days) for plot in RATES_OVER_TIME),
    ]


def _campaigns(reader: Reader, period: Period) -> Section:
    sent = sorted(reader.by_object(CAMPAIGNS, period), key=_by_send_day)
    rows = [
        Row(
            display_name(one.name),
            [one.last_day.isoformat(), *(column.of(one.values) for column in SENDING_COLUMNS)],
            shortened(one.id, 40),
        )
        for one in sent[:CAMPAIGNS_LISTED]
    ]
    caption = (
        f"The latest {CAMPAIGNS_LISTED} of {len(sent):,} campaigns" if len(sent) > CAMPAIGNS_LISTED else "Campaigns"
    )
    headings = ["Campaign", "Sent", *(column.heading for column in SENDING_COLUMNS)]
    return Section(
        "Campaigns by send day",
        "All opens, clicks and conversions of a campaign count on the day its send began, whenever they happened.",
        Table(f"{caption} by send day, {period}", headings, rows),
    )


def _by_send_day(one: Ranked[Sending]) -> tuple[timedelta, Decimal, str]:
    return date.max - one.last_day, -(one.values.conversion_value or Decimal()), one.id


def _freshness(statuses: Sequence[Mapping[str, Any]], zone: ZoneInfo) -> Table:
    def moment(value: datetime | None) -> str:
        return f"{value.astimezone(zone):%Y-%m-%d %H:%M}" if value else "never"

    rows = [
        Row(
            row["entity"],
            [
                row["status"],
                moment(row["synced_through"]),
                moment(row["last_synced_at"]),
                f"{row['windows_missing']:,}",
            ],
            shortened(row["last_error"] or "", ERROR_LENGTH),
        )
        for row in statuses
    ]
    headings = ["Asset", "Status", "Synced through", "Last synced", "Missing windows"]
    return Table(f"Sync status of each asset, times in {zone.key}", headings, rows)
