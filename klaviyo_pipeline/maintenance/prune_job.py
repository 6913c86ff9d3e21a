"""The job that prunes, for the UI and its schedule."""

from collections.abc import Mapping

import dagster as dg

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.maintenance.prune import prune
from klaviyo_pipeline.postgres.warehouse import Warehouse


def prune_job(account: Account, tags: Mapping[str, str]) -> dg.JobDefinition:
    """A job of one step, `<slug>_prune`: what `klaviyo-pipeline prune` does."""

    @dg.op(
        name=f"{account.slug}_prune_step",
        description=f"Remove what is older than {account.retention_days} days and nothing needs.",
    )
    def step(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
        with warehouse.engine(account.slug) as engine:
            pruned = prune(account, engine, context.instance, context.log.info, days=account.retention_days)
        context.add_output_metadata(dict(pruned.counts()))

    @dg.job(
        name=f"{account.slug}_prune",
        description=(
            f"Remove logs of runs that ended {account.retention_days} days ago or earlier, and finished bookkeeping. "
            "Data, history, the ledger and what the UI shows of each window stay."
        ),
        tags=tags,
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        step()

    return job
