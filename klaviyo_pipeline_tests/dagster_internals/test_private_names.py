"""Dagster's private names: each exists, works as needed, and is imported only by one package."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageMetadata,
    SqlEventLogStorageTable,
)
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.schedules.schema import JobTickTable, ScheduleStorageSqlMetadata
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.dagster_internals import PRIVATE_NAMES, PrivateName
from klaviyo_pipeline.dagster_internals.asset_source import source_of
from klaviyo_pipeline.dagster_internals.event_log import BatchedEventLogStorage
from klaviyo_pipeline.dagster_internals.run_pruning import FINISHED
from klaviyo_pipeline.dagster_internals.storage_tables import DAGSTER_TABLES

PACKAGE = PROJECT_ROOT / "klaviyo_pipeline"


def private_imports() -> Mapping[str, set[str]]:
    """The private names of Dagster that each folder of the package imports, as module and name."""
    found: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dagster._"):
                folder = file.relative_to(PACKAGE).parts[0]
                found.setdefault(folder, set()).update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_only_one_package_imports_private_names_and_it_lists_each_of_them() -> None:
    listed = {f"{module}.{one.name}" for one in PRIVATE_NAMES for module in one.modules}
    assert private_imports() == {"dagster_internals": listed}


@pytest.mark.parametrize("one", PRIVATE_NAMES, ids=lambda one: one.name)
def test_a_private_name_exists(one: PrivateName) -> None:
    assert one.exists
    assert not hasattr(dg, one.name), f"{one.name} is public now: import it from dagster"
    assert one.reason
    assert one.sign


@pytest.mark.parametrize("kind", [DagsterPostgresStorage, LocalArtifactStorage, LocalComputeLogManager])
def test_the_storage_classes_are_created_from_their_configuration(kind: type[Any]) -> None:
    assert "inst_data" in inspect.signature(kind).parameters
    assert list(inspect.signature(kind.from_config_value).parameters) == ["inst_data", "config_value"]
    assert ConfigurableClassData("module", "Class", "{}").class_name == "Class"


@pytest.mark.skipif(not BatchedEventLogStorage.stores_batches, reason="this Dagster has no methods to store a batch")
def test_the_event_log_stores_a_batch_by_the_methods_that_are_called() -> None:
    methods = {
        name: inspect.signature(getattr(PostgresEventLogStorage, name)).parameters
        for name in ("store_event_batch", "_event_to_row", "_store_asset_event_tags", "_store_asset_event")
    }
    assert {name: len(parameters) for name, parameters in methods.items()} == {
        "store_event_batch": 2,
        "_event_to_row": 2,
        "_store_asset_event_tags": 4,
        "_store_asset_event": 4,
    }


def test_the_tables_have_the_columns_that_the_code_reads() -> None:
    assert {"id", "run_id", "asset_key", "partition", "dagster_event_type"} <= set(SqlEventLogStorageTable.c.keys())
    assert {
        "id",
        "run_id",
        "asset_key",
        "check_name",
        "partition",
        "execution_status",
        "evaluation_event",
        "evaluation_event_timestamp",
        "evaluation_event_storage_id",
        "materialization_event_storage_id",
    } <= set(AssetCheckExecutionsTable.c.keys())
    assert "event_id" in AssetEventTagsTable.c
    assert {"id", "timestamp", "status", "selector_id", "job_origin_id"} <= set(JobTickTable.c.keys())


def test_the_list_of_dagsters_tables_has_all_that_it_makes() -> None:
    made = (SqlEventLogStorageMetadata, RunStorageSqlMetadata, ScheduleStorageSqlMetadata)
    assert {name for metadata in made for name in metadata.tables} == DAGSTER_TABLES


def test_every_run_status_is_either_finished_or_unfinished() -> None:
    going_on = {"QUEUED", "NOT_STARTED", "MANAGED", "SUSPENDED", "STARTING", "STARTED", "CANCELING"}
    # Dagster 1.11 has no SUSPENDED.
    assert {status.name for status in dg.DagsterRunStatus} - {status.name for status in FINISHED} <= going_on


def test_definitions_get_the_name_that_the_repository_of_many_accounts_has() -> None:
    assert dg.Definitions().get_repository_def().name == SINGLETON_REPOSITORY_NAME == "__repository__"


def test_an_asset_job_is_of_the_type_that_annotations_name() -> None:
    assert isinstance(dg.define_asset_job("job"), UnresolvedAssetJobDefinition)


def test_the_source_of_an_assets_function_is_found() -> None:
    @dg.asset
    def made() -> None: ...

    assert source_of(made).file_path == __file__


def test_a_launcher_reports_the_health_of_a_worker() -> None:
    assert CheckRunHealthResult(WorkerStatus.FAILED, "why").msg == "why"
    assert {"RUNNING", "FAILED", "SUCCESS"} <= set(WorkerStatus.__members__)


def test_logs_are_captured_by_a_context_of_their_key() -> None:
    assert CapturedLogContext(["key"]).log_key == ["key"]
    assert ComputeIOType.STDERR.value == "stderr"


def test_a_run_is_passed_on_by_its_origin_and_id() -> None:
    assert {"job_origin", "run_id", "instance_ref", "set_exit_code_on_failure"} <= set(
        inspect.signature(ExecuteRunArgs.__new__).parameters
    )
