"""Prepares Dagster's instance for a sync, and makes its partitions the same as the ledger after it."""

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
    """End the runs of earlier syncs that died on this machine, and create the accounts' pools."""
    free_dead_runs(instance)
    for account in accounts:
        make_pool(instance, f"{account.slug}_api")


def fill_new_instance(accounts: Sequence[Account], on_progress: Callable[[str], None]) -> None:
    """Show what is synced in an instance without any run, whose storage is new: otherwise all partitions are grey."""
    with DagsterInstance.get() as instance:
        if not instance.get_runs_count(RunsFilter()):
            for account in accounts:
                align_with_ledger(instance, account, Warehouse.of([account]), on_progress)


def align_with_ledger(
    instance: DagsterInstance, account: Account, warehouse: Warehouse, on_progress: Callable[[str], None]
) -> None:
    """Make the account's partitions in Dagster the same as the ledger, and report how many were corrected.

    An error is a warning only: the data is stored, and the next sync tries again.
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
    """Create the pool's slots before workers request them.

    Dagster creates them on demand. If several processes do so at once, the runs of all but the first fail.
    """
    storage = instance.event_log_storage
    if all(limit.name != pool for limit in storage.get_pool_limits()):
        # Another sync may create the pool at the same time.
        with contextlib.suppress(sa.exc.DBAPIError):
            storage.initialize_concurrency_limit_to_default(pool)
