"""Draws panels with matplotlib: as SVG for the HTML page, as PNG for Markdown.

The SVG takes its colours from the page's style sheet, so it follows the light, dark and print modes. Its text is
selectable text, not paths.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.typing import RcKeyType
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from klaviyo_pipeline.reporting.formats import Formatter, money, rate
from klaviyo_pipeline.reporting.panels import BARS, Panel

INK, MUTED, GRID = "#1b2733", "#51606e", "#d5dbe1"
SERIES = ("#1f5fa8", "#c2571a", "#2f7d4f", "#7a4fa3")
CSS_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)
}

SVG_INCHES = (4.0, 2.2)
PNG_INCHES, PNG_DPI, PNG_COLOURS = (3.6, 2.1), 100, 64
DAYS_NAMED = 5
"""The largest number of day labels below a chart. The first and the last day always have one."""
MARKED_DAYS = 62
"""A line over at most this many days has a marker on each day, so that a day between two gaps is visible."""

STYLE: dict[RcKeyType, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"


def svg(panel: Panel, name: str) -> str:
    """The panel as an `<svg>` element for a page. `name` makes its ids different from those of other panels."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=SVG_INCHES, layout="constrained")
        _draw(figure.subplots(), panel)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(buffer.getvalue(), panel.in_words())


def png(panels: Sequence[Panel], digest: str = "") -> bytes:
    """The panels in one PNG, two in a row, each below its title. The file contains `digest` as uncompressed text."""
    rows = math.ceil(len(panels) / 2)
    columns = min(2, len(panels))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PNG_INCHES[0] * columns, PNG_INCHES[1] * rows), dpi=PNG_DPI, layout="constrained")
        every = figure.subplots(rows, columns, squeeze=False).flat
        for axes, panel in zip(every, panels, strict=False):
            axes.set_title(panel.title, loc="left", fontsize=9, fontweight="bold")
            _draw(axes, panel)
        for axes in list(every)[len(panels) :]:
            axes.set_axis_off()
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png")
    # Fewer colours halve the size. The picture is stored with the run.
    packed = io.BytesIO()
    few = Image.open(drawn).convert("RGB").quantize(PNG_COLOURS, Image.Quantize.MAXCOVERAGE)
    info = PngInfo()
    info.add_text("digest", digest)
    few.save(packed, format="png", optimize=True, pnginfo=info)
    return packed.getvalue()


def _draw(axes: Axes, panel: Panel) -> None:
    places = np.array([day.toordinal() for day in panel.days], dtype=np.float64)
    if panel.shape == BARS:
        _bars(axes, panel, places)
    else:
        _lines(axes, panel, places)
    axes.set_xlim(places[0] - 0.5, places[-1] + 0.5)
    named = sorted({round(place) for place in np.linspace(0, len(places) - 1, DAYS_NAMED)})
    axes.set_xticks(places[named], _day_names([panel.days[place] for place in named]))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=panel.formatter not in (rate, money)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, panel.formatter)))
    if len(panel.series) > 1:
        columns = len(panel.series)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=columns, borderaxespad=0, handlelength=1.2)


def _bars(axes: Axes, panel: Panel, places: NDArray[np.float64]) -> None:
    # One path for all bars of a series: a year of separate bars would make the page large.
    edges = np.append(places - 0.5, places[-1] + 0.5)
    above = np.zeros(len(places))
    for series, colour in zip(panel.series, SERIES, strict=False):
        values = _numbers(series.values)
        base = np.where(values < 0, 0, above)
        axes.stairs(base + values, edges, baseline=base, fill=True, color=colour, label=series.label)
        above = above + np.nan_to_num(np.clip(values, 0, None))
    axes.axhline(0, color=MUTED, linewidth=0.8)


def _lines(axes: Axes, panel: Panel, places: NDArray[np.float64]) -> None:
    marker = "o" if len(places) <= MARKED_DAYS else None
    for series, colour in zip(panel.series, SERIES, strict=False):
        axes.plot(places, _numbers(series.values), color=colour, marker=marker, markersize=2.6, label=series.label)
    lowest, highest = axes.get_ylim()
    axes.set_ylim(min(lowest, 0), max(highest, 0))


def _numbers(values: Sequence[Decimal | None]) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else float(value) for value in values])


def _day_names(days: Sequence[date]) -> list[str]:
    """The labels of these days. If they span several years, the first label of each year contains the year."""
    years = [None if days[0].year == days[-1].year else days[0].year - 1, *(day.year for day in days)]
    return [
        f"{day.day} {day:%b}" + (f"\n{day.year}" if before not in (None, day.year) else "")
        for before, day in zip(years, days, strict=False)
    ]


def _tick(value: float, formatter: Formatter) -> str:
    if formatter is rate:
        return f"{value * 100:.3g}%"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _for_page(drawing: str, label: str) -> str:
    """The drawing as an `<svg>` element with a label for screen readers, without fixed sizes and unused ids."""
    root = ElementTree.fromstring(drawing)  # noqa: S314 - drawn here
    for metadata in root.findall(f"{SVG}metadata"):
        root.remove(metadata)
    for element in root.iter(f"{SVG}g"):
        element.attrib.pop("id", None)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": label, "focusable": "false"}
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        if target := element.attrib.pop(f"{XLINK}href", None):
            element.set("href", target)
    text = ElementTree.tostring(root, encoding="unicode")
    for colour, variable in CSS_VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
