"""`klaviyo-pipeline check`: one line for each check, and the exit code."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterInstance

from klaviyo_pipeline.cli.check_command import checks_summary
from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.orchestration.checks.build_checks import database_checks
from klaviyo_pipeline.orchestration.checks.check import Outcome
from klaviyo_pipeline.sync.account_sync import Sync
from klaviyo_pipeline.sync.asset_runs import AssetResult
from klaviyo_pipeline.sync.check_runs import Checked
from klaviyo_pipeline_tests.orchestration.checks.conftest import FIRST, Stored
from klaviyo_pipeline_tests.support import SLUG

pytestmark = pytest.mark.slow

UNTIL_TODAY = """
DELETE FROM sync_windows WHERE entity IN (SELECT entity FROM assets WHERE period <> 'day');
UPDATE sync_windows SET
    rows_fetched = 0,
    window_start = window_start + (current_date - date '2025-04-11') * interval '1 day',
    window_end = window_end + (current_date - date '2025-04-11') * interval '1 day'
"""
"""Moves the ledger, without the rows of its windows, so that its last window ended at the last midnight. Weeks and
months cannot move by some days, so they count as never synced."""


@pytest.fixture(autouse=True)
def environment(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    # In memory: with a file, each of several hundred events would be synced to disk.
    monkeypatch.setattr(DagsterInstance, "get", DagsterInstance.ephemeral)
    url = stored.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", url)
    monkeypatch.setenv("KLAVIYO_ACCOUNT", SLUG)
    monkeypatch.setenv("KLAVIYO_START_DATE", FIRST.isoformat())


@pytest.fixture
def sync_result(monkeypatch: pytest.MonkeyPatch) -> AssetResult:
    """The only result of a sync, which requests nothing."""
    result = AssetResult("flows")
    monkeypatch.setenv("KLAVIYO_API_KEY", "pk_key")
    monkeypatch.setattr("klaviyo_pipeline.cli.sync_command.start_importing", lambda request: None)
    monkeypatch.setattr(Sync, "run", lambda *_: [result])
    return result


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_fresh_account_without_errors_exits_with_code_0(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    stored.run(UNTIL_TODAY)
    assert code_of("--format", "json") == 0
    results = json.loads(capsys.readouterr().out)
    declared = {(a, check.name) for a, checks in database_checks(Account(slug=SLUG)).items() for check in checks}
    assert {(result["asset"], result["check"]) for result in results} == declared
    assert {result["outcome"] for result in results} <= {"passed", "warning"}


def test_an_error_exits_with_code_1_and_prints_a_line_with_the_remedy(
    stored: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    stored.run(UNTIL_TODAY)
    stored.run("UPDATE flow_metrics SET recipients = 1 WHERE flow_id = 'F2' AND date = '2025-03-05'")
    stored.run("UPDATE account SET currency = 'EUR'")
    assert code_of() == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "✘ flow_report values_are_in_one_currency" in output
    assert "--force" in output
    assert "✔ forms history_is_unbroken" in output


def test_a_schema_that_is_not_migrated_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KLAVIYO_ACCOUNT", "other")
    assert code_of() == 1
    assert "klaviyo-pipeline migrate" in capsys.readouterr().err


def test_checks_against_the_api_need_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("--api") == 1
    assert "KLAVIYO_API_KEY is not set" in capsys.readouterr().err


def test_a_check_that_cannot_run_leaves_the_results_of_the_other_assets(
    stored: Stored, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.run(UNTIL_TODAY)
    stored.run("ALTER TABLE forms_superseded RENAME TO gone")
    stored.run("DROP VIEW forms_history CASCADE")
    stored.run("CREATE VIEW forms_history AS SELECT 1 / (count(*) - count(*)) AS id FROM forms")
    with DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(DagsterInstance, "get", lambda: nullcontext(instance))
        assert code_of() == 1
        assert "forms: " in capsys.readouterr().err
        [run] = instance.get_runs()
        recorded = instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
        steps = instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_START)
    assert len(steps) == 1
    evaluated = {entry.get_dagster_event().asset_check_evaluation_data.asset_key.path[-1] for entry in recorded}
    assert evaluated == {*database_checks(Account(slug=SLUG))}
    forms = len(database_checks(Account(slug=SLUG))["forms"])
    every = sum(len(checks) for checks in database_checks(Account(slug=SLUG)).values())
    assert every - forms < len(recorded) < every


def test_the_demo_sums_up_the_results_on_one_line() -> None:
    results = [Checked("flows", f"check {number}", "passed", "") for number in range(3)]
    assert checks_summary(results) == "Checks: 3 passed."
    others: tuple[Outcome, ...] = ("warning", "warning", "error")
    results += [Checked("flows", "other", outcome, "") for outcome in others]
    assert checks_summary(results) == "Checks: 3 passed, 2 warnings, 1 error."


def test_the_first_whole_sync_runs_the_checks_so_that_the_ui_has_results(
    stored: Stored, sync_result: AssetResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.run(UNTIL_TODAY)
    sync_result.error = "broken"

    def lines(*arguments: str) -> list[str]:
        with pytest.raises(SystemExit):
            main(["sync", *arguments])
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("Checks: ")]

    with DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(DagsterInstance, "get", lambda: nullcontext(instance))
        assert lines() == []
        sync_result.error = None
        assert lines("flows") == lines("--from", FIRST.isoformat()) == []
        [line] = lines()
        assert "passed" in line
        assert line.endswith("`klaviyo-pipeline check` repeats them and prints each result.")
        assert lines() == []
        [run] = instance.get_runs()
        assert run.job_name == f"{SLUG}_checks"


@pytest.mark.usefixtures("sync_result")
def test_checks_that_cannot_run_do_not_fail_the_first_sync(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    stored.run("DROP VIEW forms_history CASCADE")
    with pytest.raises(SystemExit) as ended:
        main(["sync"])
    assert ended.value.code == 0
    assert "warning: the checks did not run: " in capsys.readouterr().out
