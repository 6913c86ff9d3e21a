"""Tables as data, for the HTML page and for Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from klaviyo_pipeline.config.wording import counted
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
    """A row: its name, a cell for each heading after the first, and a detail in small print."""

    name: str
    cells: Sequence[str]
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table. The first heading belongs to the names of the rows."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Row]


def ranking(
    subject: Subject[Kind], ranked: Sequence[Ranked[Kind]], period: Period, limit: int, *, exact: bool = False
) -> Table:
    """The first `limit` objects, and one row with the sums of all other objects.

    `exact` means that the unique counts are those of the whole period. Otherwise they are sums of daily counts.
    """
    weighted = subject.sends_daily and not exact
    about = subject.table.entity
    rows = [_row(subject, one) for one in ranked[:limit]]
    if others := ranked[limit:]:
        sums = added(subject.kind, [one.values for one in others])
        rows.append(Row(counted(len(others), "other"), [column.of(sums) for column in subject.columns]))
    scope = f"Top {limit} of {len(ranked):,}" if others else "All"
    headings = [about.removesuffix("s").capitalize(), *(column.headed(weighted=weighted) for column in subject.columns)]
    return Table(f"{scope} {about} {subject.ranked}, {period}", headings, rows)


def daily(panel: Panel) -> Table:
    """The values of a panel, one row for each day."""
    rows = [
        Row(f"{day.isoformat()}", [panel.formatter(series.values[place]) for series in panel.series])
        for place, day in enumerate(panel.days)
    ]
    return Table(f"{panel.title} by day", ["Day", *(series.label.capitalize() for series in panel.series)], rows)


def display_name(name: str | None) -> str:
    """A name from the account, shortened to one line, without characters that hide or reorder text."""
    return shortened(name or "", NAME_LENGTH) or UNNAMED


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown. Names are formatted as code, so that markup and links in them have no effect."""
    lines = [f"**{table.caption}**", "", _line(table.headings), _line([":--", *("--:" for _ in table.headings[1:])])]
    return "\n".join([*lines, *(_line([_code(row.name), *row.cells]) for row in table.rows)])


def _row(subject: Subject[Kind], one: Ranked[Kind]) -> Row:
    details = [text for text in (one.id, one.status) if text]
    cells = [column.of(one.values) for column in subject.columns]
    return Row(display_name(one.name), cells, shortened(" · ".join(details), NAME_LENGTH))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    # Not every renderer supports an escape for these two characters in code inside a table cell.
    return f"`{re.sub('`', 'ʼ', text).replace('|', '¦')}`"
