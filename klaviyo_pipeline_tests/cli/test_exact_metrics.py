"""`metrics --exact`: Klaviyo's own values for exactly these days, the stored answer, and the daily quota."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from klaviyo_pipeline.catalog import EXACT_METRICS
from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.klaviyo.reports import VALUES, body
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.orchestration.assets.test_period_reports import NAMES, set_day, values
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, environment, key_of, pipeline_on, put, utc

pytestmark = pytest.mark.slow

DAYS = ("--from", "2025-03-03", "--to", "2025-03-19")
Metrics = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> SandboxAccount:
    generated: dict[str, Any] = {"flows": 8, "timezone": "America/New_York", **getattr(request, "param", {})}
    shop = generate_account(5, **{"campaigns": 0, "forms": 0, "segments": 0, **generated})
    shop.api_keys = empty_shop().api_keys
    shop.clock = lambda: utc("2025-11-12T16:00:00")
    return shop


@pytest.fixture
def pipeline(migrated: str, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(migrated, shop, monkeypatch, start_date=date(2025, 3, 1)) as pipeline:
        yield pipeline


@pytest.fixture
def metrics(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Metrics:
    """Runs the command in this process; returns its exit code and its output."""

    def run(*arguments: str, **changed: str) -> tuple[int, str, str]:
        variables = environment(pipeline.shop, pipeline.server.url, pipeline.database, tmp_path)
        for name, value in {**variables, **changed}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(["metrics", *arguments, "--format", "json"])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    return run


def reports(pipeline: Pipeline) -> int:
    """How many values reports of flows were requested so far."""
    return pipeline.server.count("query_flow_values")


def test_exact_metrics_are_klaviyos_and_are_requested_once(pipeline: Pipeline, metrics: Metrics) -> None:
    pipeline.run("flow_report", "2025-03-01", "2025-03-31")
    pipeline.run("flow_metrics", "2025-03-01", "2025-03-31")
    before = reports(pipeline)
    weighted = json.loads(metrics(*DAYS)[1])
    code, out, err = metrics(*DAYS, "--exact")
    used = "Used in the last 24 hours: 1 of 225 requests."
    assert (code, err) == (0, f"Sent 1 request to the flow values report. {used}\n")
    exact = json.loads(out)
    assert exact[0].keys() == weighted[0].keys()
    assert {row["uniques"] for row in weighted} == {"weighted"}
    assert {row["uniques"] for row in exact} == {"exact"}
    truth = {flow: row for flow, row in values(pipeline, date(2025, 3, 3), date(2025, 3, 19)).items() if any(row)}
    assert {row["flow_id"]: tuple(row[name] for name in NAMES) for row in exact} == {
        flow: pytest.approx(tuple(map(float, row))) for flow, row in truth.items()
    }
    for row in exact:
        assert row["open_rate"] == pytest.approx(row["opens_unique"] / row["delivered"])
    by_flow = {row["flow_id"]: row for row in weighted}
    assert all(row["delivered"] == by_flow[row["flow_id"]]["delivered"] for row in exact)
    assert sum(row["open_rate"] for row in exact) < sum(row["open_rate"] for row in weighted)
    assert all(row["flow_name"] for row in exact)

    code, again, err = metrics(*DAYS, "--exact")
    assert (code, again) == (0, out)
    assert err.startswith("Used Klaviyo's stored answer of ")
    # One for the command, one for this test.
    assert reports(pipeline) - before == 2
    assert json.loads(metrics(*DAYS)[1]) == exact


def test_an_answer_that_may_still_change_is_requested_again_after_an_hour(
    pipeline: Pipeline, metrics: Metrics, shop: SandboxAccount
) -> None:
    pipeline.shop.clock = lambda: datetime.now(UTC)
    today = pipeline.account.today(datetime.now(UTC))
    put(shop, "flows", "F1", utc("2025-01-01T12:00:00"), name="Welcome", status="live")
    recent = (
        "--from",
        str(today - timedelta(days=3)),
        "--to",
        str(today - timedelta(days=1)),
        "--flow",
        "F1",
        "--exact",
    )

    def opened() -> tuple[int, str]:
        code, out, err = metrics(*recent)
        assert code == 0
        return json.loads(out)[0]["opens"], err

    set_day(shop, str(today - timedelta(days=2)), recipients=100, delivered=100, opens=10, opens_unique=10)
    opens, err = opened()
    assert (opens, reports(pipeline)) == (10, 1)
    assert "warning: These values may change until " in err
    set_day(shop, str(today - timedelta(days=2)), recipients=100, delivered=100, opens=30, opens_unique=30)
    assert (opened()[0], reports(pipeline)) == (10, 1)
    pipeline.execute("UPDATE exact_answers SET asked_at = asked_at - interval '61 minutes'")
    assert (opened()[0], reports(pipeline)) == (30, 2)
    assert pipeline.rows("SELECT count(*) FROM exact_answers") == [1]


def test_statistics_that_klaviyo_refuses_are_null_and_are_requested_again_the_next_day(
    pipeline: Pipeline, metrics: Metrics, shop: SandboxAccount
) -> None:
    shop.refused_statistics = {"flow": {"conversion_value"}}
    code, out, err = metrics(*DAYS, "--exact")
    assert code == 0
    assert {(row["conversion_value"], row["revenue_per_recipient"]) for row in json.loads(out)} == {(None, None)}
    assert all(row["delivered"] > 0 for row in json.loads(out))
    assert "Klaviyo rejects conversion_value" in err
    shop.refused_statistics = {}
    assert metrics(*DAYS, "--exact")[1] == out
    for table in ("exact_answers SET asked_at = asked_at", "conversion_refusals SET refused_at = refused_at"):
        pipeline.execute(f"UPDATE {table} - interval '21 hours'")
    assert all(row["conversion_value"] is not None for row in json.loads(metrics(*DAYS, "--exact")[1]))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"KLAVIYO_RATE_SCALE": "1"}, "Klaviyo's quota is used up until "),
        ({"KLAVIYO_TIMEZONE": "UTC"}, "KLAVIYO_TIMEZONE is UTC, but the account's own time zone is America/New_York"),
    ],
)
def test_a_spent_quota_or_a_wrong_zone_is_one_line_without_a_request(
    changed: dict[str, str], reason: str, pipeline: Pipeline, metrics: Metrics
) -> None:
    pipeline.execute(
        "INSERT INTO api_pacing (endpoint, slots) SELECT 'query_flow_values', "
        "array_agg(now() - interval '2 hours' + place * interval '1 second') FROM generate_series(1, 225) AS place"
    )
    code, out, err = metrics(*DAYS, "--exact", **changed)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert reason in err
    assert (reports(pipeline), pipeline.rows("SELECT count(*) FROM exact_answers")) == (0, [0])


def test_more_days_than_a_report_allows_are_a_usage_error(metrics: Metrics) -> None:
    code, _, err = metrics("--from", "2024-01-01", "--to", "2025-01-01", "--exact")
    assert (code, "--exact allows at most 365 days" in err) == (2, True)


@pytest.mark.parametrize(
    ("shop", "entity", "days"),
    [
        # Both changes of the clocks.
        ({"campaigns": 60, "timezone": "America/Santiago"}, "campaigns", (date(2025, 3, 20), date(2025, 9, 20))),
        ({"forms": 30, "timezone": "Australia/Lord_Howe"}, "forms", (date(2025, 3, 30), date(2025, 10, 10))),
    ],
    indirect=["shop"],
)
def test_campaigns_and_forms_have_exact_metrics_too(
    entity: str, days: tuple[date, date], pipeline: Pipeline, metrics: Metrics
) -> None:
    exact, report = EXACT_METRICS[entity], VALUES[entity]
    range_of_days = ("--from", str(days[0]), "--to", str(days[1]), "--exact", f"--{entity}")
    code, out, err = metrics(*range_of_days)
    used = "Used in the last 24 hours: 1 of 225 requests."
    assert (code, err) == (0, f"Sent 1 request to the {report.name} report. {used}\n")
    assert metrics(*range_of_days)[:2] == (0, out)
    assert pipeline.server.count(report.endpoint.name) == 1

    answer = httpx.post(
        f"{pipeline.server.url}{report.path}",
        json=body(report, *days, "RPlacd"),
        headers={"Authorization": f"Klaviyo-API-Key {key_of(pipeline.shop)}", "revision": "2026-10-15"},
    )
    names = (*report.by_use.sums, *report.by_use.uniques)
    truth: dict[str, Counter[str]] = defaultdict(Counter)
    for result in answer.raise_for_status().json()["data"]["attributes"]["results"]:
        truth[result["groupings"][exact.metrics.key]].update({name: result["statistics"][name] for name in names})
    found = {row[exact.metrics.key]: row for row in json.loads(out)}
    assert found.keys() == {id for id, sums in truth.items() if any(sums.values())} != set()
    for id, row in found.items():
        assert {name: row[name] for name in names} == pytest.approx(truth[id])
        assert row[exact.metrics.key.replace("_id", "_name")]
    rate, dividend, divisor = {
        "campaigns": ("open_rate", "opens_unique", "delivered"),
        "forms": ("submit_rate", "submits", "viewed_form"),
    }[entity]
    assert all(row[rate] == pytest.approx(row[dividend] / row[divisor]) for row in found.values() if row[divisor])


def test_exact_metrics_of_campaigns_have_a_quota_of_their_own(pipeline: Pipeline, metrics: Metrics) -> None:
    pipeline.execute(
        "INSERT INTO api_pacing (endpoint, slots) SELECT 'query_campaign_values', "
        "array_agg(now() - interval '2 hours' + place * interval '1 second') FROM generate_series(1, 225) AS place"
    )
    code, out, err = metrics(*DAYS, "--exact", "--campaigns", KLAVIYO_RATE_SCALE="1")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "Klaviyo's quota is used up until " in err
    assert metrics(*DAYS, "--exact", "--forms", KLAVIYO_RATE_SCALE="1")[0] == 0


def test_an_exact_answer_of_another_metric_is_not_used(pipeline: Pipeline, metrics: Metrics) -> None:
    for expected, setting in enumerate(("RPlacd", "RPlacd,RChkot", "RChkot,RPlacd"), start=1):
        assert metrics(*DAYS, "--exact", KLAVIYO_CONVERSION_METRIC_ID=setting)[0] == 0
        assert reports(pipeline) == max(1, expected - 1)
    first = pipeline.rows("SELECT conversion_metric_id FROM exact_answers")
    assert first == ["RChkot"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--campaigns",), "--campaigns needs --exact"),
        (("--exact", "--forms", "--flow", "F1"), "--flow cannot be used with --forms"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(
    arguments: tuple[str, ...], reason: str, metrics: Metrics
) -> None:
    code, _, err = metrics(*DAYS, *arguments)
    assert (code, reason in err) == (2, True)
