"""The Dagster UI in a real browser, with a real daemon."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from klaviyo_pipeline.catalog import METRICS
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline_tests.dev_server import ask, finished
from klaviyo_pipeline_tests.ui.browser import new_page
from klaviyo_pipeline_tests.ui.site import PROGRAM, Site
from klaviyo_pipeline_tests.ui.tour import GRAPH, SHOW, backfill, open_chart, open_check, open_graph, open_partition

pytestmark = pytest.mark.slow

RUNS = """
query Runs($backfill: String!) {
  runsOrError(filter: {tags: [{key: "dagster/backfill", value: $backfill}]}) {
    ... on Runs { results { runId status } }
  }
}
"""


FAILED = """
{ runsOrError(filter: {statuses: [FAILURE]}) { ... on Runs { results { runId } } } }
"""


@dataclass(frozen=True)
class Launched:
    """A backfill of flow_metrics that was launched in the UI."""

    id: str
    first: date
    last: date


@pytest.fixture(scope="module")
def launched(dagster_ui: Site, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Launched:
    page = new_page(browser)
    last = dagster_ui.today - timedelta(days=2)
    first = last - timedelta(days=29)
    id = backfill(page, dagster_ui, "flow_metrics", first, last)
    page.screenshot(path=tmp_path_factory.mktemp("shots") / "launched.png")
    page.context.close()
    return Launched(id, first, last)


# Launched first, because the daemon checks for backfills only twice a minute. The next tests run in the meantime.
def test_a_range_is_backfilled_from_the_ui(launched: Launched) -> None:
    assert launched.id


def test_the_asset_graph_contains_every_asset(dagster_ui: Site, browser: Browser, shots: Path) -> None:
    page = new_page(browser, GRAPH)
    graph = open_graph(page, dagster_ui)
    page.screenshot(path=shots / "graph.png")
    for name in ("flows", "campaigns", "forms_census", "tags", "segment_report", *METRICS, "performance_report"):
        expect(graph.get_by_text(name, exact=True).first).to_be_visible()


def test_the_backfill_is_one_run_whose_last_day_has_a_table_and_a_chart(
    dagster_ui: Site, launched: Launched, browser: Browser, shots: Path
) -> None:
    finished(dagster_ui.client, launched.id)
    page = new_page(browser, (1440, 1200))
    page.goto(dagster_ui.url(f"runs/b/{launched.id}?tab=runs"))
    expect(page.get_by_text("Success").first).to_be_visible()
    page.screenshot(path=shots / "backfill.png")
    runs = ask(dagster_ui.client, {"query": RUNS, "variables": {"backfill": launched.id}})["runsOrError"]["results"]
    assert [run["status"] for run in runs] == ["SUCCESS"], dagster_ui.log.read_text(errors="replace")[-4000:]
    reported = open_partition(page, dagster_ui, "flow_metrics", launched.last)
    expect(reported.get_by_text("flows by revenue")).to_be_visible()
    expect(reported.get_by_role("columnheader", name="Revenue")).to_be_visible()
    page.screenshot(path=shots / "materialization.png")
    picture = open_chart(page, reported)
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 600
    page.screenshot(path=shots / "chart.png")
    earlier = open_partition(page, dagster_ui, "flow_metrics", launched.last - timedelta(days=1))
    expect(earlier).to_be_visible()
    expect(earlier.get_by_text(SHOW)).to_have_count(0)


def test_the_bar_is_green_after_a_failed_second_attempt_and_the_run_begins_with_the_reason(
    dagster_ui: Site, launched: Launched, browser: Browser, shots: Path
) -> None:
    dagster_ui.sandbox.faults.add(path_starts("/api/flow-series-reports"), Fault(status=400), times=20)
    variables = {**os.environ, **dagster_ui.variables}
    failed = subprocess.run(
        [PROGRAM, "sync", "flow_report", "--force"], env=variables, capture_output=True, text=True, check=False
    )
    dagster_ui.sandbox.faults.clear()
    assert failed.returncode == 1
    [reason] = [line.partition("flow_report: ")[2] for line in failed.stderr.splitlines() if "flow_report: " in line]
    page = new_page(browser)
    page.goto(dagster_ui.asset("flow_report", "partitions"))
    days = (dagster_ui.today - dagster_ui.first).days + 1
    expect(page.get_by_text(f"Materialized ({days})")).to_be_visible()
    expect(page.get_by_text("Failed (0)")).to_be_visible()
    page.screenshot(path=shots / "bar.png")
    [run] = ask(dagster_ui.client, {"query": FAILED})["runsOrError"]["results"]
    page.goto(dagster_ui.url(f"runs/{run['runId']}"))
    expect(page.get_by_text(reason[:60]).first).to_be_visible()
    page.screenshot(path=shots / "failure.png")


def test_the_ui_shows_the_result_of_a_check(
    dagster_ui: Site, launched: Launched, browser: Browser, shots: Path
) -> None:
    page = new_page(browser)
    open_check(page, dagster_ui, "flow_metrics", "metrics_match_report")
    expect(page.get_by_text("Passed", exact=True)).to_be_visible()
    page.screenshot(path=shots / "check.png")
