"""In how many processes a run executes its steps."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob

from klaviyo_pipeline.dagster_internals import run_executor
from klaviyo_pipeline_tests.support import SLUG, Pipeline


@pytest.mark.parametrize(
    ("assets", "executor"),
    [
        (["flows"], "InProcessExecutor"),
        (["flow_report", "flow_metrics"], "InProcessExecutor"),
        (["flows", "campaigns"], "MultiprocessExecutor"),
        (["flows", "flow_report", "flow_metrics"], "MultiprocessExecutor"),
    ],
)
def test_only_a_run_that_reads_several_assets_uses_several_processes(
    assets: list[str], executor: str, installed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = installed.definitions.resolve_implicit_global_asset_job_def()
    job = InMemoryJob(whole.get_subset(asset_selection={dg.AssetKey([SLUG, asset]) for asset in assets}))

    def chosen() -> str:
        create = whole.executor_def.executor_creation_fn
        assert create is not None
        context = dg.InitExecutorContext(
            job=job, executor_def=whole.executor_def, executor_config={}, instance=installed.instance
        )
        return type(create(context)).__name__

    assert chosen() == "InProcessExecutor", "a job in code cannot be loaded in another process"
    monkeypatch.setattr(run_executor, "ReconstructableJob", InMemoryJob)
    assert chosen() == executor
