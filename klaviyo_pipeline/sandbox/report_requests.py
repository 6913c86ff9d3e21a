"""Reads and strictly validates the bodies of report requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from klaviyo_pipeline.sandbox.api_errors import ApiError, bad_body
from klaviyo_pipeline.sandbox.filter_matching import Criterion, read_filter
from klaviyo_pipeline.sandbox.report_kinds import INTERVALS, Report
from klaviyo_pipeline.sandbox.sandbox_account import Metric, SandboxAccount
from klaviyo_pipeline.sandbox.statistics import STATISTICS
from klaviyo_pipeline.sandbox.timeframes import Span, read_timeframe

_ATTRIBUTES = "/data/attributes"
_CONTENT_TYPES = ("application/vnd.api+json", "application/json")
_MOST_LISTED = 100


@dataclass(frozen=True)
class ReportRequest:
    """A validated request. `interval` is None for values reports; `metric` is None for forms and segments."""

    statistics: tuple[str, ...]
    group_by: tuple[str, ...]
    interval: str | None
    span: Span
    criteria: tuple[Criterion, ...]
    metric: Metric | None


def read_report_request(
    body: bytes, content_type: str, report: Report, account: SandboxAccount, today: date, now: datetime
) -> ReportRequest:
    """The validated request.

    Raises `ApiError`: 415 if the content type is not JSON, and 400 with a pointer for everything that the description
    does not allow.
    """
    check_content_type(content_type)
    attributes = _attributes(body, report)
    interval = one_of(attributes, "interval", INTERVALS) if report.series else None
    statistics = several(attributes, "statistics", STATISTICS[report.kind.kind])
    return ReportRequest(
        statistics=statistics,
        group_by=_group_by(attributes, report),
        interval=interval,
        span=read_timeframe(attributes["timeframe"], interval, today, report.kind.earliest),
        criteria=_criteria(attributes.get("filter"), report, now),
        metric=_metric(attributes, account, report, statistics) if report.kind.needs_conversion_metric else None,
    )


def check_content_type(content_type: str) -> None:
    """Raise `ApiError` 415 unless the content type is JSON."""
    if content_type.partition(";")[0].strip().lower() not in _CONTENT_TYPES:
        title = "Unsupported media type."
        detail = f"Unsupported media type '{content_type}' in request."
        raise ApiError(415, "unsupported_media_type", title, detail)


def attributes_of(body: bytes, resource_type: str) -> Any:
    """The attributes in a body, whose resource must have this type."""
    try:
        document = json.loads(body)
    except ValueError:
        raise bad_body("/", "The body is not JSON.") from None
    data = required_object(document, "", {"data"}, set())["data"]
    inner = required_object(data, "/data", {"type", "attributes"}, set())
    if inner["type"] != resource_type:
        raise bad_body("/data/type", f"'{inner['type']}' is not the type '{resource_type}'.")
    return inner["attributes"]


def _attributes(body: bytes, report: Report) -> dict[str, Any]:
    required = {"statistics", "timeframe"}
    optional = {"filter"}
    if report.series:
        required.add("interval")
    if report.kind.needs_conversion_metric:
        required.add("conversion_metric_id")
    if report.kind.group_by:
        optional.add("group_by")
    return required_object(attributes_of(body, report.type), _ATTRIBUTES, required, optional)


def required_object(value: Any, pointer: str, required: set[str], optional: set[str]) -> dict[str, Any]:
    """The value, if it is an object with all required fields and no unknown ones."""
    if not isinstance(value, dict):
        raise bad_body(pointer or "/", "An object is expected here.")
    for name in sorted(required - set(value)):
        raise bad_body(f"{pointer}/{name}", f"'{name}' is a required field.")
    for name in sorted(set(value) - required - optional):
        raise bad_body(f"{pointer}/{name}", f"'{name}' is not a valid field.")
    return value


def one_of(attributes: dict[str, Any], name: str, allowed: Sequence[str]) -> str:
    """The attribute, if it is one of the allowed values."""
    value = attributes[name]
    if value not in allowed:
        raise bad_body(f"{_ATTRIBUTES}/{name}", f"'{value}' is not one of {', '.join(allowed)}.")
    return str(value)


def several(attributes: dict[str, Any], name: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """The attribute, if it is a list with at least one item and only allowed values."""
    values = attributes[name]
    if not isinstance(values, list) or not values:
        raise bad_body(f"{_ATTRIBUTES}/{name}", f"'{name}' must be a list with at least one item.")
    for value in values:
        if value not in allowed:
            raise bad_body(f"{_ATTRIBUTES}/{name}", f"'{value}' is not one of {', '.join(allowed)}.")
    return tuple(values)


def _group_by(attributes: dict[str, Any], report: Report) -> tuple[str, ...]:
    kind = report.kind
    if attributes.get("group_by") is None:
        return kind.default_group_by
    names = several(attributes, "group_by", kind.group_by)
    for required in kind.required_group_by:
        if required not in names:
            raise bad_body(f"{_ATTRIBUTES}/group_by", f"The group by '{required}' is required.")
    for name, beside in kind.prerequisites.items():
        if name in names and beside not in names:
            raise bad_body(f"{_ATTRIBUTES}/group_by", f"The group by '{name}' needs '{beside}'.")
    return names


def _criteria(text: Any, report: Report, now: datetime) -> tuple[Criterion, ...]:
    if text is None:
        return ()
    pointer = f"{_ATTRIBUTES}/filter"
    if not isinstance(text, str):
        raise bad_body(pointer, "'filter' must be a string.")
    try:
        criteria = read_filter(text, report.kind.filters, now)
    except ApiError as refused:
        raise bad_body(pointer, refused.detail) from refused
    if len({criterion.field for criterion in criteria}) < len(criteria):
        raise bad_body(pointer, "Only one filter can be used per attribute.")
    if any(len(criterion.values) > _MOST_LISTED for criterion in criteria):
        raise bad_body(pointer, f"A list filter cannot have more than {_MOST_LISTED} items.")
    return tuple(criteria)


def _metric(attributes: dict[str, Any], account: SandboxAccount, report: Report, statistics: Sequence[str]) -> Metric:
    metric = account.metrics.get(str(attributes["conversion_metric_id"]))
    refused = account.refused_statistics.get(report.kind.kind, set()).intersection(statistics)
    if metric is None or not metric.eligible or refused:
        detail = "Passed in conversion metric does not support querying for values data"
        raise bad_body(f"{_ATTRIBUTES}/conversion_metric_id", detail)
    return metric
