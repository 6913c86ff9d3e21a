"""Deletes records that are older than the retention, from Dagster's storage and from an account's schema."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from dagster import DagsterInstance

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.run_pruning import ForeignStorage, ProgressCallback, PrunedRuns, RunStorage
from klaviyo_pipeline.postgres.engine import database_now
from klaviyo_pipeline.postgres.retention import prune_system_tables


@dataclass(frozen=True)
class Pruned:
    """The number of records older than `before` (UTC) that were, or would be, deleted.

    `runs` is None if Dagster's storage was not pruned.
    """

    before: datetime
    runs: PrunedRuns | None
    rows: dict[str, int]

    def counts(self) -> dict[str, int]:
        """The number of deleted records by kind."""
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

    Dagster's storage is pruned for all accounts in it, the system tables for this account.
    """
    pruned = prune_account(account, engine, days=days, dry_run=dry_run)
    return replace(pruned, runs=prune_runs(instance, pruned.before, on_progress, dry_run=dry_run))


def prune_account(account: Account, engine: sa.Engine, *, days: int, dry_run: bool = False) -> Pruned:
    """Prune the account's system tables only."""
    with engine.begin() as connection:
        now = database_now(connection)
        before = now - timedelta(days=days)
        return Pruned(before, None, prune_system_tables(connection, account.slug, before, dry_run=dry_run))


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
