"""The endpoint of metric aggregates."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from klaviyo_pipeline.sandbox.aggregate_requests import AggregateRequest, read_aggregate_request
from klaviyo_pipeline.sandbox.api_errors import bad_cursor
from klaviyo_pipeline.sandbox.daily_counts import UNIT, part_of_day
from klaviyo_pipeline.sandbox.order_counts import OrderGroup, order_groups
from klaviyo_pipeline.sandbox.report_results import period_uniques
from klaviyo_pipeline.sandbox.request_context import Call
from klaviyo_pipeline.sandbox.timeframes import months_before

_COUNTED = {"count": "conversions", "sum_value": "conversion_value", "unique": "conversion_uniques"}
_HOUR = timedelta(hours=1)

Buckets = dict[datetime, dict[str, list[int]]]


def query_metric_aggregates(call: Call) -> dict[str, Any]:
    """The answer to one query. Raises `ApiError` for a query that the API would reject."""
    request = read_aggregate_request(call.body, call.content_type, call.account)
    dates = _dates(request)
    rows = _rows(call, request, dates)
    page, cursor = _page(call, request, rows)
    attributes = {
        "dates": [_written(call, begins) for begins in dates],
        "data": [{"dimensions": list(dimensions), "measurements": values} for dimensions, values in page],
    }
    requested = call.query.fields.get("metric-aggregate")
    if requested is not None:
        attributes = {name: value for name, value in attributes.items() if name in requested}
    link = call.self_link()
    data = {
        "type": "metric-aggregate",
        "id": hashlib.blake2b(call.body, digest_size=16).hexdigest(),
        "attributes": attributes,
        "links": {"self": link},
    }
    more = None if cursor is None else f"{link}?page_cursor={cursor}"
    return {"data": data, "links": {"self": link, "next": more, "prev": None}}


def _written(call: Call, begins: datetime) -> str:
    if call.account.aggregate_dates == "wall":
        begins = begins.replace(tzinfo=UTC)
    return begins.astimezone(UTC).isoformat(timespec="seconds")


def _dates(request: AggregateRequest) -> list[datetime]:
    """The start of each interval, on the wall clock of the query's zone."""
    dates = [_begin(request.start, request.interval)]
    while (following := _next(dates[-1], request.interval)).timestamp() < request.end.timestamp():
        dates.append(following)
    return dates


def _begin(moment: datetime, interval: str) -> datetime:
    if interval == "hour":
        return moment.replace(minute=0, second=0, microsecond=0)
    midnight = datetime.combine(moment.date(), time(), moment.tzinfo)
    if interval == "week":
        return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1) if interval == "month" else midnight


def _next(begins: datetime, interval: str) -> datetime:
    if interval == "hour":
        return (begins.astimezone(UTC) + _HOUR).astimezone(begins.tzinfo)
    if interval == "month":
        return datetime.combine(months_before(begins.date(), -1), time(), begins.tzinfo)
    # Added on the wall clock, because a day may have 23 or 25 hours.
    return begins + timedelta(days=7 if interval == "week" else 1)


def _rows(call: Call, request: AggregateRequest, dates: list[datetime]) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """The dimensions and measurements of each row with events. Without `by`, there is one row, even without events."""
    by_key: dict[tuple[str, ...], list[OrderGroup]] = defaultdict(list)
    for group in order_groups(call.account):
        by_key[tuple(group.dimensions.get(name, "") for name in request.by)].append(group)
    rows = []
    for key, groups in by_key.items():
        buckets: Buckets = defaultdict(lambda: {name: [] for name in _COUNTED})
        for group in groups:
            _count(call, request, group, buckets)
        if request.by and not any(any(parts) for counts in buckets.values() for parts in counts.values()):
            continue
        values = {name: [_measured(name, buckets.get(begins)) for begins in dates] for name in request.measurements}
        empty = call.account.empty_dimensions and not any(key)
        rows.append((() if empty else key, values))
    return _sorted(request, rows)


def _measured(name: str, counts: dict[str, list[int]] | None) -> float:
    parts = counts[name] if counts else []
    return (period_uniques(parts) if name == "unique" else sum(parts)) / UNIT


def _sorted(
    request: AggregateRequest, rows: list[tuple[tuple[str, ...], dict[str, Any]]]
) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    rows.sort(key=lambda row: row[0])
    sort = request.sort or ""
    name = sort.removeprefix("-")
    if name in request.by:
        place = request.by.index(name)
        rows.sort(key=lambda row: row[0][place] if row[0] else "", reverse=sort.startswith("-"))
    elif name in request.measurements:
        rows.sort(key=lambda row: sum(row[1][name]), reverse=sort.startswith("-"))
    return rows


def _count(call: Call, request: AggregateRequest, group: OrderGroup, buckets: Buckets) -> None:
    """Add the group's orders to the buckets. Days are divided into hours only if the query needs it."""
    zone = ZoneInfo(call.account.timezone)
    today = call.now.astimezone(zone).date()
    start, end = request.start.astimezone(zone), request.end.astimezone(zone)
    by_day = request.zone.key == zone.key and request.interval != "hour"
    day = start.date()
    while day <= min(end.date(), today):
        if by_day:
            from_hour, to_hour = _hours_inside(day, start, end)
            counts = group.counts(day, request.metric)
            if from_hour < to_hour and any(counts.values()):
                part = {name: part_of_day(value, from_hour, to_hour) for name, value in counts.items()}
                _add(buckets, _begin(datetime.combine(day, time(), request.zone), request.interval), part)
        else:
            for hour, of_hour in group.hours(day, request.metric):
                moment = datetime.combine(day, time(hour), zone).astimezone(request.zone)
                if request.start <= moment < request.end:
                    _add(buckets, _begin(moment, request.interval), of_hour)
        day += timedelta(days=1)


def _hours_inside(day: date, start: datetime, end: datetime) -> tuple[int, int]:
    from_hour = start.hour if day == start.date() else 0
    return from_hour, end.hour + (end.minute > 0) if day == end.date() else 24


def _add(buckets: Buckets, begins: datetime, part: Any) -> None:
    for name, counted in _COUNTED.items():
        buckets[begins][name].append(part[counted])


def _page(
    call: Call, request: AggregateRequest, rows: list[tuple[tuple[str, ...], dict[str, Any]]]
) -> tuple[list[tuple[tuple[str, ...], dict[str, Any]]], str | None]:
    """The rows of the requested page, and the next cursor. A cursor requires that the rest of the body is the same."""
    body = json.loads(call.body)
    body["data"]["attributes"].pop("page_cursor", None)
    question = call.operation, json.dumps(body, sort_keys=True)
    begins = 0
    if request.page_cursor is not None:
        place = call.cursors.redeem(call.account, question, request.page_cursor, "page_cursor")
        if not isinstance(place, int):
            raise bad_cursor("page_cursor")
        begins = place
    behind = begins + min(request.page_size, call.account.aggregate_page_size)
    cursor = call.cursors.issue(call.account, question, behind) if behind < len(rows) else None
    return rows[begins:behind], cursor
