"""What the UI displays of a metrics run, and the performance page as an asset."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from klaviyo_pipeline.catalog import METRICS, period_of
from klaviyo_pipeline.config.extras import MissingExtra
from klaviyo_pipeline.postgres.engine import create_engine, snapshot
from klaviyo_pipeline.reporting import charts, preview
from klaviyo_pipeline.reporting.metric_values import Sending
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader
from klaviyo_pipeline.reporting.report_tables import Row, Table, markdown
from klaviyo_pipeline.reporting.subjects import FLOWS
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import START, Pipeline, empty_shop, put, utc

pytestmark = pytest.mark.slow

OLD = utc("2024-06-01T12:00:00")
FIRST, LAST = "2025-03-09", "2025-03-12"
PICTURE = "](data:image/png;base64,"
LARGEST_PICTURE = 60_000
GROUPINGS: dict[str, dict[str, str]] = {
    "flow": {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"},
    "form": {"form_id": "W1"},
    "segment": {"segment_id": "S1"},
}


draw = charts.png


@pytest.fixture
def pipeline(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline that draws its charts."""
    monkeypatch.setattr(charts, "png", draw)
    return pipeline


@pytest.fixture
def shop() -> SandboxAccount:
    """A flow, a form and a segment with values on each of the days."""
    shop = empty_shop()
    put(shop, "flows", "F1", OLD, name="<b>50%|off</b>`", status="live", trigger_type="Metric")
    put(shop, "forms", "W1", OLD)
    put(shop, "segments", "S1", OLD)
    for place in range(4):
        day = date.fromisoformat(FIRST) + timedelta(days=place)
        sent = {"recipients": 100 + place, "delivered": 90, "opens_unique": 30, "conversion_value": 12.5 * place}
        shop.set_figures("flow", GROUPINGS["flow"], day, sent)
        shop.set_figures("form", GROUPINGS["form"], day, {"viewed_form": 10, "submits": 1})
        shop.set_figures("segment", GROUPINGS["segment"], day, {"members_added": 2, "total_members": 5 + place})
    return shop


def output(result: dg.ExecuteInProcessResult, asset: str) -> dict[str | None, Mapping[str, Any]]:
    """The metadata of each partition's materialization, in the order of the events."""
    return {
        event.partition: {
            name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(["shop", asset])
    }


def picture_of(text: str) -> bytes:
    return base64.b64decode(text.split(PICTURE)[1].removesuffix(")"))


def test_a_run_of_flow_metrics_has_a_table_of_top_flows_and_a_chart_once(pipeline: Pipeline) -> None:
    pipeline.run("flows", FIRST)
    pipeline.run("flow_report", FIRST, LAST)
    by_partition = output(pipeline.run("flow_metrics", FIRST, LAST), "flow_metrics")
    # The UI displays the newest event first: the partition with the chart.
    assert list(by_partition) == ["2025-03-09", "2025-03-10", "2025-03-11", "2025-03-12"]
    assert [key for key, reported in by_partition.items() if {"chart", "top_flows"} & set(reported)] == [LAST]
    top = by_partition[LAST]["top_flows"].splitlines()
    assert top[0] == "**All flows by revenue, 9 Mar 2025 to 12 Mar 2025**"
    assert top[2].startswith("| Flow | Revenue | Recipients |")
    assert top[4:] == [
        "| `<b>50%¦off</b>ʼ` | 75.00 | 406 | 33.33% | 0.00% | 0.00% |",
        "",
        "\\* Average of the daily rates, weighted by deliveries.",
    ]
    assert picture_of(by_partition[LAST]["chart"]).startswith(b"\x89PNG")


@pytest.mark.parametrize(("subject", "text"), [("form", "All forms by submits"), ("segment", "All segments by growth")])
def test_the_other_metrics_have_a_table_and_a_chart_too(subject: str, text: str, pipeline: Pipeline) -> None:
    pipeline.run(f"{subject}s", FIRST)
    pipeline.run(f"{subject}_report", FIRST, LAST)
    reported = output(pipeline.run(f"{subject}_metrics", FIRST, LAST), f"{subject}_metrics")[LAST]
    assert text in reported[f"top_{subject}s"]
    assert picture_of(reported["chart"])


def test_a_chart_is_drawn_again_only_if_its_values_have_changed(
    shop: SandboxAccount, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(charts, "png", lambda *given: drawn.append(given) or draw(*given))
    shown = []
    for recipients in (100, 100, 101):
        day = date.fromisoformat(LAST)
        shop.set_figures("flow", GROUPINGS["flow"], day, {"recipients": recipients, "delivered": 90})
        pipeline.run("flow_report", FIRST, LAST)
        shown.append(output(pipeline.run("flow_metrics", FIRST, LAST), "flow_metrics")[LAST]["chart"])
    assert len(drawn) == 2
    assert shown[0] == shown[1] != shown[2]

    # A run of the last day keeps the chart of all days, unless a value of an earlier day has changed.
    shown.append(output(pipeline.run("flow_metrics", LAST), "flow_metrics")[LAST]["chart"])
    assert shown[2] == shown[3]
    pipeline.execute(f"UPDATE shop.flow_metrics SET delivered = 1 WHERE date = '{FIRST}'")
    shown.append(output(pipeline.run("flow_metrics", LAST), "flow_metrics")[LAST]["chart"])
    assert len(drawn) == 3
    assert shown[3] != shown[4]


def test_days_without_values_have_a_table_without_a_chart(pipeline: Pipeline) -> None:
    pipeline.run("flow_report", "2025-02-03")
    [reported] = output(pipeline.run("flow_metrics", "2025-02-03"), "flow_metrics").values()
    assert not {"chart", "top_flows"} & set(reported)


def test_a_chart_error_does_not_fail_the_run(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(preview, "chart", broken)
    pipeline.run("flow_report", FIRST, LAST)
    reported = output(pipeline.run("flow_metrics", FIRST, LAST), "flow_metrics")
    assert set(reported) == {"2025-03-09", "2025-03-10", "2025-03-11", "2025-03-12"}
    assert pipeline.ledger("flow_metrics") == [(key, "synced") for key in reported]


def test_without_matplotlib_a_chart_names_the_extra_that_installs_it(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, charts.__name__)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    pipeline.run("flow_report", FIRST, LAST)
    pipeline.run("flow_metrics", FIRST, LAST)
    days = Period(date.fromisoformat(FIRST), date.fromisoformat(LAST))
    engine = create_engine(pipeline.database)
    with snapshot(engine) as connection, pytest.raises(MissingExtra, match="A chart needs the extra report"):
        preview.chart(Reader(connection, "shop"), FLOWS, days)
    engine.dispose()


def test_the_chart_of_a_year_is_small() -> None:
    year = Period(date(2025, 1, 1), date(2025, 12, 31))
    # As irregular as values can be, so that the chart is as large as possible.
    by_day = {
        day: Sending(*(Decimal(day.toordinal() * 7919 + 104_729 * place) % 9973 for place in range(8)))
        for day in year.days
    }
    drawn = charts.png([plot.panel(by_day, year.days) for plot in FLOWS.plots])
    assert len(base64.b64encode(drawn)) < LARGEST_PICTURE


@pytest.mark.parametrize("name", ["a|b", "`|`", "``", "a\\|b", "https://example.com", "![x](y)", "<img src=x>", "\\"])
def test_no_name_breaks_the_table(name: str) -> None:
    [row] = markdown(Table("Names", ["Name", "Figure"], [Row(name, ["1"])])).splitlines()[4:]
    assert row.count("|") == 3
    assert row.count("`") == 2
    assert row.startswith("| `")
    assert row.endswith("` | 1 |")


def test_the_performance_report_writes_a_page_and_links_it(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_STATE_DIR", str(tmp_path))
    for asset in ("flows", "flow_report", "flow_metrics"):
        pipeline.run(asset, FIRST, LAST)
    reported = output(pipeline.run("performance_report", days=3), "performance_report")[None]
    page = tmp_path / "reports" / "shop" / "performance-2025-03-10-to-2025-03-12.html"
    assert Path(reported["page"]) == page
    assert "<h1>Performance of shop</h1>" in page.read_text()
    assert reported["bytes"] == page.stat().st_size
    assert "| `Recipients` | 306 |" in reported["key_metrics"]
    assert list(page.parent.iterdir()) == [page]


def test_the_performance_report_of_an_account_without_values_warns(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_STATE_DIR", str(tmp_path))
    pipeline.run("performance_report")
    [page] = (tmp_path / "reports" / "shop").iterdir()
    assert "There is no data for these days" in page.read_text()


def test_the_performance_report_follows_the_metrics_once_automation_is_on(pipeline: Pipeline) -> None:
    report = dg.AssetKey(["shop", "performance_report"])
    observe = {"instance": pipeline.instance, "defs": pipeline.definitions}
    before = dg.evaluate_automation_conditions(**observe, asset_selection=dg.AssetSelection.assets(report))
    assert before.get_num_requested(report) == 0
    for asset in (name for name in METRICS if period_of(name) == "day"):
        metrics = dg.AssetMaterialization(dg.AssetKey(["shop", asset]), partition=START.isoformat())
        pipeline.instance.report_runless_asset_event(metrics)
    after = dg.evaluate_automation_conditions(
        **observe, asset_selection=dg.AssetSelection.assets(report), cursor=before.cursor
    )
    assert after.get_num_requested(report) == 1
