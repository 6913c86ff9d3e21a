"""What a report says about one period, gathered in one snapshot of the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from klaviyo_pipeline.reporting.comparison import KeyMetric, by_source, key_metrics
from klaviyo_pipeline.reporting.formats import Form, count, money, rate
from klaviyo_pipeline.reporting.metric_values import Sending, added
from klaviyo_pipeline.reporting.panels import BARS, LINES, Panel, Series
from klaviyo_pipeline.reporting.period import DAY, Period, spans
from klaviyo_pipeline.reporting.queries import AccountFacts, Coverage, Ranked, Reader
from klaviyo_pipeline.reporting.report_tables import Row, Table, display_name, ranking
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
from klaviyo_pipeline.reporting.text import shortened

RATES_OVER_TIME = (
    Plot("Open and click rate*", LINES, {"open_rate": "opens", "click_rate": "clicks"}, rate),
    Plot("Conversion rate*", LINES, {"conversion_rate": "conversion rate"}, rate),
)

DAYS = 30
"""How many days a report has unless told otherwise."""
TOP = 10
CAMPAIGNS_LISTED = 20
SPANS_NAMED = 6
ERROR_LENGTH = 300


@dataclass(frozen=True)
class Section:
    """A part of the page about one kind of object."""

    title: str
    lead: str
    table: Table
    panels: Sequence[Panel] = ()


@dataclass(frozen=True)
class Content:
    """Everything that a page shows."""

    slug: str
    account: AccountFacts
    period: Period
    made_at: datetime
    notices: Sequence[str]
    key_metrics: Sequence[KeyMetric]
    compared_with: str
    by_source: Table
    panels: Sequence[Panel]
    sections: Sequence[Section]
    freshness: Table
    is_empty: bool


def last_days(reader: Reader, zone: ZoneInfo, days: int = DAYS) -> Period:
    """The last days whose figures of flows or campaigns are final; the last days that are over where none are."""
    settled = reader.last_settled_day(FLOWS.table.report, CAMPAIGNS.table.report)
    return Period.ending(settled or reader.now().astimezone(zone).date() - DAY, days)


def gather(reader: Reader, period: Period, zone: ZoneInfo) -> Content:
    """Read all of it; `zone` is that of the account's days, for the moments that the page names."""
    flows, campaigns = reader.by_day(FLOWS, period), reader.by_day(CAMPAIGNS, period)
    covered = {name: reader.coverage(subject.table, period) for name, subject in SUBJECTS.items()}
    account = reader.account()
    sources = [("Flows", added(Sending, flows.values())), ("Campaigns", added(Sending, campaigns.values()))]
    before, compared_with = _before(reader, period, covered)
    forms, segments = reader.by_day(FORMS, period), reader.by_day(SEGMENTS, period)
    return Content(
        slug=reader.schema,
        account=account,
        period=period,
        made_at=reader.now().astimezone(zone),
        notices=list(_notices(covered)),
        key_metrics=key_metrics(added(Sending, [values for _, values in sources]), before),
        compared_with=compared_with,
        by_source=by_source(str(period), sources),
        panels=_over_time(period, flows, campaigns),
        sections=[
            Section(
                "Top flows",
                "By revenue; figures count on the day of the send.",
                ranking(FLOWS, reader.by_object(FLOWS, period), period, TOP),
            ),
            _campaigns(reader, period),
            Section(
                "Forms",
                "Every view and every submit counts, also those of the same person.",
                ranking(FORMS, reader.by_object(FORMS, period), period, TOP),
                [plot.panel(forms, period.days) for plot in FORMS.plots],
            ),
            Section(
                "Segment growth",
                "A person who joined two segments counts in both, so segments are not added up to people.",
                ranking(SEGMENTS, reader.by_object(SEGMENTS, period), period, TOP),
                [plot.panel(segments, period.days) for plot in SEGMENTS.plots],
            ),
        ],
        freshness=_freshness(reader, zone),
        is_empty=not (flows or campaigns or forms or segments),
    )


def _before(reader: Reader, period: Period, covered: Mapping[str, Coverage]) -> tuple[Sending | None, str]:
    """The period before in sums, and in words; no sums where days are missing in one of the two."""
    before = period.before
    lacking: list[str] = []
    for subject in (FLOWS, CAMPAIGNS):
        earlier, now = reader.coverage(subject.table, before), covered[subject.table.name]
        never = not earlier.synced and not now.synced
        if not never and not (earlier.is_whole and now.is_whole):
            lacking.append(subject.table.entity)
    if lacking:
        return None, f"Not compared with {before}: days of {' and '.join(lacking)} are not there in one of the two."
    days = [reader.by_day(subject, before).values() for subject in (FLOWS, CAMPAIGNS)]
    return added(Sending, [one for found in days for one in found]), f"Compared with {before}."


def _notices(covered: Mapping[str, Coverage]) -> Iterator[str]:
    """What is to be known of the figures before they are read; what holds of several kinds of object, once."""
    about: dict[str, list[str]] = {}
    for name, described in covered.items():
        for notice in coverage_notices(described):
            about.setdefault(notice, []).append(SUBJECTS[name].table.entity)
    for notice, entities in about.items():
        yield f"{', '.join(entities).capitalize()}: {notice}"


def coverage_notices(described: Coverage) -> Iterator[str]:
    """What is to be known of figures of these days before they are read; nothing where all are there and final."""
    if not described.synced and not described.open:
        yield "not synced for any of these days."
    elif described.missing:
        yield f"not synced for {named_days(described.missing)}."
    if described.open:
        yield f"{named_days(described.open)} not over when last asked."
    if described.unsettled:
        yield f"figures of {named_days(described.unsettled)} may still change."
    if described.without_revenue:
        yield (
            f"revenue of {named_days(described.without_revenue)} is not known: Klaviyo refuses it for the "
            "conversion metric."
        )


def named_days(days: Sequence[date]) -> str:
    """How many days, and which: a few spans by their ends."""
    found = [str(span) for span in spans(days)]
    more = f" and {len(found) - SPANS_NAMED} more spans" if len(found) > SPANS_NAMED else ""
    unit = "day" if len(days) == 1 else "days"
    return f"{len(days):,} {unit} ({', '.join(found[:SPANS_NAMED])}{more})"


def _over_time(period: Period, flows: Mapping[date, Sending], campaigns: Mapping[date, Sending]) -> list[Panel]:
    together = {
        day: added(Sending, [of[day] for of in (flows, campaigns) if day in of]) for day in {*flows, *campaigns}
    }

    def both(title: str, figure: str, form: Form) -> Panel:
        sources = {"flows": flows, "campaigns": campaigns}
        series = [Series(label, by_day_of(by_day, figure, period.days)) for label, by_day in sources.items()]
        return Panel(title, BARS, period.days, series, form)

    return [
        both("Revenue", "conversion_value", money),
        both("Recipients", "recipients", count),
        *(plot.panel(together, period.days) for plot in RATES_OVER_TIME),
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
        "All figures of a campaign count on the day on which its send began, whenever they happened.",
        Table(f"{caption} by send day, {period}", headings, rows),
    )


def _by_send_day(one: Ranked[Sending]) -> tuple[timedelta, Decimal, str]:
    return date.max - one.last_day, -(one.values.conversion_value or Decimal()), one.id


def _freshness(reader: Reader, zone: ZoneInfo) -> Table:
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
        for row in reader.statuses()
    ]
    headings = ["Asset", "Status", "Synced through", "Last synced", "Missing windows"]
    return Table(f"How far each asset is synced, times in {zone.key}", headings, rows)
