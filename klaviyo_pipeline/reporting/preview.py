"""A glance at the metrics of a period, in Markdown: the top objects as a table, their days as a small picture."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from klaviyo_pipeline.reporting.charts import png
from klaviyo_pipeline.reporting.comparison import KeyMetric
from klaviyo_pipeline.reporting.metric_values import Kind
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader
from klaviyo_pipeline.reporting.report_tables import Row, Table, markdown, ranking
from klaviyo_pipeline.reporting.subjects import Subject

TOP = 5
RATES_NOTE = "\\* daily rates weighted by deliveries"


def top_table(reader: Reader, subject: Subject[Kind], period: Period) -> str:
    """The top objects of the period. The UI shows less than 1,000 characters at once, and more on a click."""
    table = markdown(ranking(subject, reader.by_object(subject, period), period, TOP))
    starred = any(column.heading.endswith("*") for column in subject.columns)
    return f"{table}\n\n{RATES_NOTE}" if starred else table


def chart(reader: Reader, subject: Subject[Kind], period: Period) -> str | None:
    """The days of the period as a picture within the text; None where no day has figures."""
    by_day = reader.by_day(subject, period)
    panels = [panel for plot in subject.plots if not (panel := plot.panel(by_day, period.days)).is_empty]
    if not panels:
        return None
    return f"![{subject.table.entity} by day](data:image/png;base64,{base64.b64encode(png(panels)).decode()})"


def key_metrics_table(values: Sequence[KeyMetric], period: Period) -> str:
    """The key figures of a report as a table."""
    rows = [Row(one.label, [one.value, one.before, one.change]) for one in values]
    return markdown(Table(f"Key figures, {period}", ["", "now", "before", "change"], rows))
