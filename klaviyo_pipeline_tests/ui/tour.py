"""The steps of a user in the Dagster UI. Each step waits until the page shows its result."""

from __future__ import annotations

from datetime import date

from playwright.sync_api import Locator, Page, expect

from klaviyo_pipeline_tests.ui.browser import PATIENCE_MS
from klaviyo_pipeline_tests.ui.site import Site

GRAPH = (2400, 3000)
"""A window size that fits the whole graph with details."""

SHOW = "[Show Markdown]"
"""The UI's button for metadata that is too long to display inline."""

expect.set_options(timeout=PATIENCE_MS)


def open_graph(page: Page, site: Site) -> Locator:
    """The graph of all assets, after it shows the status of each. The page must have the size GRAPH."""
    page.goto(site.url("asset-groups"))
    page.get_by_text("Hide navigation").click()
    # The graph is fitted to the window when it is drawn, not when the window is resized.
    page.reload()
    graph = page.locator("svg").filter(has=page.locator("foreignObject")).first
    expect(graph.get_by_text("Latest event").first).to_be_visible()
    expect(graph.get_by_text("Loading")).to_have_count(0)
    return graph


def backfill(page: Page, site: Site, asset: str, first: date, last: date) -> str:
    """Launch a backfill of these days from the asset's page. Returns its id."""
    page.goto(site.asset(asset))
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[type=text]").fill(f"[{first}...{last}]")
    page.keyboard.press("Enter")
    expect(dialog.get_by_text(f"{(last - first).days + 1} partitions", exact=True)).to_be_visible()
    expect(dialog.get_by_text("Backfills all partitions in a single run.")).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    reported = page.get_by_text("Created backfill")
    expect(reported).to_be_visible()
    return reported.inner_text().split()[-1]


def open_partition(page: Page, site: Site, asset: str, day: date) -> Locator:
    """The part of the page about the latest materialization of a day."""
    page.goto(site.asset(asset, "partitions", partition=day.isoformat()))
    expect(page.get_by_text("Latest materialization")).to_be_visible()
    return page.locator("table").filter(has_text="dagster/partition_row_count")


def open_chart(page: Page, metadata: Locator) -> Locator:
    """The picture in a materialization's metadata."""
    metadata.get_by_role("row").filter(has_text="chart").get_by_text(SHOW).click()
    picture = page.get_by_role("dialog").locator("img")
    expect(picture).to_be_visible()
    return picture


def open_check(page: Page, site: Site, asset: str, check: str) -> None:
    """The latest result of a check."""
    page.goto(site.asset(asset, "checks", checkDetail=check))
    expect(page.get_by_text("Evaluation result")).to_be_visible()
