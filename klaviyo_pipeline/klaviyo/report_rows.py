"""From a report's answer to rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer
from klaviyo_pipeline.klaviyo.escape import escape, escape_json
from klaviyo_pipeline.klaviyo.report_types import GROUPS, OTHER_STATISTICS, Report, SeriesReport


@dataclass(frozen=True)
class ReportRows:
    """What an answer held.

    A row is a dict of the report's keys (text), `date` (series only: the account's calendar day), every
    declared statistic (Decimal or None) and `OTHER_STATISTICS`: those that the declaration does not know, by
    name, as JSON, the day's own where there is one for each day. `unknown` counts the results with such
    statistics, by name; `missing` counts the results that lack a declared one, by name (None in the row).
    `days` are those that a series shows, whether or not there are results; a values report has none.
    """

    rows: list[dict[str, object]]
    unknown: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    days: frozenset[date] = frozenset()


def rows(report: Report, document: Mapping[str, object]) -> list[dict[str, object]]:
    """The rows of `read_rows` alone."""
    return read_rows(report, document).rows


def read_rows(report: Report, document: Mapping[str, object]) -> ReportRows:
    """The rows of an answer: one for each result and day, one for each result of a values report.

    No results is a normal answer. Raises `MalformedAnswer` where a figure could land on a wrong day: a
    series whose length is not that of the days, a day twice or unreadable, a figure that is no number.
    """
    attributes = _attributes(report, document)
    days = _days(report, attributes) if isinstance(report, SeriesReport) else None
    found = ReportRows([], days=frozenset(days or ()))
    for result in _results(report, attributes):
        found.rows.extend(_result_rows(report, result, days, found))
    return found


def added_up(report: Report, pages: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row for each key (and day, in a series), with `GROUPS`; `pages` are the rows of each page of one answer.

    Klaviyo may show several groups that lack an id, and so have one key. Their counts are added; their rates are
    None, since Klaviyo states none for them together. A group that has all of its ids and comes again on a later page
    is the same group: the later page counts.
    """
    names = report.keys if not isinstance(report, SeriesReport) else (*report.keys, "date")
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for page in pages:
        seen: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for row in page:
            seen.setdefault(tuple(row[name] for name in names), []).append(row)
        for key, groups in seen.items():
            found[key] = groups if all(key) else [*found.get(key, ()), *groups]
    return [_added(report, groups) for groups in found.values()]


def _added(report: Report, groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(groups) == 1:
        return {**groups[0], GROUPS: 1}
    counts = {
        name: _sum(group[name] for group in groups) for name in report.statistics if name not in report.by_use.rates
    }
    others: dict[str, list[object]] = {}
    for group in groups:
        for name, value in (group[OTHER_STATISTICS] or {}).items():
            others.setdefault(name, []).append(value)
    # Whether a statistic that nobody declared may be added is not known: each group's own is kept.
    return {
        **groups[0],
        **dict.fromkeys(report.by_use.rates),
        **counts,
        OTHER_STATISTICS: others or None,
        GROUPS: len(groups),
    }


def _sum(figures: Iterable[Decimal | None]) -> Decimal | None:
    known = [figure for figure in figures if figure is not None]
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


def _days(report: Report, attributes: Mapping[str, object]) -> list[date]:
    date_times = attributes.get("date_times")
    if not isinstance(date_times, list):
        raise _malformed(report, "has no date_times")
    days = [_day(report, written) for written in date_times]
    if len(set(days)) != len(days):
        raise _malformed(report, "shows a day twice")
    return days


def _day(report: Report, written: object) -> date:
    # As written: the offset shown is not said to be the account's, and a conversion could move the day.
    try:
        return date.fromisoformat(str(written)[:10])
    except ValueError:
        raise _malformed(report, f"has a day that is none: {written!r}") from None


def _result_rows(
    report: Report, result: Mapping[str, object], days: list[date] | None, found: ReportRows
) -> Iterable[dict[str, object]]:
    keys = _keys(report, result.get("groupings"))
    statistics = result.get("statistics")
    if not isinstance(statistics, Mapping):
        raise _malformed(report, f"has no statistics for {keys}")
    others = {name: value for name, value in statistics.items() if name not in report.statistics}
    found.unknown.update(escape(name) for name in others)
    found.missing.update(name for name in report.statistics if name not in statistics)
    if days is None:
        figures = {name: _figure(report, statistics.get(name)) for name in report.statistics}
        return [keys | figures | {OTHER_STATISTICS: escape_json(others)[0] or None}]
    series = {name: _series(report, name, statistics.get(name), len(days)) for name in report.statistics}
    by_day = [escape_json(_others(others, at, len(days)))[0] or None for at in range(len(days))]
    return [
        keys | {"date": day} | {name: figures[at] for name, figures in series.items()} | {OTHER_STATISTICS: by_day[at]}
        for at, day in enumerate(days)
    ]


def _others(statistics: Mapping[str, object], at: int, length: int) -> dict[str, object]:
    """The undeclared statistics of one day. One that does not give a figure for each day is kept whole."""
    return {
        name: value[at] if isinstance(value, list) and len(value) == length else value
        for name, value in statistics.items()
    }


def _keys(report: Report, groupings: object) -> dict[str, object]:
    reported = groupings if isinstance(groupings, Mapping) else {}
    # A grouping that an answer leaves out must not cost the figures: they are kept under an empty text.
    return {name: "" if reported.get(name) is None else escape(str(reported[name])) for name in report.keys}


def _series(report: Report, name: str, series: object, length: int) -> list[Decimal | None]:
    if series is None:
        return [None] * length
    if not isinstance(series, list) or len(series) != length:
        raise _malformed(report, f"does not give {name} for each of its {length} days")
    return [_figure(report, figure) for figure in series]


def _figure(report: Report, figure: object) -> Decimal | None:
    if figure is None or isinstance(figure, Decimal):
        return figure
    if isinstance(figure, int | float) and not isinstance(figure, bool):
        return Decimal(str(figure))
    raise _malformed(report, f"has a figure that is no number: {figure!r}")
