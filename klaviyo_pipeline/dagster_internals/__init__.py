"""The only package that may import Dagster's private names (`dagster._…`). A lint rule enforces this.

`PRIVATE_NAMES` lists each name, why it is needed, and how you notice that a new release of Dagster broke it.
`klaviyo_pipeline_tests/dagster_internals/test_private_names.py` has an assertion for each name.

`event_log` also calls three private methods of Dagster's event log: `_event_to_row`, `_store_asset_event_tags` and
`_store_asset_event`. With Dagster 1.11, which lacks the last two, events are stored one by one.
"""

from contextlib import suppress
from importlib import import_module
from typing import NamedTuple


class PrivateName(NamedTuple):
    """A private name of Dagster: its module, the name, why it is needed, and the sign that it broke.

    `earlier_module` is the module of the name in older supported releases, if the name has moved since.
    """

    module: str
    name: str
    reason: str
    sign: str
    earlier_module: str = ""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that may contain the name. The module of the newest release comes first."""
        return (self.module, self.earlier_module) if self.earlier_module else (self.module,)

    @property
    def exists(self) -> bool:
        """Whether the installed Dagster has the name."""
        for module in self.modules:
            with suppress(ModuleNotFoundError):
                return hasattr(import_module(module), self.name)
        return False


_SCHEMA = "dagster._core.storage.event_log.schema"
_STORAGE_CLASSES = "dagster.yaml names classes of this project, which Dagster creates from its configuration."
_NOT_LOADED = "No command starts: Dagster cannot load the instance from dagster.yaml."
_WHAT_TO_PRUNE = "Pruning keeps the latest event of each window. No public call does that."
_PRUNE_FAILS = "`klaviyo-pipeline prune` fails, or windows have no status in the UI after a pruning."
_PARTITIONS_DIFFER = (
    "After a failed run, the UI shows synced windows as failed, or `sync` warns that partitions were not compared."
)
_OUTSIDE_OF_RUNS = "Marks events that belong to no run."
_READABLE = "In the UI, the event of a failed or cancelled step begins with a plain sentence."
_STACKS = "In the UI, the event of a failed or cancelled run begins with a stack trace."
_HEALTH = "The Celery launcher tells run monitoring whether a worker still executes a run."

PRIVATE_NAMES = (
    PrivateName("dagster._config.config_schema", "UserConfigSchema", "Annotates `config_type`.", "mypy fails."),
    PrivateName("dagster._serdes", "ConfigurableClassData", _STORAGE_CLASSES, _NOT_LOADED),
    PrivateName("dagster._core.storage.root", "LocalArtifactStorage", _STORAGE_CLASSES, _NOT_LOADED),
    PrivateName(
        "dagster._core.storage.local_compute_log_manager", "LocalComputeLogManager", _STORAGE_CLASSES, _NOT_LOADED
    ),
    PrivateName(
        "dagster._core.storage.compute_log_manager",
        "CapturedLogContext",
        "A sync from the command line does not capture output, because capturing takes four processes per run.",
        "A sync from the command line fails, or starts processes that capture its output.",
    ),
    PrivateName(
        "dagster._core.storage.compute_log_manager",
        "ComputeIOType",
        "Counts the logs that pruning deletes.",
        _PRUNE_FAILS,
    ),
    PrivateName(
        _SCHEMA,
        "SqlEventLogStorageTable",
        "The event log stores the events of many windows in one statement, and pruning deletes events.",
        "A run over many windows fails during planning, or stores each window's events in separate statements.",
    ),
    PrivateName(
        _SCHEMA, "AssetKeyTable", "Wiping single partitions clears the cached state of the asset.", _PARTITIONS_DIFFER
    ),
    PrivateName(
        _SCHEMA,
        "AssetCheckExecutionsTable",
        f"{_WHAT_TO_PRUNE} `check` stores the results of all checks in one statement.",
        f"{_PRUNE_FAILS} Or `check` stores each result in separate statements, and says why on standard error.",
    ),
    PrivateName(
        "dagster._core.events",
        "DagsterEventBatchMetadata",
        "`check` passes the results of all checks to the event log as one batch.",
        "`check` fails.",
    ),
    PrivateName(
        "dagster._core.definitions.asset_checks.asset_check_evaluation",
        "AssetCheckEvaluationTargetMaterializationData",
        "`check` tells Dagster which materialization each check examined.",
        "`check` fails.",
        earlier_module="dagster._core.definitions.asset_check_evaluation",
    ),
    PrivateName(_SCHEMA, "AssetEventTagsTable", _WHAT_TO_PRUNE, _PRUNE_FAILS),
    PrivateName("dagster._core.storage.schedules.schema", "JobTickTable", _WHAT_TO_PRUNE, _PRUNE_FAILS),
    PrivateName("dagster._core.scheduler.instigation", "TickStatus", _WHAT_TO_PRUNE, _PRUNE_FAILS),
    PrivateName("dagster._core.events", "PIPELINE_EVENTS", _WHAT_TO_PRUNE, _PRUNE_FAILS),
    PrivateName(
        "dagster._core.definitions.repository_definition",
        "SINGLETON_REPOSITORY_NAME",
        "The repository of many accounts has the name that `dg.Definitions` gives to its repository.",
        "Schedules and runs of an installation with several accounts no longer find their repository.",
    ),
    PrivateName(
        "dagster._core.definitions.unresolved_asset_job_definition",
        "UnresolvedAssetJobDefinition",
        "Annotates jobs: `dg.define_asset_job` returns this type.",
        "mypy fails.",
    ),
    PrivateName(
        "dagster._core.definitions.decorators.op_decorator",
        "DecoratedOpFunction",
        "Finds the source line of an asset's function. Dagster's own function parses the file for each asset.",
        "Definitions do not load: the assertion in `asset_source` fails.",
    ),
    PrivateName(
        "dagster._core.storage.partition_status_cache",
        "get_and_update_asset_status_cache_value",
        "Reads the states of all partitions as the UI does. The public call takes seconds for years of hourly windows.",
        _PARTITIONS_DIFFER,
    ),
    PrivateName(
        "dagster._core.loader",
        "LoadingContextForTest",
        "Caches the records of all assets that are compared with the ledger, so that one query reads them.",
        _PARTITIONS_DIFFER,
    ),
    PrivateName(
        "dagster._core.storage.event_log.base",
        "AssetRecord",
        "Reads the records of all assets that are compared with the ledger in one query.",
        _PARTITIONS_DIFFER,
    ),
    PrivateName(
        "dagster._core.events",
        "StepMaterializationData",
        "Reports synced windows as materialized, many at once. The public call stores them one by one.",
        _PARTITIONS_DIFFER,
    ),
    PrivateName(
        "dagster._core.definitions.reconstruct",
        "ReconstructableJob",
        "Only a reconstructable job can run its steps in separate processes.",
        "A run of several assets in code, without a code location, fails.",
    ),
    PrivateName("dagster._core.execution.plan.objects", "StepFailureData", _READABLE, _STACKS),
    PrivateName("dagster._core.events", "JobFailureData", _READABLE, _STACKS),
    PrivateName("dagster._core.events", "JobCanceledData", _READABLE, _STACKS),
    PrivateName("dagster._core.instance", "RUNLESS_RUN_ID", _OUTSIDE_OF_RUNS, _PARTITIONS_DIFFER),
    PrivateName("dagster._core.instance", "RUNLESS_JOB_NAME", _OUTSIDE_OF_RUNS, _PARTITIONS_DIFFER),
    PrivateName("dagster._core.launcher", "CheckRunHealthResult", _HEALTH, "Runs of a dead worker never fail."),
    PrivateName("dagster._core.launcher", "WorkerStatus", _HEALTH, "Runs of a dead worker never fail."),
    PrivateName(
        "dagster._core.execution.stats",
        "StepEventStatus",
        "A run whose process died after its last step had succeeded is marked as succeeded.",
        "That run is marked as failed, and Dagster refuses to retry it.",
    ),
    PrivateName(
        "dagster._grpc.types", "ExecuteRunArgs", "A Celery task passes a run to `dagster api`.", "Celery tasks fail."
    ),
    PrivateName(
        "dagster._serdes", "unpack_value", "A Celery task unpacks the launcher's arguments.", "Celery tasks fail."
    ),
)
