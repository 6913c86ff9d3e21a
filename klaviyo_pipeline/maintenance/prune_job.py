"""The job that does what `klaviyo-pipeline prune` does, for the UI and a schedule."""

from collections.abc import Mapping

import dagster as dg

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.postgres.warehouse import Warehouse


def prune_job(account: Account, tags: Mapping[str, str], resource_key: str) -> dg.JobDefinition:
    """The job `<slug>_prune`. `resource_key` is the key of the resource that has the account's warehouse."""

    @dg.op(
        name=f"{account.slug}_prune_step",
        required_resource_keys={resource_key},
        description=f"Delete logs and operational records older than {counted(account.retention_days, 'day')}.",
    )
    def step(context: dg.OpExecutionContext) -> None:
        # `prune` is imported in the run, because it needs the extra `ui`. The job is also loaded without this extra.
        from klaviyo_pipeline.maintenance.prune import prune

        warehouse: Warehouse = getattr(context.resources, resource_key).warehouse
        with warehouse.engine(account.slug) as engine:
            pruned = prune(account, engine, context.instance, context.log.info, days=account.retention_days)
        context.add_output_metadata(dict(pruned.counts()))

    @dg.job(
        name=f"{account.slug}_prune",
        description=(
            f"Delete the logs of runs that ended more than {counted(account.retention_days, 'day')} ago, and old "
            "operational records. Data, history, the ledger and the UI's view of each window are kept."
        ),
        tags=tags,
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        step()

    return job
