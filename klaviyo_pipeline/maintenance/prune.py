"""Pruning: everything that has served its time, of Dagster's storage and of an account's schema, in one go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from dagster import DagsterInstance

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.run_pruning import ForeignStorage, ProgressCallback, PrunedRuns, RunStorage
from klaviyo_pipeline.postgres.retention import prune_system_tables


@dataclass(frozen=True)
class Pruned:
    """What went, or would go: everything from before `before` (UTC). `runs` is None where Dagster's were left alone."""

    before: datetime
    runs: PrunedRuns | None
    rows: dict[str, int]

    def counts(self) -> dict[str, int]:
        """The number of things that went, by their kind."""
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
    """Remove what is older than `days` days by the database's clock; with `dry_run` only count it.

    Dagster's storage is pruned for all accounts in it, the bookkeeping for this one.
    """
    pruned = prune_account(account, engine, days=days, dry_run=dry_run)
    return replace(pruned, runs=prune_runs(instance, pruned.before, on_progress, dry_run=dry_run))


def prune_account(account: Account, engine: sa.Engine, *, days: int, dry_run: bool = False) -> Pruned:
    """`prune` of the account's bookkeeping alone."""
    with engine.begin() as connection:
        now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        before = now - timedelta(days=days)
        return Pruned(before, None, prune_system_tables(connection, account.slug, before, dry_run=dry_run))


def prune_runs(
    instance: DagsterInstance, before: datetime, on_progress: ProgressCallback, *, dry_run: bool = False
) -> PrunedRuns | None:
    """Remove what Dagster keeps of runs from before this moment; None where it stays (`on_progress` says why)."""
    try:
        return RunStorage(instance).prune(before, on_progress, dry_run=dry_run)
    except ForeignStorage as foreign:
        on_progress(str(foreign))
        return None
