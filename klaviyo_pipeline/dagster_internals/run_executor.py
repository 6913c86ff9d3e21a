"""The executor of runs: one process for a run that reads one asset from Klaviyo, else a process for each step.

Dagster's implicit job over all assets runs the assets that you materialize by hand, from one asset to the whole graph.
One process starts ten times faster, and several read from Klaviyo at the same time: the entities side by side, then the
reports, then the metrics. The processes are forked from a server that has loaded the definitions once.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob

from klaviyo_pipeline.catalog import METRICS

AT_ONCE = 6
"""The most processes of one run: four daily reports, `conversions_daily`, and a check. Further ones would only wait for
Klaviyo's rate limits."""

PRELOADED = [
    "klaviyo_pipeline.dagster_internals.orphaned_steps",
    "klaviyo_pipeline.definitions",
    "klaviyo_pipeline.orchestration.step_preload",
]

IN_PROCESSES: dict[str, Any] = {
    "max_concurrent": AT_ONCE,
    # Each step loads again what is not loaded before the fork. That takes a second of processor time.
    "start_method": {"forkserver": {"preload_modules": PRELOADED}},
}
"""The configuration of Dagster's multiprocess executor."""


@dg.executor(name="by_number_of_assets")
def executor_by_assets(init_context: dg.InitExecutorContext) -> dg.Executor:
    """In this process if at most one asset reads from Klaviyo, else in a process for each step."""
    layer = init_context.job.get_definition().asset_layer
    # Another process can only load definitions of a code location, and only use a shared instance.
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
