"""Klaviyo's reports as data, and the body of their requests.

Statistics and groupings are those of Klaviyo's OpenAPI description (revision 2026-07-15). Report days are days in the
account's time zone, whatever offset the request contains. In the reports of flows and campaigns, values belong to the
day of the send and can change until the attribution window has ended.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import date, timedelta

from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.report_types import Report, SeriesReport, Statistics, ValuesReport

LONGEST_SEND = timedelta(days=14)
"""The time before and after a campaign's send time that is requested too, to get the values of its whole send. Gradual
sends and sends by local time take days, and a send that was cancelled and started again has values from before its send
time."""

# The description allows 60 days for daily values. One day less leaves room, because Klaviyo rounds the end up to the
# hour.
DAILY_CHUNK_DAYS = 59

# The description allows a year for a values report.
VALUES_CHUNK_DAYS = 365

# The description allows a year for weekly values, and 52 weeks for monthly values.
PERIOD_CHUNK_DAYS = 364
PERIODS_PER_REQUEST = {"weekly": 52, "monthly": 11}
"""The most calendar weeks or months in one request."""

# The first day of segment reports. Klaviyo rejects an earlier day.
SEGMENT_FIRST_DAY = date(2023, 6, 1)


_MESSAGE_STATISTICS = Statistics(
    sums=(
        "recipients",
        "delivered",
        "opens",
        "clicks",
        "conversions",
        "conversion_value",
        "bounced",
        "failed",
        "bounced_or_failed",
        "unsubscribes",
        "spam_complaints",
        "message_segment_count_sum",
        "text_message_credit_usage_amount",
        "text_message_spend",
    ),
    uniques=("opens_unique", "clicks_unique", "conversion_uniques", "unsubscribe_uniques"),
    rates=(
        "open_rate",
        "click_rate",
        "click_to_open_rate",
        "conversion_rate",
        "revenue_per_recipient",
        "average_order_value",
        "bounce_rate",
        "failed_rate",
        "bounced_or_failed_rate",
        "delivery_rate",
        "unsubscribe_rate",
        "spam_complaint_rate",
        "text_message_roi",
    ),
)

_FORM_STATISTICS = Statistics(
    sums=(
        "viewed_form",
        "viewed_form_step",
        "submits",
        "submitted_form_step",
        "closed_form",
        "qualified_form",
    ),
    uniques=(
        "viewed_form_uniques",
        "viewed_form_step_uniques",
        "submitted_form_step_uniques",
        "closed_form_uniques",
        "qualified_form_uniques",
    ),
    rates=("submit_rate",),
)

_SEGMENT_STATISTICS = Statistics(
    sums=("members_added", "members_removed", "net_members_changed"), levels=("total_members",)
)

_FLOW_KEYS = ("flow_id", "flow_message_id", "send_channel")
_CAMPAIGN_KEYS = ("campaign_id", "campaign_message_id", "send_channel")
_FORM_KEYS = ("form_id",)


def _values(series: SeriesReport, endpoint: Endpoint) -> ValuesReport:
    """The values report that has the same keys and statistics as this series report."""
    return ValuesReport(
        name=f"{series.entity.removesuffix('s')} values",
        entity=series.entity,
        endpoint=endpoint,
        keys=series.keys,
        group_by=series.group_by,
        by_use=series.by_use,
        needs_conversion_metric=series.needs_conversion_metric,
        first_day=series.first_day,
    )


FLOW_SERIES = SeriesReport(
    name="flow series",
    entity="flows",
    endpoint=rates.QUERY_FLOW_SERIES,
    keys=_FLOW_KEYS,
    group_by=_FLOW_KEYS,
    by_use=_MESSAGE_STATISTICS,
    needs_conversion_metric=True,
)

FLOW_SERIES_WEEKLY = replace(FLOW_SERIES, interval="weekly")
FLOW_SERIES_MONTHLY = replace(FLOW_SERIES, interval="monthly")

FLOW_VALUES = _values(FLOW_SERIES, rates.QUERY_FLOW_VALUES)

CAMPAIGN_VALUES = ValuesReport(
    name="campaign values",
    entity="campaigns",
    endpoint=rates.QUERY_CAMPAIGN_VALUES,
    keys=_CAMPAIGN_KEYS,
    group_by=_CAMPAIGN_KEYS,
    by_use=_MESSAGE_STATISTICS,
    needs_conversion_metric=True,
)

FORM_SERIES = SeriesReport(
    name="form series",
    entity="forms",
    endpoint=rates.QUERY_FORM_SERIES,
    keys=_FORM_KEYS,
    group_by=_FORM_KEYS,
    by_use=_FORM_STATISTICS,
    needs_conversion_metric=False,
)

FORM_VALUES = _values(FORM_SERIES, rates.QUERY_FORM_VALUES)

SEGMENT_SERIES = SeriesReport(
    name="segment series",
    entity="segments",
    endpoint=rates.QUERY_SEGMENT_SERIES,
    keys=("segment_id",),
    group_by=(),
    by_use=_SEGMENT_STATISTICS,
    needs_conversion_metric=False,
    first_day=SEGMENT_FIRST_DAY,
)

SEGMENT_VALUES = _values(SEGMENT_SERIES, rates.QUERY_SEGMENT_VALUES)

API_REPORTS: dict[str, Report] = {
    report.name: report
    for report in (
        FLOW_SERIES,
        FLOW_VALUES,
        CAMPAIGN_VALUES,
        FORM_SERIES,
        FORM_VALUES,
        SEGMENT_SERIES,
        SEGMENT_VALUES,
    )
}

VALUES: dict[str, ValuesReport] = {
    report.entity: report for report in (FLOW_VALUES, CAMPAIGN_VALUES, FORM_VALUES, SEGMENT_VALUES)
}
"""The values reports, by entity."""


def body(
    report: Report,
    first_day: date,
    last_day: date,
    conversion_metric_id: str | None = None,
    filter: str | None = None,
    left_out: Collection[str] = (),
) -> dict[str, object]:
    """The request body for the account's days from `first_day` to `last_day`, both included.

    It requests every statistic of the report, except those in `left_out`. Raises `ValueError` for a range of days that
    is empty or too long, and for a missing conversion metric.

    The timeframe ends in the last second of the last day: both of its ends are inclusive, Klaviyo rounds the end up to
    the hour, and two requests must not share a day.
    """
    _check_days(report, first_day, last_day)
    attributes: dict[str, object] = {
        "statistics": [name for name in report.statistics if name not in left_out],
        "timeframe": {"start": f"{first_day}T00:00:00+00:00", "end": f"{last_day}T23:59:59+00:00"},
    }
    if isinstance(report, SeriesReport):
        attributes["interval"] = report.interval
    if report.group_by:
        attributes["group_by"] = list(report.group_by)
    if report.needs_conversion_metric:
        if not conversion_metric_id:
            raise ValueError(f"the {report.name} report needs a conversion metric")
        attributes["conversion_metric_id"] = conversion_metric_id
    if filter is not None:
        attributes["filter"] = filter
    return {"data": {"type": report.resource_type, "attributes": attributes}}


def _check_days(report: Report, first_day: date, last_day: date) -> None:
    longest = VALUES_CHUNK_DAYS
    if isinstance(report, SeriesReport):
        longest = DAILY_CHUNK_DAYS if report.interval == "daily" else PERIOD_CHUNK_DAYS
    if last_day < first_day:
        raise ValueError(f"the range of days {first_day} to {last_day} is empty")
    if last_day - first_day >= timedelta(days=longest):
        raise ValueError(f"the {report.name} report allows at most {longest} days, not {first_day} to {last_day}")
