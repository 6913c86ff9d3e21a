"""Remedies of checks, followed to the letter: each repairs what it names, and the data is as before."""

from __future__ import annotations

import re
from datetime import date

import pytest
from click.testing import CliRunner

from klaviyo_pipeline.cli.main import cli
from klaviyo_pipeline.orchestration.checks.build_checks import check_context, database_checks
from klaviyo_pipeline.orchestration.checks.check import CheckOutcome
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline_tests.support import Pipeline, run_sync

pytestmark = pytest.mark.slow

OF_THE_REPORT = "UPDATE sync_windows SET conversion_metric_id = 'M2' WHERE entity = 'flow_report'"
OF_THE_METRICS = "DELETE FROM sync_windows WHERE entity = 'flow_metrics' AND window_start::date = '2025-03-10'"
BROKEN = (
    ("flow_metrics", "metrics_match_report", "TRUNCATE flow_report"),
    ("flow_metrics", "metrics_match_report", "UPDATE flow_report SET recipients = 99"),
    ("flow_report", "conversions_are_of_one_metric", OF_THE_REPORT),
    ("flow_metrics", "windows_have_no_gaps", OF_THE_METRICS),
    ("flows", "rows_match_ledger", "TRUNCATE flows, flows_superseded CASCADE"),
    ("flows", "columns_match_raw", "UPDATE flows SET name = 'by hand'"),
    ("metrics", "columns_match_raw", "UPDATE metrics SET name = 'by hand'"),
    ("flow_report", "values_are_in_one_currency", "UPDATE sync_windows SET account_currency = 'SEK'"),
    ("flow_report", "timezone_matches_account", "UPDATE sync_windows SET account_timezone = 'Asia/Tokyo'"),
    ("flow_report", "uniques_are_within_counts", "UPDATE flow_report SET opens_unique = 99"),
    ("flow_metrics", "rates_within_bounds", "UPDATE flow_metrics SET delivered = 99"),
    ("flows_census", "census_is_fresh", "DELETE FROM census_runs WHERE entity = 'flows'"),
)
"""An asset, a check of it that finds what is wrong, and how it went wrong."""

DATA = (
    "SELECT date, recipients, delivered FROM flow_report ORDER BY date",
    "SELECT date, recipients, delivered, flow_name FROM flow_metrics ORDER BY date",
    "SELECT id, name, updated_at, raw FROM flows",
)


@pytest.mark.timeout(400)
def test_the_command_in_the_message_of_a_check_repairs_what_the_check_found(
    installed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"flow_id": "f", "flow_message_id": "M", "send_channel": "email"}
    for day in (9, 10):
        installed.shop.set_figures("flow", keys, date(2025, 3, day), {"recipients": 10, "delivered": 9})
    for asset in ("flows", "flow_report", "flow_metrics"):
        installed.run(asset, "2025-03-08", "2025-03-12")
    installed.run("flows_census")
    installed.run("metrics")
    before = [installed.rows(query) for query in DATA]
    for asset, check, statement in BROKEN:
        installed.execute(statement)
        follow(installed, asset, check)
        assert [installed.rows(query) for query in DATA] == before, (check, statement)
    # Days before a start date that was set to a later one are not requested without an earlier one.
    start_on(installed, "2025-03-10", monkeypatch)
    installed.execute("UPDATE sync_windows SET account_currency = 'SEK'")
    found = outcome(installed, "flow_report", "values_are_in_one_currency").found
    start_on(installed, re.findall(r"Set KLAVIYO_START_DATE=(\S+),", found)[0], monkeypatch)
    follow(installed, "flow_report", "values_are_in_one_currency")
    assert [installed.rows(query) for query in DATA] == before


@pytest.mark.parametrize(
    ("headers", "remedy"),
    [
        ({}, "Klaviyo's rate limit is exceeded: Request was throttled. Another tool may be using the account's quota"),
        ({"ratelimit-remaining-daily": "0", "ratelimit-reset-daily": "40000"}, "Klaviyo's quota is used up until 20"),
    ],
)
def test_after_429_that_does_not_stop_a_later_sync_requests_what_is_left(
    headers: dict[str, str], remedy: str, installed: Pipeline
) -> None:
    days = (date(2025, 3, 8), date(2025, 3, 12))
    request = SyncRequest(["flows", "flow_report", "flow_metrics"], *days)
    refused = path_starts("/api/flow-series-reports")
    installed.server.faults.add(refused, Fault(status=429, headers=headers), times=1000)
    flows, report, metrics = run_sync(installed.account, request)
    assert (flows.error, metrics.error) == (None, None)
    assert str(report.error).startswith(remedy)
    assert "Run again" in str(report.error)
    failed = "SELECT entity, status, windows_failed FROM sync_status WHERE windows_failed > 0"
    assert installed.rows(failed) == [("flow_report", "failed", 5)]
    installed.server.faults.clear()
    if headers:
        with installed.requested() as early:
            assert str(run_sync(installed.account, request)[1].error).startswith(remedy)
        assert not any("report" in one.path for one in early)
        installed.execute("UPDATE api_pacing SET blocked_until = now()")
    with installed.requested() as requests:
        assert [result.error for result in run_sync(installed.account, request)] == [None] * 3
    assert sum("flow-series" in one.path for one in requests) == 1
    assert installed.rows(failed) == []


def follow(pipeline: Pipeline, asset: str, check: str) -> None:
    """Run the commands in the message of a check that finds something. It must pass then."""
    found = outcome(pipeline, asset, check)
    assert found.outcome != "passed", (asset, check)
    commands = re.findall(r"`klaviyo-pipeline ([^`]*)`", found.found)
    assert commands, found.found
    for command in commands:
        ended = CliRunner().invoke(cli, command.split())
        assert ended.exit_code == 0, (command, ended.output)
    assert outcome(pipeline, asset, check).outcome == "passed", (check, commands)


def start_on(pipeline: Pipeline, day: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAVIYO_START_DATE", day)
    pipeline.configure(start_date=date.fromisoformat(day))


def outcome(pipeline: Pipeline, asset: str, name: str) -> CheckOutcome:
    """The outcome of one check of one asset."""
    [check] = [check for check in database_checks(pipeline.account)[asset] if check.name == name]
    engine = create_engine(pipeline.database)
    try:
        with check_context(engine, pipeline.account, asset) as ctx:
            return check.examine(ctx)
    finally:
        engine.dispose()
