"""Prepares Dagster's instance before a sync, and makes its partitions the same as the ledger after the sync."""

import contextlib
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from dagster import DagsterInstance, RunsFilter

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.partition_states import align_partitions
from klaviyo_pipeline.maintenance.dead_runs import free_dead_runs
from klaviyo_pipeline.postgres.engine import reason
from klaviyo_pipeline.postgres.warehouse import Warehouse


def prepare_instance(instance: DagsterInstance, accounts: Sequence[Account]) -> None:
    """Mark runs of earlier syncs as failed if their process died on this machine, and create the accounts' pools."""
    free_dead_runs(instance)
    for account in accounts:
        make_pool(instance, f"{account.slug}_api")


def fill_new_instance(accounts: Sequence[Account], on_progress: Callable[[str], None]) -> None:
    """In an instance without any run, show the synced windows as materialized.

    Its storage is new: without this, no partition would be shown as materialized, although Postgres has the data.
    """
    with DagsterInstance.get() as instance:
        if not instance.get_runs_count(RunsFilter()):
            for account in accounts:
                align_with_ledger(instance, account, Warehouse.of([account]), on_progress)


def align_with_ledger(
    instance: DagsterInstance, account: Account, warehouse: Warehouse, on_progress: Callable[[str], None]
) -> None:
    """Make the account's partitions in Dagster the same as the ledger, and report how many were corrected.

    An error is only reported as a warning: the data is stored, and the next sync compares the partitions again.
    """
    try:
        with warehouse.engine(account.slug) as engine:
            corrections = align_partitions(instance, account, engine)
    except Exception as error:
        on_progress(f"warning: the partitions in Dagster were not compared with the ledger: {reason(error)}")
        return
    if corrections.total:
        on_progress(corrections.text)


def make_pool(instance: DagsterInstance, pool: str) -> None:
    """Create a pool, if it does not exist, before workers need it.

    Dagster would create it on demand. If several processes do so at once, all of their runs except the first fail.
    """
    storage = instance.event_log_storage
    if all(limit.name != pool for limit in storage.get_pool_limits()):
        # The error means that another sync created the pool at the same time.
        with contextlib.suppress(sa.exc.DBAPIError):
            storage.initialize_concurrency_limit_to_default(pool)
