"""A run that continues a failed one requests only the windows that the failed one did not commit.

Dagster continues a run whose process died, as often as `run_retries` allows, and a run that you re-execute "from
failure". The new run plans all windows of the range again, and the UI shows them as materializing until an event says
otherwise.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.dagster_internals.partition_states import report_synced
from klaviyo_pipeline.orchestration.resources.account_resources import AccountAccess
from klaviyo_pipeline.postgres.ledger import Ledger, of_metric
from klaviyo_pipeline.postgres.write.io_manager import report_partitions
from klaviyo_pipeline.windows import Window, WindowPlan

CONTINUES = ("dagster/is_resume_retry", "dagster/is_asset_resume_retry")
"""Tags of a run that continues a failed one. A run by "Re-execute all" has neither, and requests every window again."""

PARENT = "dagster/parent_run_id"


def windows_left(
    context: dg.AssetExecutionContext,
    access: AccountAccess,
    account: Account,
    asset: str,
    plan: WindowPlan,
    metric_ids: Sequence[str | None] = (None,),
) -> list[Window]:
    """The windows that this run requests: a contiguous range of at least one window.

    If the run continues earlier attempts, the windows that they committed are removed from both ends of the range and
    reported as materialized at once. A window counts as committed only if it is committed for all `metric_ids`, where
    None stands for the first conversion metric.
    """
    windows = plan.of_run(context)
    attempts = list(_earlier_attempts(context))
    if not attempts:
        return windows
    ledger = Ledger(account.slug, asset)
    names = [asset if metric_id is None else of_metric(asset, metric_id) for metric_id in metric_ids]
    with access.warehouse.engine(account.slug) as engine, engine.connect() as connection:
        committed = [Ledger(account.slug, name).committed_by(connection, attempts) for name in names]
        done = set.intersection(*committed)
        # If all windows were committed, the last one is requested again: a run needs at least one window.
        wanted = [place for place, window in enumerate(windows) if window.start not in done] or [len(windows) - 1]
        left = windows[wanted[0] : wanted[-1] + 1]
        others = ledger.synced(connection, [*windows[: wanted[0]], *windows[wanted[-1] + 1 :]])
    if others:
        report_synced(context.instance, context.asset_key, others)
        for synced in others:
            report_partitions(context)(synced)
        context.log.info(f"{counted(len(others), 'window')} committed by an earlier attempt, not requested again")
    return left


def _earlier_attempts(context: dg.AssetExecutionContext) -> Iterator[str]:
    """The ids of the runs that this run continues, directly or through other attempts."""
    run: dg.DagsterRun | None = context.run
    while run is not None and any(run.tags.get(tag) == "true" for tag in CONTINUES) and PARENT in run.tags:
        yield run.tags[PARENT]
        run = context.instance.get_run_by_id(run.tags[PARENT])
