"""Responses of a report that leave out requested days: none is lost silently, and nothing is blocked forever."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from klaviyo_pipeline.sandbox import report_endpoints
from klaviyo_pipeline.sandbox.faults import Fault
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, put, utc

pytestmark = pytest.mark.slow

FIRST, LAST = "2025-03-10", "2025-03-14"
MESSAGE = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"}


@dataclass
class Answers:
    """The days that the account's responses leave out: the first `times` responses, or all."""

    days: set[date] = field(default_factory=set)
    times: int = 1_000
    without_results: bool = False

    def cut(self, document: dict[str, Any]) -> dict[str, Any]:
        attributes = document["data"]["attributes"]
        days = [date.fromisoformat(reported[:10]) for reported in attributes.get("date_times", ())]
        if self.times == 0 or not self.days & set(days):
            return document
        self.times -= 1
        kept = [at for at, day in enumerate(days) if day not in self.days]
        attributes["date_times"] = [attributes["date_times"][at] for at in kept]
        for result in attributes["results"]:
            result["statistics"] = {name: [series[at] for at in kept] for name, series in result["statistics"].items()}
        if self.without_results and not kept:
            attributes["results"] = []
        return document


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    reported = Answers()
    true_document = report_endpoints._document
    monkeypatch.setattr(report_endpoints, "_document", lambda *requested: reported.cut(true_document(*requested)))
    return reported


@pytest.fixture
def shop() -> SandboxAccount:
    """An account with values on each day from `FIRST` to `LAST`: as many recipients as the day's number."""
    shop = empty_shop()
    put(shop, "flows", "F1", utc("2024-06-01T12:00:00"), status="live")
    for number in range(10, 15):
        shop.set_figures("flow", MESSAGE, date(2025, 3, number), {"recipients": number})
    return shop


def days(*numbers: int) -> set[date]:
    return {date(2025, 3, number) for number in numbers}


def recipients(pipeline: Pipeline) -> list[int]:
    return [int(figure) for figure in pipeline.rows("SELECT recipients FROM flow_report ORDER BY date")]


def requested(requests: list[Any]) -> int:
    return sum(1 for request in requests if request.path == "/api/flow-series-reports")


def test_a_day_that_a_response_leaves_out_is_requested_again_and_has_its_values(
    pipeline: Pipeline, answers: Answers
) -> None:
    answers.days, answers.times = days(11, 13), 1
    with pipeline.requested() as requests:
        pipeline.run("flow_report", FIRST, LAST)
    assert requested(requests) == 2
    assert recipients(pipeline) == [10, 11, 12, 13, 14]
    assert {status for _, status in pipeline.ledger("flow_report")} == {"synced"}


def test_a_day_that_klaviyo_leaves_out_again_stays_missing_and_is_listed_and_the_others_are_stored(
    pipeline: Pipeline, answers: Answers
) -> None:
    answers.days = days(11, 13)
    with pipeline.requested() as requests:
        why = pipeline.fail("flow_report", FIRST, LAST)
    assert len([one for one in requests if one.path == "/api/flow-values-reports"]) == 2
    assert "lacks 2025-03-11, 2025-03-13" in why
    assert requested(requests) == 2
    assert recipients(pipeline) == [10, 12, 14]
    states = [status for _, status in pipeline.ledger("flow_report")]
    assert states == ["synced", "failed", "synced", "failed", "synced"]
    pipeline.run("flow_metrics", FIRST, LAST)
    assert [status for _, status in pipeline.ledger("flow_metrics")] == ["synced"] * 3
    answers.days = set()
    pipeline.run("flow_report", "2025-03-11", "2025-03-13")
    assert recipients(pipeline) == [10, 11, 12, 13, 14]


def test_a_day_that_is_left_out_later_keeps_its_values(pipeline: Pipeline, answers: Answers) -> None:
    pipeline.run("flow_report", FIRST, LAST)
    before = pipeline.versions("flow_report", "flow_report_superseded")
    answers.days = days(11, 13)
    pipeline.fail("flow_report", FIRST, LAST)
    assert pipeline.versions("flow_report", "flow_report_superseded") == before


@pytest.mark.parametrize("without_results", [True, False])
def test_days_that_klaviyo_leaves_out_and_has_no_values_for_are_stored_as_empty(
    without_results: bool, pipeline: Pipeline, answers: Answers
) -> None:
    answers.days = days(*range(1, 10)) | {date(2025, 2, number) for number in range(1, 29)}
    answers.without_results = without_results
    result = pipeline.run("flow_report", "2025-02-01", "2025-03-12")
    assert recipients(pipeline) == [10, 11, 12]
    assert {status for _, status in pipeline.ledger("flow_report")} == {"synced"}
    messages = [entry.user_message for entry in pipeline.instance.all_logs(result.run_id)]
    assert any("2025-02-01, 2025-02-02, 2025-02-03, 2025-02-04, 2025-02-05 and 32 more" in line for line in messages)


def test_a_range_that_klaviyo_leaves_out_as_a_whole_costs_two_more_requests(
    pipeline: Pipeline, answers: Answers
) -> None:
    answers.days = days(1, 2, 3)
    with pipeline.requested() as requests:
        pipeline.run("flow_report", "2025-03-01", "2025-03-03")
    assert [one.path.removeprefix("/api/flow-") for one in requests if "report" in one.path] == [
        "series-reports",
        "series-reports",
        "values-reports",
    ]
    assert pipeline.one("SELECT count(*) FROM sync_windows WHERE status = 'synced'") == 3


def test_a_day_without_values_that_is_left_out_among_others_is_stored_as_empty(
    shop: SandboxAccount, pipeline: Pipeline, answers: Answers
) -> None:
    shop.set_figures("flow", MESSAGE, date(2025, 3, 12), {"recipients": 0})
    answers.days = days(12)
    pipeline.run("flow_report", FIRST, LAST)
    assert recipients(pipeline) == [10, 11, 13, 14]
    assert {status for _, status in pipeline.ledger("flow_report")} == {"synced"}


def test_days_whose_separate_request_klaviyo_rejects_stay_missing(pipeline: Pipeline, answers: Answers) -> None:
    answers.days = days(10, 11)
    refusal = {"errors": [{"id": "r", "status": 400, "code": "invalid", "title": "No.", "detail": "Too early."}]}
    pipeline.server.faults.add(
        lambda request: request.url.path.endswith("-reports"), Fault(status=400, body=refusal), times=2, skip=1
    )
    assert "lacks 2025-03-10, 2025-03-11" in pipeline.fail("flow_report", FIRST, LAST)
    assert recipients(pipeline) == [12, 13, 14]


def test_an_open_day_that_is_not_in_the_response_yet_is_not_synced_and_delays_nothing(
    shop: SandboxAccount, pipeline: Pipeline, answers: Answers
) -> None:
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    for day in (yesterday, today):
        shop.set_figures("flow", MESSAGE, day, {"recipients": 3})
    pipeline.run("flow_report", yesterday.isoformat(), today.isoformat())
    answers.days = {today}
    with pipeline.requested() as requests:
        pipeline.run("flow_report", yesterday.isoformat(), today.isoformat())
    assert requested(requests) == 1
    assert recipients(pipeline) == [3, 3]


def test_a_day_that_one_page_leaves_out_is_not_covered(
    shop: SandboxAccount, pipeline: Pipeline, answers: Answers
) -> None:
    shop.report_page_size = 1
    shop.set_figures("flow", {**MESSAGE, "flow_message_id": "M2"}, date(2025, 3, 11), {"recipients": 5})
    answers.days, answers.times = days(11), 1
    with pipeline.requested() as requests:
        pipeline.run("flow_report", FIRST, LAST)
    assert requested(requests) == 4
    assert pipeline.one("SELECT sum(recipients) FROM flow_report") == 65
