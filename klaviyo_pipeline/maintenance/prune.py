"""Deletes records that are older than the retention, from Dagster's storage and from an account's schema."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from dagster import DagsterInstance

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.run_pruning import ForeignStorage, ProgressCallback, PrunedRuns, RunStorage
from klaviyo_pipeline.postgres.engine import database_now, in_transaction
from klaviyo_pipeline.postgres.retention import prune_system_tables


@dataclass(frozen=True)
class Pruned:
    """How many records older than `before` (UTC) were deleted or, in a dry run, would be deleted.

    `rows` counts those of an account's system tables, by table. `runs` is None if Dagster's storage was not pruned.
    """

    before: datetime
    runs: PrunedRuns | None
    rows: dict[str, int]

    def counts(self) -> dict[str, int]:
        """The number of records by kind: the fields of `PrunedRuns`, and the names of system tables."""
        return {**(vars(self.runs) if self.runs else {}), **self.rows}


def prune(
    account: Account,
    engine: sa.Engine,
    instance: DagsterInstance,
    on_progress: ProgressCallback,
    *,
    days: int,
    dry_run: bool = False,
) -> Pruned:
    """Delete records older than `days` days by the database's clock. With `dry_run`, only count them.

    The system tables are pruned for this account only, Dagster's storage for all accounts that share it.
    """
    pruned = prune_account(account, engine, days=days, dry_run=dry_run)
    return replace(pruned, runs=prune_runs(instance, pruned.before, on_progress, dry_run=dry_run))


def prune_account(account: Account, engine: sa.Engine, *, days: int, dry_run: bool = False) -> Pruned:
    """Delete old records from the account's system tables. Dagster's storage is not pruned."""

    def delete(connection: sa.Connection) -> Pruned:
        before = database_now(connection) - timedelta(days=days)
        return Pruned(before, None, prune_system_tables(connection, account.slug, before, dry_run=dry_run))

    return in_transaction(engine, delete)


def prune_runs(
    instance: DagsterInstance, before: datetime, on_progress: ProgressCallback, *, dry_run: bool = False
) -> PrunedRuns | None:
    """Delete Dagster's records of runs that finished before this time.

    Returns None if the storage cannot be pruned; `on_progress` then receives the reason.
    """
    try:
        return RunStorage(instance).prune(before, on_progress, dry_run=dry_run)
    except ForeignStorage as error:
        on_progress(str(error))
        return None
