"""Converts a report's answer to rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.klaviyo.errors import MalformedAnswer, shortened
from klaviyo_pipeline.klaviyo.escape import escape, escape_json
from klaviyo_pipeline.klaviyo.report_types import GROUPS, OTHER_STATISTICS, Report, SeriesReport


@dataclass(frozen=True)
class ReportRows:
    """The content of an answer.

    A row is a dict with the report's keys (text), `date` (only in a series: the first day of the row's period, in the
    account's time zone), every declared statistic (Decimal or None), and `OTHER_STATISTICS`: the undeclared statistics
    by name, as JSON. If an undeclared statistic has one value for each day, the row contains the value of its own day.
    Otherwise, it contains all values of the statistic.

    `unknown` counts, for each undeclared statistic, the results that have it. `missing` counts, for each declared
    statistic, the results that lack it; their rows have None for it. `days` are the days of a series, even if the
    answer has no results; it is empty for a values report.
    """

    rows: list[dict[str, object]]
    unknown: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    days: frozenset[date] = frozenset()


def read_rows(report: Report, document: Mapping[str, object], zone: ZoneInfo | None = None) -> ReportRows:
    """The content of an answer: one row for each result and day of a series, or for each result of a values report.

    The day is the calendar date as Klaviyo writes it, with one exception: if `zone`, the account's time zone, is given
    and one of its days begins at the written time, that day is used.

    An answer without results is valid. Raises `MalformedAnswer` if a value might be stored for a wrong day (a series
    without exactly one value for each day, or a repeated or invalid day), and for a value that is not a number.
    """
    attributes = _attributes(report, document)
    days = _days(report, attributes, zone) if isinstance(report, SeriesReport) else None
    content = ReportRows([], days=frozenset(days or ()))
    for result in _results(report, attributes):
        content.rows.extend(_result_rows(report, result, days, content))
    return content


def added_up(report: Report, pages: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row for each key (and day, in a series), with the column `GROUPS`. `pages` has the rows of each page.

    An answer may contain several groups without an id, which then have the same key. Their counts are added, and their
    rates are None, since Klaviyo does not report a rate for all of them together. If a later page repeats a group that
    has all of its ids, it is the same group, and the later page wins.
    """
    names = report.keys if not isinstance(report, SeriesReport) else (*report.keys, "date")
    by_key: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for page in pages:
        seen: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for row in page:
            seen.setdefault(tuple(row[name] for name in names), []).append(row)
        for key, groups in seen.items():
            has_ids = all(value for name, value in zip(names, key, strict=True) if name not in report.may_be_empty)
            by_key[key] = groups if has_ids else [*by_key.get(key, ()), *groups]
    return [_added(report, groups) for groups in by_key.values()]


def _added(report: Report, groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(groups) == 1:
        return {**groups[0], GROUPS: 1}
    counts = {
        name: sum_known(group[name] for group in groups)
        for name in report.statistics
        if name not in report.by_use.rates
    }
    others: dict[str, list[object]] = {}
    for group in groups:
        for name, value in (group[OTHER_STATISTICS] or {}).items():
            others.setdefault(name, []).append(value)
    # It is unknown whether an undeclared statistic can be added, so the row has a list of the values of all groups.
    return {
        **groups[0],
        **dict.fromkeys(report.by_use.rates),
        **counts,
        OTHER_STATISTICS: others or None,
        GROUPS: len(groups),
    }


def sum_known(values: Iterable[Decimal | None]) -> Decimal | None:
    """The sum of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known, Decimal()) if known else None


def _malformed(report: Report, what: str) -> MalformedAnswer:
    return MalformedAnswer(f"The {report.name} report {what}.")


def _attributes(report: Report, document: Mapping[str, object]) -> Mapping[str, object]:
    data = document.get("data")
    attributes = data.get("attributes") if isinstance(data, Mapping) else None
    if not isinstance(attributes, Mapping):
        raise _malformed(report, "has no attributes")
    return attributes


def _results(report: Report, attributes: Mapping[str, object]) -> Iterable[Mapping[str, object]]:
    results = attributes.get("results")
    if not isinstance(results, list) or not all(isinstance(result, Mapping) for result in results):
        raise _malformed(report, "has no list of results")
    return results


def _days(report: Report, attributes: Mapping[str, object], zone: ZoneInfo | None) -> list[date]:
    date_times = attributes.get("date_times")
    if not isinstance(date_times, list):
        raise _malformed(report, "has no date_times")
    days = [_day(report, str(written), zone) for written in date_times]
    if len(set(days)) != len(days):
        raise _malformed(report, "contains a day twice")
    return days


def _day(report: Report, written: str, zone: ZoneInfo | None) -> date:
    try:
        if zone is not None and (begun := _day_begun_at(written, zone)) is not None:
            return begun
        # The date is taken as written: its offset may not be the account's, and a conversion could change the day.
        return date.fromisoformat(written[:10])
    except ValueError:
        raise _malformed(report, f"has an invalid day: {written!r}") from None


def _day_begun_at(written: str, zone: ZoneInfo) -> date | None:
    """The day of `zone` that begins at this instant; None if the day is the date as written.

    The date as written is the day if the text has no offset, if its time is 00:00, or if no day of `zone` begins then.
    """
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None or moment.time() == time():
        return None
    day = moment.astimezone(zone).date()
    begins = datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
    return day if moment == begins else None


def _result_rows(
    report: Report, result: Mapping[str, object], days: list[date] | None, content: ReportRows
) -> Iterable[dict[str, object]]:
    keys = _keys(report, result.get("groupings"))
    statistics = result.get("statistics")
    if not isinstance(statistics, Mapping):
        raise _malformed(report, f"has no statistics for {keys}")
    others = {name: value for name, value in statistics.items() if name not in report.statistics}
    content.unknown.update(escape(name) for name in others)
    content.missing.update(name for name in report.statistics if name not in statistics)
    if days is None:
        values = {name: _number(report, name, statistics.get(name)) for name in report.statistics}
        return [keys | values | {OTHER_STATISTICS: escape_json(others)[0] or None}]
    series = {name: _series(report, name, statistics.get(name), len(days)) for name in report.statistics}
    by_day = [escape_json(_others(others, at, len(days)))[0] or None for at in range(len(days))]
    return [
        keys | {"date": day} | {name: values[at] for name, values in series.items()} | {OTHER_STATISTICS: by_day[at]}
        for at, day in enumerate(days)
    ]


def _others(statistics: Mapping[str, object], at: int, length: int) -> dict[str, object]:
    """The undeclared statistics for the day with the index `at`.

    A statistic that does not have one value for each day is returned with all of its values.
    """
    return {
        name: value[at] if isinstance(value, list) and len(value) == length else value
        for name, value in statistics.items()
    }


def _keys(report: Report, groupings: object) -> dict[str, object]:
    values = groupings if isinstance(groupings, Mapping) else {}
    # If a grouping is missing, the values are stored with an empty text as the key, so that they are not lost.
    found = {name: values.get(report.groupings.get(name, name)) for name in report.keys}
    return {name: "" if value is None else escape(str(value)) for name, value in found.items()}


def _series(report: Report, name: str, series: object, length: int) -> list[Decimal | None]:
    if series is None:
        return [None] * length
    if not isinstance(series, list) or len(series) != length:
        raise _malformed(report, f"does not contain {name} for each day ({counted(length, 'day')})")
    return [_number(report, name, value) for value in series]


def _number(report: Report, name: str, value: object) -> Decimal | None:
    if value is None or isinstance(value, Decimal):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(str(value))
    raise _malformed(report, f"has a value of {name} that is not a number: {shortened(repr(value))}")
