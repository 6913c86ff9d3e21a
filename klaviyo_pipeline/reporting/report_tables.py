"""Tables as data: made once, shown on a page or in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from klaviyo_pipeline.reporting.metric_values import Kind, added
from klaviyo_pipeline.reporting.panels import Panel
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Ranked
from klaviyo_pipeline.reporting.subjects import Subject
from klaviyo_pipeline.reporting.text import shortened

NAME_LENGTH = 60
UNNAMED = "(no name)"


@dataclass(frozen=True)
class Row:
    """A row: what it is about, what is told of that in small print, and a cell for each further heading."""

    name: str
    cells: Sequence[str]
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first heading is that of the rows' names."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Row]


def ranking(subject: Subject[Kind], ranked: Sequence[Ranked[Kind]], period: Period, limit: int) -> Table:
    """The first `limit` objects, and the others together."""
    about = subject.table.entity
    rows = [_row(subject, one) for one in ranked[:limit]]
    if others := ranked[limit:]:
        together = added(subject.kind, [one.values for one in others])
        name = "1 other" if len(others) == 1 else f"{len(others):,} others"
        rows.append(Row(name, [column.of(together) for column in subject.columns]))
    displayed = f"Top {limit} of {len(ranked):,}" if others else "All"
    headings = [about.removesuffix("s").capitalize(), *(column.heading for column in subject.columns)]
    return Table(f"{displayed} {about} {subject.ranked}, {period}", headings, rows)


def daily(panel: Panel) -> Table:
    """The figures of a panel, a row for each day."""
    rows = [
        Row(f"{day.isoformat()}", [panel.form(series.values[place]) for series in panel.series])
        for place, day in enumerate(panel.days)
    ]
    return Table(f"{panel.title} by day", ["Day", *(series.label.capitalize() for series in panel.series)], rows)


def display_name(name: str | None) -> str:
    """A name from the account on one line, without what hides or reorders text, and not too long."""
    return shortened(name or "", NAME_LENGTH) or UNNAMED


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown. Names are code, in which nothing is markup and no address becomes a link."""
    lines = [f"**{table.caption}**", "", _line(table.headings), _line([":--", *("--:" for _ in table.headings[1:])])]
    return "\n".join([*lines, *(_line([_code(row.name), *row.cells]) for row in table.rows)])


def _row(subject: Subject[Kind], one: Ranked[Kind]) -> Row:
    details = [text for text in (one.id, one.status) if text]
    cells = [column.of(one.values) for column in subject.columns]
    return Row(display_name(one.name), cells, shortened(" · ".join(details), NAME_LENGTH))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    # Neither can be escaped within code in a cell in a way that every renderer knows.
    return f"`{re.sub('`', 'ʼ', text).replace('|', '¦')}`"
