"""Reads and strictly validates the bodies of metric aggregate queries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from klaviyo_pipeline.sandbox.api_errors import ApiError, bad_body
from klaviyo_pipeline.sandbox.filter_grammar import MalformedFilterError, parse_filter
from klaviyo_pipeline.sandbox.report_requests import attributes_of, check_content_type, one_of, required_object, several
from klaviyo_pipeline.sandbox.sandbox_account import Metric, SandboxAccount
from klaviyo_pipeline.sandbox.timestamps import read_bound

MEASUREMENTS = ("count", "sum_value", "unique")
INTERVALS = ("day", "hour", "month", "week")
DEFAULT_PAGE_SIZE = 500

DIMENSIONS = (
    "$attributed_channel",
    "$attributed_flow",
    "$attributed_message",
    "$attributed_variation",
    "$campaign_channel",
    "$flow",
    "$flow_channel",
    "$message",
    "$message_send_cohort",
    "$usage_amount",
    "$value_currency",
    "$variation",
    "$variation_send_cohort",
    "Bot Click",
    "Bounce Type",
    "Campaign Name",
    "Client Canonical",
    "Client Name",
    "Client Type",
    "Email Domain",
    "Failure Source",
    "Failure Type",
    "From Number",
    "From Phone Region",
    "Inbox Provider",
    "List",
    "Message Format",
    "Message Name",
    "Message Type",
    "Method",
    "Segment Count",
    "Subject",
    "To Number",
    "To Phone Region",
    "URL",
    "form_id",
)
SORTS = tuple(sign + name for name in (*DIMENSIONS, *MEASUREMENTS) for sign in ("", "-"))

_ATTRIBUTES = "/data/attributes"
_FILTER = f"{_ATTRIBUTES}/filter"
_OPTIONAL = {"by", "interval", "page_cursor", "page_size", "return_fields", "sort", "timezone"}
_NAIVE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?\Z", re.ASCII)
# Zones that the API's description excludes.
_UNKNOWN_ZONES = {"Factory", "Europe/Kyiv", "Pacific/Kanton"}


@dataclass(frozen=True)
class AggregateRequest:
    """A validated query over [start, end), two instants in `zone`."""

    metric: Metric
    measurements: tuple[str, ...]
    by: tuple[str, ...]
    interval: str
    zone: ZoneInfo
    start: datetime
    end: datetime
    sort: str | None
    page_size: int
    page_cursor: str | None


def read_aggregate_request(body: bytes, content_type: str, account: SandboxAccount) -> AggregateRequest:
    """The validated query.

    Raises `ApiError`: 415 if the content type is not JSON, 404 for an unknown metric, and 400 with a pointer for
    everything that the description does not allow.
    """
    check_content_type(content_type)
    attributes = _attributes(body)
    zone = _zone(attributes.get("timezone"))
    start, end = _range(attributes["filter"], zone)
    interval = "day" if attributes.get("interval") is None else one_of(attributes, "interval", INTERVALS)
    by = () if attributes.get("by") is None else several(attributes, "by", DIMENSIONS)
    return AggregateRequest(
        metric=_metric(attributes["metric_id"], account),
        measurements=several(attributes, "measurements", MEASUREMENTS),
        by=by,
        interval=interval,
        zone=zone,
        start=start,
        end=end,
        sort=None if attributes.get("sort") is None else one_of(attributes, "sort", SORTS),
        page_size=_page_size(attributes.get("page_size")),
        page_cursor=_page_cursor(attributes.get("page_cursor")),
    )


def _attributes(body: bytes) -> dict[str, Any]:
    attributes = attributes_of(body, "metric-aggregate")
    return required_object(attributes, _ATTRIBUTES, {"metric_id", "measurements", "filter"}, _OPTIONAL)


def _metric(id: Any, account: SandboxAccount) -> Metric:
    if not isinstance(id, str):
        raise bad_body(f"{_ATTRIBUTES}/metric_id", "'metric_id' must be a string.")
    if id not in account.metrics:
        raise ApiError(404, "not_found", "Not found.", f"A metric with id {id} does not exist.")
    return account.metrics[id]


def _zone(name: Any) -> ZoneInfo:
    if name is None:
        return ZoneInfo("UTC")
    if name not in available_timezones() or name in _UNKNOWN_ZONES:
        raise bad_body(f"{_ATTRIBUTES}/timezone", f"'{name}' is not a valid timezone.")
    return ZoneInfo(name)


def _range(filters: Any, zone: ZoneInfo) -> tuple[datetime, datetime]:
    if not isinstance(filters, list) or not all(isinstance(one, str) for one in filters):
        raise bad_body(_FILTER, "'filter' must be a list of strings.")
    bounds: dict[str, datetime] = {}
    for text in filters:
        try:
            conditions = parse_filter(text)
        except MalformedFilterError as malformed:
            raise bad_body(_FILTER, f"Invalid filter provided. {malformed}") from malformed
        for condition in conditions:
            if condition.field != "datetime" or condition.operator not in ("greater-or-equal", "less-than"):
                detail = f"'{condition.operator}({condition.field},…)' is not a filter that this endpoint simulates."
                raise bad_body(_FILTER, detail)
            if condition.operator in bounds or condition.listed or condition.words[0].quoted:
                raise bad_body(_FILTER, f"'{condition.operator}' on datetime needs one unquoted value, once.")
            bounds[condition.operator] = _moment(condition.words[0].text, zone)
    if len(bounds) < 2:
        raise bad_body(_FILTER, "A greater-or-equal and a less-than filter on datetime are required.")
    start, end = bounds["greater-or-equal"], bounds["less-than"]
    if start >= end:
        raise bad_body(_FILTER, "The start of the time range must be before its end.")
    if end - start > timedelta(days=366):
        raise bad_body(_FILTER, "The time range cannot be longer than 1 year.")
    return start, end


def _moment(text: str, zone: ZoneInfo) -> datetime:
    if _NAIVE.match(text):
        try:
            return datetime.fromisoformat(text).replace(tzinfo=zone)
        except ValueError:
            pass
    moment = read_bound(text)
    if moment is None:
        raise bad_body(_FILTER, "The value of 'datetime' must be an ISO 8601 datetime.")
    return moment.astimezone(zone)


def _page_size(size: Any) -> int:
    if size is None:
        return DEFAULT_PAGE_SIZE
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise bad_body(f"{_ATTRIBUTES}/page_size", "'page_size' must be a positive integer.")
    return size


def _page_cursor(cursor: Any) -> str | None:
    if cursor is not None and not isinstance(cursor, str):
        raise bad_body(f"{_ATTRIBUTES}/page_cursor", "'page_cursor' must be a string.")
    return cursor
