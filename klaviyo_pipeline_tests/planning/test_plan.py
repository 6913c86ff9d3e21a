"""The plan: the requests that a sync would send, compared with those that it sends."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from klaviyo_pipeline.catalog import (
    ASSETS,
    ENDPOINTS,
    FIGURES,
    METRICS,
    OFF_BY_DEFAULT,
    has_conversion_metric,
    switched_on,
)
from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.pacing import LocalPacer
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.planning.durations import format_duration, pace, whole_sync
from klaviyo_pipeline.planning.estimates import Estimator
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.planning.quota import daily_limit
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline_tests.support import SLUG, START, Pipeline, empty_shop, pipeline_on, put, utc

pytestmark = pytest.mark.slow

ENTITIES = ("flows", "campaigns", "forms", "segments")
MARCH = ("2025-03-01", "2025-03-31")

Planned = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account and no key."""
    monkeypatch.setenv("KLAVIYO_ACCOUNT", SLUG)
    monkeypatch.setenv("KLAVIYO_START_DATE", START.isoformat())


@pytest.fixture
def warehouse(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty database, in which the schema is not migrated yet."""
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", database)
    return database


@pytest.fixture
def pipeline(migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(migrated, empty_shop(), monkeypatch) as pipeline:
        monkeypatch.setenv("KLAVIYO_API_URL", pipeline.server.url)
        yield pipeline


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]) -> Planned:
    """The plan for these arguments as JSON, with the assets by name."""

    def plan(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["plan", *arguments, "--format", "json"])
        output = capsys.readouterr()
        assert ended.value.code == 0, output.err
        document: dict[str, Any] = json.loads(output.out)
        return {**document, "assets": {one["asset"]: one for one in document["assets"]}}

    return plan


def between(first: str, last: str) -> tuple[str, ...]:
    return "--from", first, "--to", last


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str]:
    """Exit code and the one line of a plan that cannot be made."""
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    [line] = capsys.readouterr().err.splitlines()
    return ended.value.code, line


def test_before_the_first_migration_everything_is_missing_and_nothing_is_created(
    planned: Planned, warehouse: str
) -> None:
    plan = planned(*between("2025-02-01", "2025-12-31"))
    assert plan["migrated"] is False
    flows = plan["assets"]["flows"]
    assert (flows["windows"], flows["already_there"], flows["to_request"], flows["ranges"]) == (334, 0, 334, 1)
    # Two chunks for two, three and one listings. Segments have no upper bound: a chunk of seven queries, and one more.
    requested = {name: plan["assets"][name]["requests"] for name in ENTITIES}
    assert requested == {"flows": 4, "campaigns": 6, "forms": 2, "segments": 8}
    assert {plan["assets"][name]["basis"] for name in (*ENTITIES, "flows_census")} == {"at least"}
    report = plan["assets"]["flow_report"]
    assert (report["requests"], report["basis"], report["endpoint"]) == (6, "exact", "query_flow_series")
    metrics = plan["assets"]["flow_metrics"]
    assert (metrics["to_request"], metrics["requests"], metrics["endpoint"]) == (334, 0, None)
    with psycopg.connect(warehouse) as connection:
        assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [SLUG]).fetchall() == []


def test_the_plan_of_an_empty_schema_says_that_it_is_not_migrated(
    warehouse: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "flows", *between(*MARCH)])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert "not migrated" in output
    assert "at least 2" in output


def test_a_plan_needs_no_key_and_sends_no_request(
    pipeline: Pipeline, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KLAVIYO_API_KEY")
    plan = planned()
    assert plan["migrated"] is True
    assert pipeline.server.requests == []


def test_windows_of_the_ledger_are_not_requested_again(pipeline: Pipeline, planned: Planned) -> None:
    pipeline.run("flows", *MARCH)
    flows = planned("flows", *between("2025-02-01", "2025-04-30"))["assets"]["flows"]
    assert (flows["windows"], flows["already_there"], flows["to_request"], flows["ranges"]) == (89, 31, 58, 2)


def test_a_small_gap_is_planned_as_one_run(pipeline: Pipeline, planned: Planned) -> None:
    pipeline.run("flows", "2025-03-10", "2025-03-12")
    flows = planned("flows", *between(*MARCH))["assets"]["flows"]
    assert (flows["already_there"], flows["to_request"], flows["ranges"]) == (3, 31, 1)


def test_nothing_is_planned_if_all_windows_are_done_unless_forced(pipeline: Pipeline, planned: Planned) -> None:
    pipeline.run("flows", *MARCH)
    plan = planned("flows", *between(*MARCH))
    assert (plan["assets"]["flows"]["to_request"], plan["requests"], plan["seconds"]) == (0, 0, 0)
    forced = planned("flows", "--force", *between(*MARCH))["assets"]["flows"]
    assert (forced["already_there"], forced["to_request"], forced["requests"]) == (31, 31, 2)


@pytest.mark.parametrize("entity", ENTITIES)
def test_the_estimate_of_a_synced_account_equals_the_requests_of_a_forced_sync(
    entity: str, migrated: str, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = generate_account(11, flows=110, campaigns=300, forms=120, segments=25, timezone="UTC")
    shop.api_keys = empty_shop().api_keys
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        pipeline.run(f"{entity}_census")
        chunk = ("2025-02-01", "2025-12-31")
        plan = planned(entity, f"{entity}_census", "--force", *between(*chunk))["assets"]
        with pipeline.requested() as requests:
            pipeline.run(entity, *chunk)
        assert plan[entity]["requests"] == about(listings_in(requests, entity), entity)
        assert plan[entity]["basis"] == "estimate"
        with pipeline.requested() as requests:
            pipeline.run(f"{entity}_census")
        census = plan[f"{entity}_census"]
        assert census["requests"] == about(listings_in(requests, entity), entity)
        assert census["basis"] == "estimate"


def about(requests: int, entity: str) -> Any:
    """The messages of each page of campaigns are read together, so their pages may be less full."""
    assert requests > 1
    return pytest.approx(requests, abs=1 if entity == "campaigns" else 0)


def listings_in(requests: list[Any], entity: str) -> int:
    endpoints = {f"get_{entity}", *(["get_campaign_messages"] if entity == "campaigns" else [])}
    return sum(1 for entry in requests if entry.endpoint in endpoints)


@pytest.mark.parametrize("report", ["flow_report", "campaign_report", "form_report", "segment_report"])
def test_the_requests_of_a_report_are_known_exactly(report: str, pipeline: Pipeline, planned: Planned) -> None:
    chunk = ("2025-02-01", "2025-05-31")
    plan = planned(report, *between(*chunk))["assets"][report]
    with pipeline.requested() as requests:
        pipeline.run(report, *chunk)
    assert plan["requests"] == sum(1 for entry in requests if entry.endpoint == plan["endpoint"])
    assert plan["basis"] == "exact"


def test_days_before_the_first_day_of_the_segment_report_need_no_request(
    planned: Planned, warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_START_DATE", "2022-01-01")
    plan = planned("segment_report", *between("2022-01-01", "2022-12-31"))
    assert plan["assets"]["segment_report"]["requests"] == 0


def test_the_estimate_is_a_minimum_if_some_windows_were_never_requested(pipeline: Pipeline, planned: Planned) -> None:
    put(pipeline.shop, "flows", "one", utc("2025-03-10T12:00:00"))
    pipeline.run("flows", *MARCH)
    known = planned("flows", "--force", *between(*MARCH))["assets"]["flows"]
    unknown = planned("flows", "--force", *between("2025-03-01", "2025-04-30"))["assets"]["flows"]
    assert (known["basis"], unknown["basis"]) == ("estimate", "at least")


def test_metrics_are_planned_after_the_report_that_they_sum_up(pipeline: Pipeline, planned: Planned) -> None:
    pipeline.run("flow_report", *MARCH)
    pipeline.run("flow_metrics", *MARCH)
    metrics = planned("flow_metrics", *between(*MARCH))["assets"]["flow_metrics"]
    assert (metrics["already_there"], metrics["to_request"]) == (31, 0)
    longer = between("2025-03-01", "2025-04-30")
    assert planned("flow_metrics", *longer)["assets"]["flow_metrics"]["to_request"] == 0
    assert planned("flow_report", "flow_metrics", *longer)["assets"]["flow_metrics"]["to_request"] == 30


def test_windows_requested_with_another_conversion_metric_count_as_missing(
    pipeline: Pipeline, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run("flow_report", *MARCH)
    assert planned("flow_report", *between(*MARCH))["assets"]["flow_report"]["to_request"] == 0
    monkeypatch.setenv("KLAVIYO_CONVERSION_METRIC_ID", "Other1")
    report = planned("flow_report", *between(*MARCH))["assets"]["flow_report"]
    assert (report["already_there"], report["to_request"]) == (0, 31)


def test_each_further_conversion_metric_costs_the_requests_of_the_report_again(
    pipeline: Pipeline, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = between("2025-02-01", "2025-12-31")
    one = planned("flow_report", *days)["assets"]["flow_report"]
    monkeypatch.setenv("KLAVIYO_CONVERSION_METRIC_ID", "RPlacd,RChkot")
    two = planned("flow_report", *days)["assets"]["flow_report"]
    assert (one["requests"], two["requests"], two["to_request"]) == (6, 12, one["to_request"])
    pipeline.configure(conversion_metric_id="RPlacd")
    pipeline.run("flow_report", "2025-02-01", "2025-12-31")
    added = planned("flow_report", *days)["assets"]["flow_report"]
    assert (added["requests"], added["already_there"]) == (6, 0)


@pytest.mark.parametrize(
    ("optional", "metrics", "most"), [(False, 0, 27), (False, 2, 54), (True, 0, 46), (True, 4, 184)]
)
def test_three_years_of_a_new_account_name_the_requests_of_every_asset_within_a_days_quota(
    optional: bool, metrics: int, most: int
) -> None:
    ids = tuple("ABCD"[:metrics])
    names = ("default", *sorted(OFF_BY_DEFAULT)) if optional else ("default",)
    account = Account(start_date=date(2022, 11, 28), conversion_metric_id=ids, assets=names)
    now = datetime(2025, 11, 27, 20, tzinfo=UTC)
    assets = [asset for asset in ASSETS if asset in switched_on(account.assets)]
    by_asset = {asset: ids for asset in FIGURES if ids and has_conversion_metric(asset)}
    request = SyncRequest(assets, account.start_date, now.date())
    requests: Counter[str] = Counter()
    for estimate in Estimator(account, now, None, by_asset).estimates(request):
        assert (estimate.requests > 0) == (estimate.asset not in METRICS)
        if estimate.endpoint is not None:
            requests[estimate.endpoint] += estimate.requests
    limited = {name: count for name, count in requests.items() if daily_limit(ENDPOINTS[name])}
    assert max(limited.values()) == limited["query_flow_series"] == most < 225


def test_tags_are_planned_as_the_pages_of_their_listing(pipeline: Pipeline, planned: Planned) -> None:
    pipeline.shop.tags = {f"T{number:02}": f"tag {number}" for number in range(60)}
    assert planned("tags")["assets"]["tags"]["basis"] == "at least"
    pipeline.run("tags")
    tags = planned("tags")["assets"]["tags"]
    with pipeline.requested() as requests:
        pipeline.run("tags")
    listings = [one for one in requests if one.endpoint != "get_accounts"]
    assert (tags["requests"], tags["basis"], tags["endpoint"]) == (len(listings), "estimate", "get_tags")
    assert planned()["assets"]["tags"]["requests"] == 0


def test_a_census_is_planned_when_the_last_one_is_old_or_when_it_is_named(pipeline: Pipeline, planned: Planned) -> None:
    assert planned()["assets"]["forms_census"]["ranges"] == 1
    pipeline.run("forms_census")
    assert planned()["assets"]["forms_census"]["ranges"] == 0
    assert planned("census")["assets"]["forms_census"]["ranges"] == 1


def test_requests_of_the_last_day_count_towards_the_quota(pipeline: Pipeline, planned: Planned) -> None:
    pipeline.connection.execute(
        """
        INSERT INTO api_pacing (endpoint, slots)
        SELECT 'query_flow_series', array_agg(clock_timestamp() - hours * interval '1 hour')
        FROM (SELECT 30 AS hours UNION ALL SELECT 1 FROM generate_series(1, 221)) AS asked
        """
    )
    [quota] = planned("flow_report", *between("2025-02-01", "2025-12-31"))["report_quotas"]
    assert quota == {
        "endpoint": "query_flow_series",
        "per_day": 225,
        "spent": 221,
        "wanted": 6,
        "share": pytest.approx(6 / 225),
        "days": 2,
    }


class StandingClock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    "endpoint", [rates.GET_FLOWS, rates.GET_CAMPAIGNS, rates.GET_SEGMENTS, rates.QUERY_FLOW_SERIES]
)
def test_the_estimated_time_equals_the_time_of_the_pacing(endpoint: Endpoint, scale: float) -> None:
    clock = StandingClock()
    pacer = LocalPacer(scale, clock, longest_wait=timedelta(days=30).total_seconds())
    for requests in range(1, 500):
        sent = pacer.reserve(endpoint).wait
        # Slots of one moment are a microsecond apart.
        assert pace(endpoint, requests, scale) == pytest.approx(sent, abs=0.01), requests


def test_without_pacing_the_rates_take_no_time() -> None:
    assert pace(rates.QUERY_FLOW_SERIES, 1000, 0) == 0


def test_entities_run_concurrently_and_reports_after_them() -> None:
    requested = {"get_flows": 61, "get_campaigns": 151, "query_flow_series": 3, "query_form_series": 1}
    flows, reports = pace(rates.GET_FLOWS, 61, 1), pace(rates.QUERY_FLOW_SERIES, 3, 1)
    assert whole_sync(requested, 1) == pytest.approx(flows + reports)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3600, "60 min"), (7200, "2 h"), (86_400 * 3, "3 days")],
)
def test_a_duration_is_formatted_in_a_fitting_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "2024-12-31"), "KLAVIYO_START_DATE"),
        (("--from", "2025-05-02", "--to", "2025-05-01"), "is after"),
        (("--from", "2999-01-01"), "in the future"),
        (("--from", "soon"), "is not a valid date"),
        (("profiles",), "unknown asset 'profiles'"),
    ],
)
def test_wrong_usage_is_refused_in_the_same_way_as_by_a_sync(
    arguments: tuple[str, ...], message: str, warehouse: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = fails(capsys, *arguments)
    assert code == 2
    assert message in line


def test_without_a_database_there_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", "postgresql://me:hush-hush@127.0.0.1:1/db")
    code, line = fails(capsys)
    assert code == 1
    assert line.startswith("Error: cannot connect to Postgres at 127.0.0.1:1/db")
    assert "hush" not in line


def test_windows_that_a_sync_would_refuse_are_not_planned(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run("flows", *MARCH)
    monkeypatch.setenv("KLAVIYO_TIMEZONE", "Asia/Tokyo")
    code, line = fails(capsys)
    assert code == 1
    assert "reset-windows" in line


@pytest.mark.parametrize(
    ("scale", "time"),
    [
        ("1", "10 requests, 2 min or more at the published rates\n"),
        ("0.5", "10 requests, 4 min or more at the published rates times 0.5\n"),
        ("0", "10 requests; pacing is off\n"),
    ],
)
def test_the_text_of_a_plan_has_requests_time_and_quota(
    scale: str, time: str, pipeline: Pipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_RATE_SCALE", scale)
    with pytest.raises(SystemExit):
        main(["plan", "flows", "flow_report", *between("2025-02-01", "2025-12-31")])
    output = capsys.readouterr().out
    assert f"at least {time}" in output
    assert "6 of 225 (2.7%)" in output
    assert "not migrated" not in output
