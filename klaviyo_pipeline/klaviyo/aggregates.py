"""Conversions by the day of the order, from Klaviyo's metric aggregates: the request, and its answer as rows.

Reports count a conversion on the day of the send. Metric aggregates count an event on the day of the event, by the
flow, message and channel to which Klaviyo attributes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.klaviyo.channels import OTHER_WORDS
from klaviyo_pipeline.klaviyo.errors import MalformedAnswer, shortened
from klaviyo_pipeline.klaviyo.escape import escape

PATH = "/api/metric-aggregates"
BY = ("$attributed_channel", "$attributed_flow", "$attributed_message")
MEASUREMENTS = {"conversions": "count", "conversion_uniques": "unique", "conversion_value": "sum_value"}

DAYS_PER_REQUEST = 90
"""Klaviyo allows a year. A page has up to 500 rows, each with all days, so a shorter range keeps pages small."""

PAGE_SIZE = 500

# Every range is requested with one more day at each end: Klaviyo does not document whether the bounds of the filter are
# in the query's time zone or in UTC.
_MARGIN = timedelta(days=1)
# In the filters of listings, Klaviyo refuses bounds in the future and in the last few seconds. It may do so here too.
_PRESENT_MARGIN = timedelta(seconds=10)

# Klaviyo refuses these names of time zones in this query, but accepts the older names of the same zones.
_OLDER_NAMES = {"Europe/Kyiv": "Europe/Kiev", "Pacific/Kanton": "Pacific/Enderbury"}

# The names of channels that the answer may contain, each with its name in `campaigns.channels`. Klaviyo does not
# document the names in the answer.
_CHANNELS = OTHER_WORDS | {
    "push_notification": "mobile_push",
    "text": "sms",
    "text-message": "sms",
    "text_message": "sms",
}


@dataclass(frozen=True)
class AggregateRows:
    """The content of one page.

    A row is a dict with `flow_id`, `message_id` and `send_channel` (an empty text if Klaviyo attributes the events to
    none), `date` (the account's calendar day), the statistics of `MEASUREMENTS` (Decimal or None), and `group` (the
    dimensions as Klaviyo writes them). Rows whose statistics are all zero or None are left out. `days` are all days of
    the answer, even those without rows. `cursor` leads to the next page; it is None on the last page.
    """

    rows: list[dict[str, Any]]
    days: frozenset[date]
    cursor: str | None


def body(
    metric_id: str, first: date, last: date, zone: ZoneInfo, now: datetime, *, grouped: bool = True
) -> dict[str, Any]:
    """The request body for the account's days from `first` to `last`, both included, up to `now` (aware).

    The answer also contains the day before and the day after this range, if they have begun. Without `grouped`, it has
    one row for each day, with the events of all flows, messages and channels.
    """
    start = datetime.combine(first - _MARGIN, time())
    end = datetime.combine(last + timedelta(days=1) + _MARGIN, time())
    present = (now - _PRESENT_MARGIN).astimezone(zone).replace(tzinfo=None, microsecond=0)
    attributes: dict[str, Any] = {
        "metric_id": metric_id,
        "measurements": list(MEASUREMENTS.values()),
        "interval": "day",
        "timezone": _OLDER_NAMES.get(zone.key, zone.key),
        "page_size": PAGE_SIZE,
        "filter": [
            f"greater-or-equal(datetime,{start.isoformat()})",
            f"less-than(datetime,{min(end, present).isoformat()})",
        ],
    }
    if grouped:
        attributes["by"] = list(BY)
    return {"data": {"type": "metric-aggregate", "attributes": attributes}}


def at_cursor(body: Mapping[str, Any], cursor: str) -> dict[str, Any]:
    """The same request body, for the page that `cursor` leads to."""
    data = body["data"]
    return {"data": {**data, "attributes": {**data["attributes"], "page_cursor": cursor}}}


def read_rows(document: Mapping[str, Any], zone: ZoneInfo, *, grouped: bool = True) -> AggregateRows:
    """The content of one page. Raises `MalformedAnswer` if a value might be stored for a wrong day or group."""
    data = document.get("data")
    attributes = data.get("attributes") if isinstance(data, Mapping) else None
    if not isinstance(attributes, Mapping):
        raise _malformed("has no attributes")
    dates, results = attributes.get("dates"), attributes.get("data")
    if not isinstance(dates, list) or not isinstance(results, list):
        raise _malformed("has no dates or no data")
    days = [_day(written, zone) for written in dates]
    if len(set(days)) != len(days):
        raise _malformed("contains a day twice")
    rows = [row for result in results for row in _rows(result, days, len(BY) if grouped else 0)]
    return AggregateRows(rows, frozenset(days), _cursor(document, len(results)))


def _rows(result: Any, days: list[date], dimensions: int) -> list[dict[str, Any]]:
    names = result.get("dimensions") if isinstance(result, Mapping) else None
    measured = result.get("measurements") if isinstance(result, Mapping) else None
    if not isinstance(names, list) or not isinstance(measured, Mapping):
        raise _malformed("has a row without dimensions or measurements")
    # For events that are attributed to nothing, the list of dimensions can be empty.
    if len(names) not in (0, dimensions):
        raise _malformed(f"has {counted(len(names), 'dimension')} in a row, not {dimensions}")
    channel, flow, message = ("" if name is None else escape(str(name)) for name in (*names, "", "", "")[:3])
    key = {"group": tuple(map(str, names)), "flow_id": flow, "message_id": message, "send_channel": _channel(channel)}
    values = {column: _series(measured, name, len(days)) for column, name in MEASUREMENTS.items()}
    return [
        {**key, "date": day, **{column: series[at] for column, series in values.items()}}
        for at, day in enumerate(days)
        if any(series[at] for series in values.values())
    ]


def _channel(written: str) -> str:
    name = written.strip().lower().replace(" ", "_")
    return _CHANNELS.get(name, name)


def _series(measured: Mapping[str, Any], name: str, length: int) -> list[Decimal | None]:
    series = measured.get(name)
    if series is None:
        return [None] * length
    if not isinstance(series, list) or len(series) != length:
        raise _malformed(f"does not contain {name} for each day ({counted(length, 'day')})")
    return [None if value is None else _number(name, value) for value in series]


def _number(name: str, value: Any) -> Decimal:
    if isinstance(value, Decimal | int | float) and not isinstance(value, bool):
        return Decimal(str(value))
    raise _malformed(f"has a value of {name} that is not a number: {shortened(repr(value))}")


def _day(written: Any, zone: ZoneInfo) -> date:
    """The account's day for an interval of the answer.

    The start of the interval may be written as an instant (with an offset), or as the local time of `zone`.
    """
    try:
        moment = datetime.fromisoformat(str(written))
    except ValueError:
        raise _malformed(f"has an invalid day: {written!r}") from None
    wall = moment.replace(tzinfo=None)
    local = moment.astimezone(zone).replace(tzinfo=None) if moment.tzinfo else wall
    if wall.time() == time() != local.time():
        return wall.date()
    # The day of the nearest midnight: where clocks change at midnight, a day can begin at 01:00.
    return (local + timedelta(hours=12)).date()


def _cursor(document: Mapping[str, Any], rows: int) -> str | None:
    """The cursor of the next page, for the body of the next request; None on the last page."""
    links = document.get("links")
    if not isinstance(links, Mapping) or "next" not in links:
        if rows >= PAGE_SIZE:
            raise _malformed(f"has {rows} rows, a full page, but no link to a next page")
        return None
    link = links["next"]
    if not link:
        return None
    params = httpx.URL(str(link)).params
    cursor: str | None = params.get("page_cursor") or params.get("page[cursor]")
    if not cursor:
        raise _malformed(f"has a link to the next page without a cursor: {link!r}")
    return cursor


def _malformed(what: str) -> MalformedAnswer:
    return MalformedAnswer(f"The metric aggregates response {what}.")
