"""Statistics of a report that no column declares: they are kept, with their changes."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from klaviyo_pipeline.sandbox import report_endpoints
from klaviyo_pipeline.sandbox.report_requests import ReportRequest
from klaviyo_pipeline.sandbox.report_results import Counter, ResultGroup
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, put, utc

pytestmark = pytest.mark.slow

DAY = "2025-03-10"
MESSAGE = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"}


@pytest.fixture
def shop() -> SandboxAccount:
    shop = empty_shop()
    put(shop, "flows", "F1", utc("2024-06-01T12:00:00"))
    shop.set_figures("flow", MESSAGE, date.fromisoformat(DAY), {"recipients": 100})
    return shop


@pytest.fixture
def undeclared(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Undeclared statistics of the account's responses, by name: a value for each day, written as it is sent."""
    output: dict[str, str] = {}
    true_statistics = report_endpoints._statistics

    def statistics(group: ResultGroup, request: ReportRequest, counter: Counter) -> dict[str, Any]:
        found = true_statistics(group, request, counter)
        days = len(found["recipients"])
        return {**found, **{name: [json.loads(figure)] * days for name, figure in output.items()}}

    monkeypatch.setattr(report_endpoints, "_statistics", statistics)
    return output


def test_undeclared_statistics_are_kept_and_their_changes_are_in_the_history(
    shop: SandboxAccount, pipeline: Pipeline, undeclared: dict[str, str]
) -> None:
    kept = "SELECT other_statistics::text FROM flow_report_history ORDER BY valid_from"
    pipeline.run("flow_report", DAY)
    pipeline.run("flow_report", DAY)
    assert pipeline.rows(kept) == [None]
    for figure in ("0.125", "0.125", "2.5"):
        undeclared["wow_rate"] = figure
        pipeline.run("flow_report", DAY)
    assert pipeline.rows(kept) == [None, '{"wow_rate": 0.125}', '{"wow_rate": 2.5}']
    assert pipeline.rows("SELECT other_statistics::text FROM flow_report") == ['{"wow_rate": 2.5}']
    assert pipeline.rows("SELECT statistic FROM flow_report_restatements") == []
    pipeline.run("flow_metrics", DAY)
    assert pipeline.one("SELECT recipients FROM flow_metrics") == 100


def test_an_undeclared_statistic_alone_makes_a_row_too(
    shop: SandboxAccount, pipeline: Pipeline, undeclared: dict[str, str]
) -> None:
    shop.zero_groups = True
    undeclared["wows"] = "3"
    shop.set_figures("flow", MESSAGE, date.fromisoformat(DAY), {"recipients": 0})
    pipeline.run("flow_report", DAY)
    assert pipeline.rows("SELECT recipients, other_statistics FROM flow_report") == [(0, {"wows": 3})]
