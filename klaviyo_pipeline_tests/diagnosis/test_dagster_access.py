"""What `doctor` finds about Dagster's instance and its storage."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dagster import DagsterInstance

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.dagster_internals import storage
from klaviyo_pipeline_tests.diagnosis.installation import Set, diagnose, query_rows
from klaviyo_pipeline_tests.pooler import MISSING, PROGRAM, transaction_pooler

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("installation")]


def test_a_role_that_cannot_create_dagsters_storage_fails_with_the_setting(guest: str) -> None:
    finding = diagnose()["Dagster instance"]
    assert finding.verdict == "failed"
    assert "KLAVIYO_DAGSTER_DATABASE_URL" in str(finding.remedy)


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_a_pooler_in_transaction_mode_before_dagsters_storage_is_a_warning(
    synced: str, server_folder: Path, setting: Set
) -> None:
    with transaction_pooler(synced, server_folder, pool_size=1) as pooled:
        setting(KLAVIYO_DAGSTER_DATABASE_URL=pooled)
        finding = diagnose()["Dagster instance"]
    remedy = "set KLAVIYO_DAGSTER_DATABASE_URL to the URL of the server itself"
    assert (finding.verdict, finding.remedy) == ("warning", remedy)
    assert "a pooler in transaction mode" in finding.found
    setting(KLAVIYO_DAGSTER_DATABASE_URL=synced)
    assert diagnose()["Dagster instance"].verdict == "ok"


def test_a_custom_dagster_home_is_opened_and_its_storage_is_named(setting: Set, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    setting(DAGSTER_HOME=str(tmp_path))
    finding = diagnose()["Dagster instance"]
    assert finding.verdict == "ok"
    assert "SqliteRunStorage" in finding.found
    assert str(tmp_path) in finding.found


def test_the_projects_instance_is_opened_only_after_it_was_created(setting: Set, database: str) -> None:
    # An empty DAGSTER_HOME counts as not set. The fixture restores the value after the test.
    setting(KLAVIYO_DAGSTER_DATABASE_URL=database, DAGSTER_HOME="")
    assert "the first run creates them" in diagnose()["Dagster instance"].found
    assert query_rows(database, "SELECT to_regclass('runs')") == [(None,)]
    storage.use_project_instance()
    with DagsterInstance.get():
        pass
    found = diagnose()["Dagster instance"].found
    assert "ProjectRunStorage" in found
    assert "0 runs" in found
    assert str(urlsplit(database).password) not in found


def test_a_database_that_is_read_only_has_one_remedy_also_with_a_dagster_home_of_your_own(
    setting: Set, synced: str, tmp_path: Path
) -> None:
    (tmp_path / "dagster.yaml").write_text((PROJECT_ROOT / "dagster.yaml").read_text())
    read_only = f"{synced}?options=-cdefault_transaction_read_only%3Don"
    setting(DAGSTER_HOME=str(tmp_path), KLAVIYO_DAGSTER_DATABASE_URL=read_only)
    finding = diagnose()["Dagster instance"]
    assert (finding.verdict, finding.remedy) == ("failed", None)
    assert "is read-only for role" in finding.found
    assert "set KLAVIYO_DAGSTER_DATABASE_URL to another database" in finding.found


def test_an_invalid_dagster_configuration_fails(setting: Set, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("storage: nonsense\n")
    setting(DAGSTER_HOME=str(tmp_path))
    assert diagnose()["Dagster instance"].verdict == "failed"
