"""Previews of the metrics of a period, in Markdown: a table of the top objects, and a chart by day."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import date

from klaviyo_pipeline.config.extras import naming_extra
from klaviyo_pipeline.reporting.comparison import KeyMetric
from klaviyo_pipeline.reporting.metric_values import Kind
from klaviyo_pipeline.reporting.panels import Panel
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader
from klaviyo_pipeline.reporting.report_tables import Row, Table, markdown, ranking
from klaviyo_pipeline.reporting.subjects import Subject

TOP = 5
DATA_URL = "data:image/png;base64,"
FROM, TO = ", ", " to "
RATES_NOTE = "\\* Average of the daily rates, weighted by deliveries."


def top_table(reader: Reader, subject: Subject[Kind], period: Period) -> str:
    """The top objects of the period. Dagster's UI shows the first 1,000 characters, and the rest after a click."""
    table = markdown(ranking(subject, reader.by_object(subject, period), period, TOP))
    return f"{table}\n\n{RATES_NOTE}" if subject.sends_daily else table


def chart(reader: Reader, subject: Subject[Kind], period: Period, previous: str | None = None) -> str | None:
    """A chart of the period as an image inside the Markdown; None if no day has metrics.

    Returns the `previous` chart if its last days are those of the period and none of its values has changed. Each image
    contains a digest of its values.
    """
    if previous is not None and (shown := _period_of(previous)) and shown.days[-len(period.days) :] == period.days:
        panels = _panels(reader, subject, shown)
        if panels and _digest(panels) in _picture_in(previous):
            return previous
    panels = _panels(reader, subject, period)
    if not panels:
        return None
    with naming_extra("A chart"):
        # Imported only if there is something to draw: the import takes longer than the rest of a run.
        from klaviyo_pipeline.reporting.charts import png

    picture = png(panels, _digest(panels).decode())
    title = f"{subject.table.entity} by day{FROM}{period.first}{TO}{period.last}"
    return f"![{title}]({DATA_URL}{base64.b64encode(picture).decode()})"


def _panels(reader: Reader, subject: Subject[Kind], period: Period) -> list[Panel]:
    by_day = reader.by_day(subject, period)
    return [panel for plot in subject.plots if not (panel := plot.panel(by_day, period.days)).is_empty]


def _period_of(text: str) -> Period | None:
    """The period in the title of a chart. None for a chart of an earlier version, whose title has no period."""
    first, _, last = text.partition("](")[0].partition(FROM)[2].partition(TO)
    return Period(date.fromisoformat(first), date.fromisoformat(last)) if last else None


def _digest(panels: Sequence[Panel]) -> bytes:
    shown = [(panel.title, panel.shape, list(panel.days), list(panel.series)) for panel in panels]
    return hashlib.sha256(repr(shown).encode()).hexdigest().encode()


def _picture_in(text: str) -> bytes:
    return base64.b64decode(text.partition(DATA_URL)[2].removesuffix(")"))


def key_metrics_table(values: Sequence[KeyMetric], period: Period) -> str:
    """The key metrics of a report as a table."""
    rows = [Row(one.label, [one.value, one.before, one.change]) for one in values]
    return markdown(Table(f"Key metrics, {period}", ["", "this period", "previous period", "change"], rows))
