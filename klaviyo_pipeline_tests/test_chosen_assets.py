"""`KLAVIYO_ASSETS`: which assets an account has, and that nothing else is defined, expected or reported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from klaviyo_pipeline.catalog import ASSETS, OFF_BY_DEFAULT, switched_on
from klaviyo_pipeline.cli.status_command import read_status
from klaviyo_pipeline.config.settings import Account, Settings, SettingsError
from klaviyo_pipeline.diagnosis.scopes import scope_checks
from klaviyo_pipeline.orchestration.build import build_defs, project_defs
from klaviyo_pipeline.orchestration.sensors import never_synced_assets
from klaviyo_pipeline.postgres.account_binding import record_assets
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, pipeline_on, utc

FEW = ("flows", "flow_report", "flow_metrics")


@pytest.fixture
def pipeline(migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(migrated, empty_shop(), monkeypatch, assets=FEW) as pipeline:
        yield pipeline


@pytest.mark.parametrize(
    ("named", "on"),
    [
        (("default",), {*ASSETS} - OFF_BY_DEFAULT),
        (("default", *OFF_BY_DEFAULT), {*ASSETS}),
        (("flows", "flow_report"), {"flows", "flows_census", "flow_report"}),
        (("flows_census",), {"flows_census"}),
        (("tags",), {"tags"}),
    ],
)
def test_the_names_stand_for_assets_and_an_entity_includes_its_census(named: tuple[str, ...], on: set[str]) -> None:
    assert switched_on(named) == on


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        (("flows", "flow"), "KLAVIYO_ASSETS: there is no asset 'flow'; choose from default, flows, "),
        ((), "KLAVIYO_ASSETS names no asset"),
        (("flow_metrics",), "KLAVIYO_ASSETS: flow_metrics is computed from flow_report, so add flow_report too."),
    ],
)
def test_names_that_cannot_be_used_are_refused_with_the_setting(named: tuple[str, ...], reason: str) -> None:
    with pytest.raises(SettingsError) as refused:
        switched_on(named)
    assert reason in str(refused.value)


def test_only_assets_that_are_on_are_defined_with_their_checks_jobs_and_schedules() -> None:
    repository = project_defs([Account(slug="shop", assets=FEW)]).get_repository_def()
    graph = repository.asset_graph
    assets = {key.path[-1] for key in graph.get_all_asset_keys()}
    assert assets == {*FEW, "flows_census", "performance_report"}
    assert {key.asset_key.path[-1] for key in graph.asset_check_keys} == {*FEW, "flows_census"}
    for job in repository.get_all_jobs():
        assert {key.path[-1] for key in job.asset_layer.executable_asset_keys} <= assets
    assert "shop_tags_daily" not in {schedule.name for schedule in repository.schedule_defs}


def test_an_account_with_a_single_asset_without_checks_has_definitions() -> None:
    repository = project_defs([Account(slug="shop", assets=("tags",))]).get_repository_def()
    assert {schedule.name for schedule in repository.schedule_defs} == {"shop_tags_daily", "shop_prune_weekly"}
    assert {sensor.name for sensor in repository.sensor_defs} >= {"shop_stale_data", "failed_runs"}


def test_a_report_whose_entity_is_off_stands_alone() -> None:
    graph = build_defs([Account(slug="shop", assets=("flow_report",))]).resolve_asset_graph()
    assert {key.path[-1] for key in graph.get_all_asset_keys()} == {"flow_report"}


def test_the_doctor_checks_the_scopes_of_the_assets_that_are_on() -> None:
    assert scope_checks(Account(assets=FEW)) == ["scope accounts:read", "scope flows:read", "scope metrics:read"]


@pytest.mark.slow
def test_after_a_run_the_views_the_status_and_the_sensor_leave_out_what_is_off(pipeline: Pipeline) -> None:
    pipeline.run("flows", "2025-02-01")
    engine = create_engine(pipeline.database)
    settings = Settings(pipeline.account, pipeline.database)
    assert pipeline.rows("SELECT entity FROM sync_status") == list(FEW)
    assert set(pipeline.rows("SELECT DISTINCT entity FROM expected_windows")) == {*FEW}
    assert [row["entity"] for row in read_status(settings)] == list(FEW)
    with engine.begin() as connection:
        assert never_synced_assets(connection, pipeline.account, utc("2025-03-01T12:00:00")) == list(FEW[1:])
        # Switched off by the settings, and the views do not know yet.
        fewer = Settings(Account(**{**vars(pipeline.account), "assets": ("flows",)}), pipeline.database)
        assert [row["entity"] for row in read_status(fewer)] == ["flows"]
        assert never_synced_assets(connection, fewer.account, utc("2025-03-01T12:00:00")) == []
        record_assets(connection, fewer.account)
    engine.dispose()
    assert pipeline.rows("SELECT entity FROM sync_status") == ["flows"]
