"""The performance page in a real browser, on a desktop, on a phone and in print."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from klaviyo_pipeline.reporting.page import write
from klaviyo_pipeline_tests.postgres.conftest import store_on, store_template  # noqa: F401 - a fixture
from klaviyo_pipeline_tests.reporting.books import WEEK, Books
from klaviyo_pipeline_tests.ui.browser import DESKTOP, PHONE, new_page

pytestmark = pytest.mark.slow

WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


@pytest.fixture(scope="module")
def file(postgres_server: str, store_template: str, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A page with extreme names and values."""
    with store_on(postgres_server, store_template) as store:
        books = Books(store)
        books.open()
        books.fill()
        books.book("flow_metrics", "F" * 40, WEEK.first, "unbroken" * 30, recipients=10**12, conversion_value=10**11)
        file = tmp_path_factory.mktemp("report") / "report.html"
        write(books.page(), file)
    return file


def opened(page: Page, file: Path) -> list[str]:
    """Open the page. Yields the page, its network requests other than itself, and its console messages."""
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
    page.on(
        "request",
        lambda request: trouble.append(request.url) if request.url not in (file.as_uri(), "data:,") else None,
    )
    page.goto(file.as_uri())
    return trouble


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 640)], ids=["desktop", "phone", "small phone"])
def test_the_page_sends_no_request_runs_no_script_and_does_not_overflow(
    size: tuple[int, int], file: Path, browser: Browser, shots: Path
) -> None:
    page = new_page(browser, size)
    trouble = opened(page, file)
    whole, output = page.evaluate(WIDTHS)
    assert whole <= output
    page.screenshot(path=shots / "report.png", full_page=True)
    for summary in page.locator("summary").all():
        summary.click()
    expect(page.locator("details[open]")).to_have_count(8)
    whole, output = page.evaluate(WIDTHS)
    assert whole <= output
    assert trouble == []


def test_the_page_has_one_column_on_a_phone(file: Path, browser: Browser) -> None:
    page = new_page(browser, PHONE)
    opened(page, file)
    lefts = {box["x"] for figure in page.locator("figure").all() if (box := figure.bounding_box())}
    assert len(lefts) == 1
    label = page.locator("td").first.evaluate("cell => getComputedStyle(cell, '::before').content")
    assert label == '"Revenue"'


def test_the_print_layout_has_the_values_but_not_the_navigation(file: Path, browser: Browser, shots: Path) -> None:
    page = new_page(browser)
    opened(page, file)
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.get_by_role("navigation")).to_be_hidden()
    expect(page.locator("summary").first).to_be_hidden()
    expect(page.locator("svg").first).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(path=shots / "report.pdf", format="A4").startswith(b"%PDF")


def test_a_screen_reader_gets_the_page_in_visual_order(file: Path, browser: Browser) -> None:
    page = new_page(browser)
    opened(page, file)
    expect(page.get_by_role("heading", level=1)).to_have_text("Performance of order")
    expect(page.get_by_role("img", name="Revenue by day. Flows: from")).to_be_visible()
    table = page.get_by_role("table", name="flows by revenue")
    expect(table.get_by_role("rowheader").first).to_contain_text("unbroken")
    expect(table.get_by_role("columnheader", name="Open rate")).to_be_visible()
