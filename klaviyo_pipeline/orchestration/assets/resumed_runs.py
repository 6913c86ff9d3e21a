"""A run that continues a failed one requests only the windows that the failed one did not commit.

Dagster continues a run if its process died, up to the limit of `run_retries`, or if you choose "Re-execute from
failure". It plans all windows of the range again, and shows them as materializing until an event says otherwise.
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
"""Tags of a run that continues a failed one. "Re-execute all" sets neither: it requests every window again."""

PARENT = "dagster/parent_run_id"


def windows_left(
    context: dg.AssetExecutionContext,
    access: AccountAccess,
    account: Account,
    asset: str,
    plan: WindowPlan,
    metric_ids: Sequence[str | None] = (None,),
) -> list[Window]:
    """The windows that this run requests, contiguous and at least one.

    If the run continues another one, windows that it committed are left out at both ends of the range, and shown as
    materialized at once. A window counts as committed if it is so for all of these conversion metrics; None stands for
    the first.
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
        # If everything was committed, the last window is requested again: a run has at least one.
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
    """The ids of the runs that this one continues."""
    run: dg.DagsterRun | None = context.run
    while run is not None and any(run.tags.get(tag) == "true" for tag in CONTINUES) and PARENT in run.tags:
        yield run.tags[PARENT]
        run = context.instance.get_run_by_id(run.tags[PARENT])
