"""Renders the performance page: one HTML file that needs no network and no script."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import jinja2
from markupsafe import Markup

from klaviyo_pipeline.reporting.charts import svg
from klaviyo_pipeline.reporting.content import Content
from klaviyo_pipeline.reporting.panels import Panel
from klaviyo_pipeline.reporting.report_tables import daily

TEMPLATE = "performance.html.j2"


def render(content: Content) -> str:
    """The page as HTML. All text from the account is escaped. Charts contain no such text, and are not escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("klaviyo_pipeline.reporting", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(content=content, chart=_chart, daily=daily)


def write(page: str, file: Path) -> None:
    """Write the page atomically: a reader sees the old file or the new one, and a failure keeps the old one."""
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _chart(panel: Panel) -> Markup:
    return Markup(svg(panel, panel.title))  # noqa: S704 - drawn here, from numbers and fixed labels
