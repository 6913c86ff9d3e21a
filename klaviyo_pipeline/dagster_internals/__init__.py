"""The only room that may import Dagster's private names, `dagster._…`: a rule of the linter keeps it so.

`PRIVATE_NAMES` lists each, with the reason and the sign by which you notice that a new release of Dagster broke it.
`klaviyo_pipeline_tests/dagster_internals/test_private_names.py` asserts each of them.

Three methods of Dagster's classes are private too, and are overridden or called: `_event_to_row`,
`_store_asset_event_tags` and `_store_asset_event` of its event log, by `event_log`.
"""

from typing import NamedTuple


class PrivateName(NamedTuple):
    """A private name of Dagster's: the module, the name, why it is needed, and the sign that it broke."""

    module: str
    name: str
    reason: str
    sign: str


_SCHEMA = "dagster._core.storage.event_log.schema"
_STORAGE_CLASSES = "dagster.yaml names subclasses that find their own places; Dagster makes them from their config."
_NOT_LOADED = "No command starts: Dagster cannot load the instance from dagster.yaml."
_WHAT_TO_PRUNE = "Pruning keeps the latest event of each window, which no public call does."
_PRUNE_FAILS = "`klaviyo-pipeline prune` fails, or the UI forgets windows after it."
_TABLE_NAMES = "`status --disk` adds up the tables that Dagster makes."
_HEALTH = "A launcher tells run monitoring whether a worker still has a run."

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
        "A sync from the command line captures no output: capturing costs four processes a run.",
        "A sync from the command line starts processes that capture its output, or fails.",
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
        "The event log stores the events of many windows in one statement; pruning deletes from it.",
        "A run over many windows fails while it plans, or takes as long as one statement for each window.",
    ),
    PrivateName(_SCHEMA, "AssetCheckExecutionsTable", _WHAT_TO_PRUNE, _PRUNE_FAILS),
    PrivateName(_SCHEMA, "AssetEventTagsTable", _WHAT_TO_PRUNE, _PRUNE_FAILS),
    PrivateName("dagster._core.storage.schedules.schema", "JobTickTable", _WHAT_TO_PRUNE, _PRUNE_FAILS),
    PrivateName("dagster._core.scheduler.instigation", "TickStatus", _WHAT_TO_PRUNE, _PRUNE_FAILS),
    PrivateName("dagster._core.events", "PIPELINE_EVENTS", _WHAT_TO_PRUNE, _PRUNE_FAILS),
    PrivateName(_SCHEMA, "SqlEventLogStorageMetadata", _TABLE_NAMES, "`status --disk` lacks Dagster's events."),
    PrivateName(
        "dagster._core.storage.runs.schema",
        "RunStorageSqlMetadata",
        _TABLE_NAMES,
        "`status --disk` lacks Dagster's runs.",
    ),
    PrivateName(
        "dagster._core.storage.schedules.schema",
        "ScheduleStorageSqlMetadata",
        _TABLE_NAMES,
        "`status --disk` lacks Dagster's schedules.",
    ),
    PrivateName(
        "dagster._core.definitions.repository_definition",
        "SINGLETON_REPOSITORY_NAME",
        "The repository of many accounts has the name that `dg.Definitions` would give it.",
        "Schedules and runs of an installation with several accounts no longer find their repository.",
    ),
    PrivateName(
        "dagster._core.definitions.unresolved_asset_job_definition",
        "UnresolvedAssetJobDefinition",
        "`dg.define_asset_job` returns it: the type of a job in annotations.",
        "mypy fails.",
    ),
    PrivateName(
        "dagster._core.definitions.decorators.op_decorator",
        "DecoratedOpFunction",
        "Finds where an asset's function stands without parsing its file, which Dagster's own way does for each asset.",
        "Definitions do not load: the assertion in `asset_source` fails.",
    ),
    PrivateName("dagster._core.launcher", "CheckRunHealthResult", _HEALTH, "Runs of a dead worker stay started."),
    PrivateName("dagster._core.launcher", "WorkerStatus", _HEALTH, "Runs of a dead worker stay started."),
    PrivateName(
        "dagster._core.execution.stats",
        "StepEventStatus",
        "A run whose process died after its last step is marked as succeeded.",
        "Such a run fails, and cannot be started again.",
    ),
    PrivateName(
        "dagster._grpc.types", "ExecuteRunArgs", "A Celery task hands a run to `dagster api`.", "Celery tasks fail."
    ),
    PrivateName(
        "dagster._serdes", "unpack_value", "A Celery task reads what the launcher packed.", "Celery tasks fail."
    ),
)
