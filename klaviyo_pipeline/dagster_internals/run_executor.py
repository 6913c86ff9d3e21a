"""The executor of runs, which uses one process for the whole run or one process for each step.

Dagster's implicit job over all assets runs the assets that you materialize by hand, from one asset to the whole graph.
If at most one of them reads from Klaviyo, the run uses one process, which starts ten times faster. Otherwise several
processes read from Klaviyo concurrently: first the entities, then the reports, then the metrics. These processes are
forked from a server that has loaded the definitions once.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob

from klaviyo_pipeline.catalog import METRICS

AT_ONCE = 6
"""The largest number of processes of one run: for four daily reports, `conversions_daily`, and a check. More processes
would only wait for Klaviyo's rate limits."""

PRELOADED = [
    "klaviyo_pipeline.dagster_internals.orphaned_steps",
    "klaviyo_pipeline.definitions",
    "klaviyo_pipeline.orchestration.step_preload",
]

IN_PROCESSES: dict[str, Any] = {
    "max_concurrent": AT_ONCE,
    # Each step would load these modules itself if they were not loaded before the fork. That takes a second of
    # processor time.
    "start_method": {"forkserver": {"preload_modules": PRELOADED}},
}
"""The configuration of Dagster's multiprocess executor."""


@dg.executor(name="by_number_of_assets")
def executor_by_assets(init_context: dg.InitExecutorContext) -> dg.Executor:
    """Executes a run in this process if at most one asset reads from Klaviyo, else each step in its own process."""
    layer = init_context.job.get_definition().asset_layer
    # Another process can only load definitions from a code location, and cannot use an instance in memory.
    in_processes = isinstance(init_context.job, ReconstructableJob) and not init_context.instance.is_ephemeral
    reading = [key for key in layer.executable_asset_keys if key.path[-1] not in METRICS]
    several = in_processes and len(reading) > 1
    chosen = dg.multiprocess_executor if several else dg.in_process_executor
    create = chosen.executor_creation_fn
    assert create is not None
    return create(
        dg.InitExecutorContext(
            job=init_context.job,
            executor_def=chosen,
            executor_config={"retries": {"enabled": {}}, **(IN_PROCESSES if several else {})},
            instance=init_context.instance,
        )
    )
