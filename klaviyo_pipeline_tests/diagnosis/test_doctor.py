"""`klaviyo-pipeline doctor`: each fault is one line with a remedy. It writes nothing and prints no secret."""

from __future__ import annotations

import json

import pytest

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.diagnosis.findings import Secrets
from klaviyo_pipeline_tests.diagnosis.installation import Set, checks_not_ok, diagnose, query_rows

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("installation")]


@pytest.mark.usefixtures("synced")
def test_all_is_green_on_a_synced_account() -> None:
    findings = diagnose()
    assert {finding.verdict for finding in findings.values()} == {"ok"}
    assert all(finding.remedy is None for finding in findings.values())
    assert "SHOP01" in findings["account in schema"].found


def test_before_the_first_sync_only_the_migrations_are_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    findings = diagnose()
    assert checks_not_ok() == {"migrations"}
    assert findings["migrations"].verdict == "warning"
    assert "klaviyo-pipeline migrate" in str(findings["migrations"].remedy)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 0
    assert "001_functions.sql" in capsys.readouterr().out


def test_the_checks_leave_a_new_database_empty_and_create_none_for_dagster(database: str) -> None:
    before = query_rows(database, "SELECT count(*) FROM pg_class")
    diagnose()
    assert query_rows(database, "SELECT count(*) FROM pg_class") == before
    assert query_rows(database, "SELECT 1 FROM pg_database WHERE datname = current_database() || '_dagster'") == []


def test_the_checks_write_nothing_into_a_synced_schema(synced: str) -> None:
    before = query_rows(synced, "SELECT xmin::text, verified_at FROM shop.account")
    diagnose()
    assert query_rows(synced, "SELECT xmin::text, verified_at FROM shop.account") == before
    assert query_rows(synced, "SELECT * FROM shop.api_pacing") == []


def test_an_invalid_setting_is_one_failed_line(setting: Set, capsys: pytest.CaptureFixture[str]) -> None:
    setting(KLAVIYO_START_DATE="soon")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--format", "json"])
    assert ended.value.code == 1
    reported = json.loads(capsys.readouterr().out)
    assert [(line["check"], line["verdict"]) for line in reported] == [
        ("settings", "failed"),
        ("all other checks", "skipped"),
    ]
    assert "KLAVIYO_START_DATE='soon'" in reported[0]["found"]


@pytest.mark.usefixtures("synced")
def test_json_contains_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--format", "json"])
    assert ended.value.code == 0
    reported = json.loads(capsys.readouterr().out)
    assert [line["check"] for line in reported] == list(diagnose())
    assert all(line.keys() == {"check", "verdict", "found", "remedy"} for line in reported)


def test_errors_are_reported_on_one_line_without_secrets() -> None:
    known = Secrets.of({"KLAVIYO_API_KEY": "pk_1", "KLAVIYO_DATABASE_URL": "postgresql://me:a%40b@host/db"})
    assert known.one_line(ValueError("key pk_1,\npassword a@b or a%40b\x1b[31m")) == "key ***, password *** or ***�[31m"
    assert "pk_1" not in repr(known)
