"""The asset graph, its jobs and its schedules; a snapshot of them, so that every change of the graph shows in review.

`python -m klaviyo_pipeline_tests.orchestration.test_definitions` rewrites the snapshot.
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from klaviyo_pipeline.config.settings import PROJECT_ROOT, Account
from klaviyo_pipeline.orchestration.build import project_defs

SNAPSHOT = Path(__file__).with_name("asset_graph.txt")
ACCOUNT = Account(slug="shop", timezone="America/New_York", start_date=date(2025, 1, 1))
UPDATE = "if the change is meant: python -m klaviyo_pipeline_tests.orchestration.test_definitions"


def snapshot(definitions: dg.Definitions) -> str:
    """The graph as text that a review can read."""
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    lines: list[str] = []
    for key in sorted(graph.get_all_asset_keys(), key=str):
        lines += [*_asset(graph, key), ""]
    lines.append("jobs")
    for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            assets = _listed(key.path[-1] for key in job.asset_layer.executable_asset_keys)
            lines.append(f"  {job.name} ({job.executor_def.name}): {assets or 'no assets'}")
    lines += ["", "schedules, all of them off"]
    for schedule in sorted(repository.schedule_defs, key=lambda schedule: schedule.name):
        reported = f"{schedule.cron_schedule} in {schedule.execution_timezone}"
        lines.append(f"  {schedule.name}: {reported}, {schedule.job_name}")
    lines += ["", "sensors, all of them off", *(f"  {name}" for name in sorted(_sensors(repository)))]
    lines += ["", f"resources: {_listed(repository.get_top_level_resources())}"]
    return "\n".join(lines) + "\n"


def _asset(graph: dg.AssetGraph, key: dg.AssetKey) -> Iterator[str]:
    node = graph.get(key)
    yield key.to_user_string()
    yield f"  group {node.group_name}; kinds {_listed(node.kinds)}; pool {_listed(node.pools or {'none'})}"
    yield f"  deps: {_listed(parent.to_user_string() for parent in node.parent_keys) or 'none'}"
    yield f"  tags: {_listed(f'{name}={value}' for name, value in node.tags.items() if 'kind/' not in name)}"
    yield f"  partitions: {node.partitions_def or 'none'}"
    if node.backfill_policy:
        yield f"  backfill: {node.backfill_policy.policy_type.value}"
    if node.owners:
        yield f"  owners: {_listed(node.owners)}"
    if node.automation_condition:
        yield "  automation: yes"
    if node.check_keys:
        yield f"  checks: {_listed(check.name for check in node.check_keys)}"
    yield "  metadata:"
    for name, value in sorted(node.metadata.items()):
        yield f"    {name}: {_reported(value)}"


def _reported(value: object) -> str:
    if isinstance(value, dg.TableSchema):
        return ", ".join(f"{column.name} {column.type}" for column in value.columns)
    if isinstance(value, dg.TableColumnLineage):
        return f"{len(value.deps_by_column)} columns"
    # The project's folder is not part of the graph.
    return "…" if isinstance(value, dg.CodeReferencesMetadataValue) else str(value)


def _sensors(repository: dg.RepositoryDefinition) -> Iterator[str]:
    for sensor in repository.sensor_defs:
        yield f"{sensor.name} ({sensor.sensor_type.value.lower().replace('_', ' ')})"


def _listed(names: Iterable[str] | Mapping[str, object]) -> str:
    return ", ".join(sorted(names))


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return project_defs([ACCOUNT])


def schedule(definitions: dg.Definitions, name: str) -> dg.ScheduleDefinition:
    return definitions.get_repository_def().get_schedule_def(name)


def request_at(definitions: dg.Definitions, name: str, moment: datetime) -> dg.RunRequest:
    """The run requests of the schedule at that moment."""
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=moment)
        evaluated = schedule(definitions, name).evaluate_tick(context)
    [request] = evaluated.run_requests or []
    return request


def windows_of(request: dg.RunRequest) -> tuple[str, str]:
    tags = request.tags
    return tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"]


def new_york(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York"))


def test_the_asset_graph_is_the_one_that_was_last_agreed_upon(definitions: dg.Definitions) -> None:
    agreed, found = SNAPSHOT.read_text(), snapshot(definitions)
    difference = "\n".join(
        difflib.unified_diff(agreed.splitlines(), found.splitlines(), "agreed", "found", lineterm="")
    )
    assert not difference, f"{difference}\n{UPDATE}"


def test_two_accounts_have_separate_assets() -> None:
    both = project_defs([ACCOUNT, Account(slug="other", sync_window="hourly")])
    repository = both.get_repository_def()
    slugs = {key.path[0] for key in repository.asset_graph.get_all_asset_keys()}
    assert slugs == {"shop", "other"}
    names = {schedule.name for schedule in repository.schedule_defs}
    assert {"shop_entities_daily", "other_entities_hourly"} <= names


def test_the_definitions_contain_no_secret_and_no_address_of_the_database(
    definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_API_KEY", "pk_very_secret")
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", "postgresql://u:very_secret@nowhere.invalid/w")
    reported = repr(project_defs([ACCOUNT]).get_repository_def().get_top_level_resources())
    assert "very_secret" not in reported
    assert "very_secret" not in repr(ACCOUNT)


def test_every_window_of_entities_and_reports_is_a_partition_the_open_one_too(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    now = new_york("2025-03-10T15:00:00")
    for name in ("flows", "flow_report", "flow_metrics"):
        plan = graph.get(dg.AssetKey(["shop", name])).partitions_def
        assert isinstance(plan, dg.TimeWindowPartitionsDefinition)
        keys = plan.get_partition_keys(current_time=now)
        assert (keys[0], keys[-1], len(keys)) == ("2025-01-01", "2025-03-10", 69)


def test_hourly_windows_are_for_entities_only_and_then_no_job_spans_all_assets() -> None:
    hourly = project_defs([Account(slug="shop", sync_window="hourly")])
    graph = hourly.resolve_asset_graph()
    kinds = {
        name: type(graph.get(dg.AssetKey(["shop", name])).partitions_def).__name__ for name in ("flows", "flow_report")
    }
    assert kinds == {"flows": "HourlyPartitionsDefinition", "flow_report": "DailyPartitionsDefinition"}
    assert not hourly.get_repository_def().has_job("shop_all")


def test_everything_that_runs_by_itself_is_off_until_it_is_switched_on(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    assert {schedule.default_status for schedule in repository.schedule_defs} == {dg.DefaultScheduleStatus.STOPPED}
    assert {sensor.default_status for sensor in repository.sensor_defs} <= {dg.DefaultSensorStatus.STOPPED}


@pytest.mark.parametrize("name", ["shop_entities_daily", "shop_reports_daily"])
def test_a_daily_schedule_requests_the_trailing_days_and_the_open_window_as_one_run(
    name: str, definitions: dg.Definitions
) -> None:
    request = request_at(definitions, name, new_york("2025-03-10T00:10:00"))
    assert windows_of(request) == ("2025-03-03", "2025-03-10")
    assert request.partition_key is None


@pytest.mark.parametrize("name", ["entities_daily", "reports_daily", "open_window"])
def test_a_scheduled_run_of_a_few_windows_has_one_process_and_a_backfill_has_several(
    name: str, definitions: dg.Definitions
) -> None:
    request = request_at(definitions, f"shop_{name}", new_york("2025-03-10T00:15:00"))
    job = definitions.resolve_job_def(str(schedule(definitions, f"shop_{name}").job_name))
    chosen = [dg.validate_run_config(job, config)["execution"]["concurrently"] for config in (request.run_config, {})]
    assert [list(executor) for executor in chosen] == [["in_process"], ["multiprocess"]]


@pytest.mark.parametrize("name", ["entities_daily", "reports_daily", "open_window", "census_daily"])
def test_a_scheduled_run_goes_before_a_backfill(name: str, definitions: dg.Definitions) -> None:
    request = request_at(definitions, f"shop_{name}", new_york("2025-03-10T00:15:00"))
    reported = {**(schedule(definitions, f"shop_{name}").tags or {}), **request.tags}
    assert int(reported["dagster/priority"]) > 0


@pytest.mark.parametrize("name", ["census_daily", "checks_daily", "reconcile_weekly"])
def test_a_schedule_of_assets_without_windows_requests_one_run_of_its_job(
    name: str, definitions: dg.Definitions
) -> None:
    request = request_at(definitions, f"shop_{name}", new_york("2025-03-09T03:40:00"))
    assert request.partition_key is None
    assert "dagster/asset_partition_range_start" not in request.tags
    assert schedule(definitions, f"shop_{name}").job_name == f"shop_{name.partition('_')[0]}"


def test_the_days_of_a_schedule_are_in_the_accounts_time_zone(definitions: dg.Definitions) -> None:
    # 23:50 in New York, and the next day in UTC.
    request = request_at(definitions, "shop_entities_daily", new_york("2025-11-02T23:50:00"))
    assert windows_of(request) == ("2025-10-26", "2025-11-02")


def test_a_schedule_does_not_reach_back_before_the_first_window(definitions: dg.Definitions) -> None:
    request = request_at(definitions, "shop_reports_daily", new_york("2025-01-03T00:10:00"))
    assert windows_of(request) == ("2025-01-01", "2025-01-03")


def test_the_schedule_of_reports_covers_the_attribution_window() -> None:
    patient = project_defs([Account(slug="shop", timezone="America/New_York", attribution_days=30)])
    moment = new_york("2025-03-10T00:10:00")
    assert windows_of(request_at(patient, "shop_reports_daily", moment))[0] == "2025-02-08"
    assert windows_of(request_at(patient, "shop_entities_daily", moment))[0] == "2025-03-03"


def test_the_schedule_of_hourly_windows_runs_every_hour() -> None:
    hourly = project_defs([Account(slug="shop", timezone="America/New_York", sync_window="hourly", lookback_days=1)])
    request = request_at(hourly, "shop_entities_hourly", new_york("2025-03-10T05:10:00"))
    assert windows_of(request) == ("2025-03-09-00:00", "2025-03-10-05:00")


def test_the_same_tick_twice_is_one_run(definitions: dg.Definitions) -> None:
    moment = new_york("2025-03-10T00:10:00")
    keys = {request_at(definitions, "shop_entities_daily", moment).run_key for _ in range(2)}
    assert len(keys) == 1
    assert keys != {None}


def test_dagsters_own_commands_find_the_definitions_valid_from_the_projects_root(tmp_path: Path) -> None:
    checked = subprocess.run(
        [str(Path(sys.executable).with_name("dagster")), "definitions", "validate"],
        cwd=PROJECT_ROOT,
        env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr[-2000:]


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(project_defs([ACCOUNT])))
