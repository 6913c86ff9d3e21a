"""The performance page: self-contained, accessible, and safe with any text from the account."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from datetime import date
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.reporting.page import render, write
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline_tests.reporting.books import WEEK, Books

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """The elements of a page with their attributes. Fails if they are nested incorrectly."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def test_no_name_becomes_markup_or_a_control_character(filled: Books) -> None:
    page = filled.page()
    elements = Outline(page)
    assert elements.all("script", "img", "iframe", "object") == []
    assert [name for _, attributes in elements.elements for name in attributes if name.startswith("on")] == []
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4
    assert not any(hidden in page for hidden in ("\u202e", "\x07", "\x1b"))
    assert page.count("{{ 7 * 7 }} &amp;amp; �gnp.exe � �[31m") == 4


def test_a_name_of_a_megabyte_is_shortened_with_an_ellipsis(books: Books) -> None:
    books.book("flow_metrics", "F1", WEEK.first, "x" * 1_000_000, conversion_value=1)
    page = books.page()
    assert f"<bdi>{'x' * 59}…</bdi>" in page
    assert len(page) < 300_000


def test_right_to_left_names_and_joined_emoji_are_unchanged(books: Books) -> None:
    books.book("flow_metrics", "F1", WEEK.first, "ברוכים הבאים 👩\u200d🚀", conversion_value=1)
    assert "<bdi>ברוכים הבאים 👩\u200d🚀</bdi>" in books.page()


@pytest.mark.parametrize("name", [None, "", " \n "])
def test_an_object_without_a_name_has_a_placeholder_and_its_id(name: str | None, books: Books) -> None:
    books.book("flow_metrics", "F1", WEEK.first, name, conversion_value=1)
    assert "<bdi>(no name)</bdi> <small><bdi>F1</bdi></small>" in books.page()


def test_the_page_loads_nothing_from_the_network(filled: Books) -> None:
    page = filled.page()
    targets = [
        attributes[name]
        for _, attributes in Outline(page).elements
        for name in ("src", "href", "action", "xlink:href")
        if name in attributes
    ]
    assert targets
    assert [target for target in targets if not target.startswith(("#", "data:"))] == []
    assert "@import" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_every_link_and_reference_has_its_target(filled: Books) -> None:
    page = filled.page()
    elements = Outline(page)
    ids = [attributes["id"] for _, attributes in elements.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {attributes["href"][1:] for attributes in elements.all("a", "use")}
    named |= {attributes["aria-labelledby"] for _, attributes in elements.elements if "aria-labelledby" in attributes}
    assert named <= set(ids)


def test_the_page_is_accessible_to_screen_readers(filled: Books) -> None:
    elements = Outline(filled.page())
    assert elements.all("html") == [{"lang": "en"}]
    headings = [int(tag[1]) for tag, _ in elements.elements if tag in ("h1", "h2", "h3", "h4")]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert len(elements.all("caption")) == len(elements.all("table")) > 10
    assert all(header.get("scope") in ("col", "row") for header in elements.all("th"))
    drawings = elements.all("svg")
    assert len(drawings) == len(elements.all("details")) == 8
    assert all(drawing["role"] == "img" and " by day. " in drawing["aria-label"] for drawing in drawings)


def test_the_values_of_a_chart_are_also_in_a_table(books: Books) -> None:
    books.book("flow_metrics", "F1", WEEK.last, conversion_value="1234.5")
    table = books.page().split("Revenue by day</caption>")[1].split("</table>")[0]
    assert table.count("<tr") == 8
    assert "2025-03-14" in table
    assert "1,234.50" in table


def full(colour: str) -> str:
    """#rgb as #rrggbb."""
    return colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_and_lines_have_enough_contrast_in_light_and_dark_mode(books: Books) -> None:
    schemes = [block.split("}")[0] for block in books.page().split(":root {")[1:]]
    assert len(schemes) == 3
    needed = {"ink": 7, "muted": 4.5, "accent": 4.5, **{f"series-{number}": 3 for number in (1, 2, 3, 4)}}
    for scheme in schemes:
        colours = {name: full(value) for name, value in re.findall(r"--([\w-]+): (#\w+)", scheme)}
        for name, least in needed.items():
            for ground in ("page", "card"):
                dark, light = sorted((luminance(colours[name]), luminance(colours[ground])))
                assert (light + 0.05) / (dark + 0.05) >= least, (name, ground)


def test_a_page_for_days_without_data_says_so(books: Books) -> None:
    page = books.page()
    Outline(page)
    assert "There is no data for these days" in page
    assert "Flows, campaigns, forms, segments: not synced for any of these days." in page
    assert "No data for these days." in page


def test_an_account_that_was_never_synced_has_a_page(books: Books) -> None:
    books.store.run("DELETE FROM account")
    page = books.page()
    Outline(page)
    assert "currency not known" in page


def test_a_page_for_a_year_is_smaller_than_a_megabyte(books: Books) -> None:
    year = Period(date(2025, 3, 1), date(2026, 2, 28))
    for on in year.days:
        books.book(
            "flow_metrics", "F1", on, recipients=on.day, delivered=on.day, opens_unique=1, conversion_value=on.day
        )
    assert len(books.page(year)) < 1_000_000


def test_the_same_values_make_the_same_page(filled: Books) -> None:
    content = filled.content()
    assert render(content) == render(content)


def test_a_page_is_written_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.html"
    write("before", file)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write("after", file)
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_neither_the_command_line_nor_the_definitions_import_matplotlib() -> None:
    code = (
        "import sys, click, klaviyo_pipeline.definitions\n"
        "from klaviyo_pipeline.cli.main import COMMANDS, cli\n"
        "assert all(cli.get_command(click.Context(cli), name) for name in COMMANDS)\n"
        "assert not {'matplotlib', 'PIL', 'klaviyo_pipeline.reporting.page'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)


def test_a_wheel_contains_the_template(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT_ROOT / name, source)
    shutil.copytree(PROJECT_ROOT / "klaviyo_pipeline", source / "klaviyo_pipeline")
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    subprocess.run([sys.executable, *build], check=True)
    [wheel] = tmp_path.glob("*.whl")
    assert "klaviyo_pipeline/reporting/performance.html.j2" in zipfile.ZipFile(wheel).namelist()
