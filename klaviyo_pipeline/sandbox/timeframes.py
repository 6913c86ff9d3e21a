"""The time frames of reports: what was asked, and how an interval cuts it.

All times here are naive wall-clock times of the account's zone, and every day has 24 of its hours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from klaviyo_pipeline.sandbox.api_errors import bad_body

_POINTER = "/data/attributes/timeframe"
_WRITTEN = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.\d{1,6})?(?:Z|[+-]\d{2}:\d{2})?\Z", re.ASCII)
_LONGEST = {
    "hourly": (timedelta(days=7), "7 days"),
    "daily": (timedelta(days=60), "60 days"),
    "monthly": (timedelta(weeks=52), "52 weeks"),
}
_STEPS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(days=7)}
KEYS = (
    "last_12_months",
    "last_30_days",
    "last_365_days",
    "last_3_months",
    "last_7_days",
    "last_90_days",
    "last_month",
    "last_week",
    "last_year",
    "this_month",
    "this_week",
    "this_year",
    "today",
    "yesterday",
)


@dataclass(frozen=True)
class Span:
    """Whole hours of the account's wall clock, half-open [start, end)."""

    start: datetime
    end: datetime

    def days(self) -> list[tuple[date, int, int]]:
        """Each day that the span touches, with the hours [from, to) of it that lie inside."""
        found = []
        day = self.start.date()
        while datetime.combine(day, time()) < self.end:
            midnight = datetime.combine(day, time())
            from_hour = (max(self.start, midnight) - midnight) // timedelta(hours=1)
            to_hour = (min(self.end, midnight + timedelta(days=1)) - midnight) // timedelta(hours=1)
            found.append((day, from_hour, to_hour))
            day += timedelta(days=1)
        return found


def read_timeframe(value: Any, interval: str | None, today: date, earliest: str | None) -> Span:
    """The span of a request's `timeframe`: `{"key": …}` or `{"start": …, "end": …}`.

    The offsets of start and end are ignored, both ends are included, and the end is rounded up to the end of
    its hour. Raises `ApiError` 400 for a malformed frame, one that is too long for `interval`, and one before
    `earliest`.
    """
    if not isinstance(value, dict):
        raise bad_body(_POINTER, "'timeframe' must be an object.")
    span = _keyed(value, today) if "key" in value else _custom(value)
    if span.end > _year_after(span.start):
        raise bad_body(_POINTER, "The timeframe cannot be longer than 1 year.")
    longest = _LONGEST.get(interval or "")
    if longest is not None and span.end - span.start > longest[0]:
        raise bad_body(_POINTER, f"The timeframe cannot be longer than {longest[1]} for the interval '{interval}'.")
    if earliest is not None and span.start < datetime.fromisoformat(earliest):
        raise bad_body(_POINTER, "Data is unavailable before June 1st, 2023.")
    return span


def _custom(value: dict[str, Any]) -> Span:
    if set(value) != {"start", "end"}:
        raise bad_body(_POINTER, "'timeframe' must have either 'key', or 'start' and 'end', and nothing else.")
    start, end = _wall(value, "start"), _wall(value, "end")
    if start > end:
        raise bad_body(f"{_POINTER}/start", "'start' must not be later than 'end'.")
    return Span(_hour(start), _hour(end) + timedelta(hours=1))


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0)


def _wall(value: dict[str, Any], name: str) -> datetime:
    found = _WRITTEN.match(value[name]) if isinstance(value[name], str) else None
    try:
        return datetime.fromisoformat(found[1] if found else "")
    except ValueError:
        raise bad_body(f"{_POINTER}/{name}", f"'{name}' must be an ISO 8601 datetime.") from None


def _year_after(start: datetime) -> datetime:
    try:
        return start.replace(year=start.year + 1)
    except ValueError:
        return start.replace(year=start.year + 1, month=3, day=1)


def _keyed(value: dict[str, Any], today: date) -> Span:
    key = value["key"]
    if set(value) != {"key"} or key not in KEYS:
        raise bad_body(f"{_POINTER}/key", f"'key' must be one of {', '.join(KEYS)}.")
    first, behind = _named(key, today)
    return Span(datetime.combine(first, time()), datetime.combine(behind, time()))


def _named(key: str, today: date) -> tuple[date, date]:
    """First day, and the day behind the last.

    `last_n_days` are whole days before today; weeks begin on Monday.
    """
    tomorrow = today + timedelta(days=1)
    week = today - timedelta(days=today.weekday())
    month, year = today.replace(day=1), today.replace(month=1, day=1)
    if found := re.fullmatch(r"last_(\d+)_days", key):
        return today - timedelta(days=int(found[1])), today
    if found := re.fullmatch(r"last_(\d+)_months", key):
        return months_before(month, int(found[1])), month
    return {
        "today": (today, tomorrow),
        "yesterday": (today - timedelta(days=1), today),
        "this_week": (week, tomorrow),
        "last_week": (week - timedelta(days=7), week),
        "this_month": (month, tomorrow),
        "last_month": (months_before(month, 1), month),
        "this_year": (year, tomorrow),
        "last_year": (year.replace(year=year.year - 1), year),
    }[key]


def months_before(month: date, count: int) -> date:
    """The first of the month `count` months before `month`."""
    index = month.year * 12 + month.month - 1 - count
    return date(index // 12, index % 12 + 1, 1)


def cut(span: Span, interval: str) -> list[tuple[datetime, Span]]:
    """The intervals that `span` touches: the time that stands for each, and its part of the span."""
    parts = []
    begins = _begin(span.start, interval)
    while begins < span.end:
        behind = _next(begins, interval)
        parts.append((begins, Span(max(begins, span.start), min(behind, span.end))))
        begins = behind
    return parts


def _begin(moment: datetime, interval: str) -> datetime:
    if interval == "hourly":
        return moment
    midnight = datetime.combine(moment.date(), time())
    if interval == "weekly":
        return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1) if interval == "monthly" else midnight


def _next(begins: datetime, interval: str) -> datetime:
    if interval == "monthly":
        return datetime.combine(months_before(begins.date(), -1), time())
    return begins + _STEPS[interval]
