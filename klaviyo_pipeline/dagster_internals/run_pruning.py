"""Deletes Dagster's records of old finished runs, except those that the UI needs.

If a whole run were deleted, the windows that no later run materialized would have no status in the UI. Nearly every
run has such a window: the oldest window of a daily run's lookback is never synced again. Therefore the latest event of
each asset and window is kept, and so is the record of its run. The rest of an old run is deleted: its log, its steps,
and superseded materializations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.events import PIPELINE_EVENTS
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.schedules.schema import JobTickTable

from klaviyo_pipeline.config.extras import naming_extra

with naming_extra("Pruning Dagster's storage"):
    from dagster_postgres import PostgresEventLogStorage, PostgresScheduleStorage

RUNS_AT_ONCE = 500

FINISHED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]

LATEST_EVENTS = (
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_FAILED_TO_MATERIALIZE,
    DagsterEventType.FRESHNESS_STATE_CHANGE,
)
"""Event types. The latest event of each type for an asset and window determines the status of the window in the UI."""

PLANNED, MATERIALIZED = DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_MATERIALIZATION

COMPUTE_LOGS = "compute_logs"

ProgressCallback = Callable[[str], None]


class ForeignStorage(RuntimeError):
    """The runs of Dagster's instance are not stored in Postgres."""


@dataclass
class PrunedRuns:
    """How many records of Dagster were deleted or, in a dry run, would be deleted."""

    events: int = 0
    runs: int = 0
    check_results: int = 0
    ticks: int = 0
    compute_logs: int = 0
    thinned: int = 0
    """Old runs whose record is kept, because the latest event of a window belongs to them."""


@dataclass(frozen=True)
class RunStorage:
    """The runs, events and ticks of one Dagster instance. Raises `ForeignStorage` unless they are in Postgres."""

    instance: DagsterInstance

    def __post_init__(self) -> None:
        if not isinstance(self.instance.event_log_storage, PostgresEventLogStorage):
            kind = type(self.instance.event_log_storage).__name__
            raise ForeignStorage(f"Dagster's runs are stored in {kind}, not in Postgres, so they are not pruned.")

    def prune(self, before: datetime, on_progress: ProgressCallback, *, dry_run: bool = False) -> PrunedRuns:
        """Delete records of runs that finished before this moment, except what the UI needs. A dry run only counts."""
        pruned = PrunedRuns()
        old = self.instance.get_run_ids(filters=RunsFilter(statuses=FINISHED, updated_before=before.astimezone(UTC)))
        for done in range(0, len(old), RUNS_AT_ONCE):
            run_ids = old[done : done + RUNS_AT_ONCE]
            self._prune_events(run_ids, pruned, dry_run)
            on_progress(f"{done + len(run_ids):,} of {len(old):,} old runs")
        pruned.ticks = self._prune_ticks(before, dry_run)
        return pruned

    def _prune_events(self, run_ids: Sequence[str], pruned: PrunedRuns, dry_run: bool) -> None:
        storage = self.instance.event_log_storage
        assert isinstance(storage, PostgresEventLogStorage)
        with storage.index_transaction() as connection:
            keeping = set(connection.execute(_runs_with_latest_events(run_ids)).scalars())
            if not dry_run:
                connection.execute(_tags_of(_superseded(run_ids)))
            pruned.events += _removed(connection, SqlEventLogStorageTable, _superseded(run_ids), dry_run)
            pruned.check_results += _removed(
                connection, AssetCheckExecutionsTable, _superseded_checks(run_ids), dry_run
            )
        pruned.thinned += len(keeping)
        for run_id in run_ids:
            pruned.compute_logs += self._prune_compute_logs(run_id, dry_run)
            if run_id not in keeping:
                pruned.runs += 1
                if not dry_run:
                    self.instance.delete_run(run_id)

    def _prune_compute_logs(self, run_id: str, dry_run: bool) -> int:
        manager = self.instance.compute_log_manager
        try:
            found = len(manager.get_log_keys_for_log_key_prefix([run_id, COMPUTE_LOGS], ComputeIOType.STDERR))
        except (FileNotFoundError, NotImplementedError):
            return 0
        if not dry_run:
            manager.delete_logs(prefix=[run_id])
        return found

    def _prune_ticks(self, before: datetime, dry_run: bool) -> int:
        storage = self.instance.schedule_storage
        assert isinstance(storage, PostgresScheduleStorage)
        ticks = JobTickTable.c
        # A schedule continues from its newest tick, so that tick is kept, however old it is.
        newest = sa.select(sa.func.max(ticks.id)).group_by(sa.func.coalesce(ticks.selector_id, ticks.job_origin_id))
        old = sa.and_(
            ticks.timestamp < before.astimezone(UTC).replace(tzinfo=None),
            ticks.status != TickStatus.STARTED.value,
            ticks.id.not_in(newest),
        )
        with storage.connect() as connection:
            return _removed(connection, JobTickTable, old, dry_run)


def _removed(connection: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool], dry_run: bool) -> int:
    if dry_run:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(which)).scalar_one())
    return connection.execute(sa.delete(table).where(which)).rowcount


def _superseded(run_ids: Sequence[str]) -> sa.ColumnElement[bool]:
    """The events of these runs to delete.

    The latest event of each window is kept. Events about a run itself are deleted together with the run's record.
    """
    events = SqlEventLogStorageTable.c
    kind = sa.func.coalesce(events.dagster_event_type, "")
    return sa.and_(
        events.run_id.in_(run_ids),
        kind.not_in([one.value for one in PIPELINE_EVENTS]),
        events.id.not_in(_latest_events()),
    )


def _runs_with_latest_events(run_ids: Sequence[str]) -> sa.CompoundSelect[Any]:
    events, checks = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
    return sa.union(
        sa.select(events.run_id).where(events.run_id.in_(run_ids), events.id.in_(_latest_events())),
        sa.select(checks.run_id).where(checks.run_id.in_(run_ids), checks.id.in_(_last_checks())),
    )


def _latest_events() -> sa.CompoundSelect[Any]:
    """Ids of the events that determine the status of an asset, a window or a check in the UI."""
    events = SqlEventLogStorageTable.c
    newest = (
        sa.select(sa.func.max(events.id))
        .where(events.asset_key.is_not(None), events.dagster_event_type.in_([one.value for one in LATEST_EVENTS]))
        .group_by(events.asset_key, events.partition, events.dagster_event_type)
    )
    is_newest = sa.func.max(events.id).filter(events.dagster_event_type == PLANNED.value)
    made = sa.func.coalesce(sa.func.max(events.id).filter(events.dagster_event_type == MATERIALIZED.value), 0)
    # A planned materialization without a later materialization marks a window as failed.
    unmet = (
        sa.select(is_newest)
        .where(events.asset_key.is_not(None), events.dagster_event_type.in_([PLANNED.value, MATERIALIZED.value]))
        .group_by(events.asset_key, events.partition)
        .having(is_newest > made)
    )
    checks = AssetCheckExecutionsTable.c
    checked = sa.select(checks.evaluation_event_storage_id).where(
        checks.evaluation_event_storage_id.is_not(None), checks.id.in_(_last_checks())
    )
    return sa.union(newest, unmet, checked)


def _last_checks() -> sa.Select[Any]:
    """For each check and each status, the id of the latest result."""
    checks = AssetCheckExecutionsTable.c
    return sa.select(sa.func.max(checks.id)).group_by(
        checks.asset_key, checks.check_name, checks.partition, checks.execution_status
    )


def _superseded_checks(run_ids: Sequence[str]) -> sa.ColumnElement[bool]:
    checks = AssetCheckExecutionsTable.c
    return sa.and_(checks.run_id.in_(run_ids), checks.id.not_in(_last_checks()))


def _tags_of(which: sa.ColumnElement[bool]) -> sa.Delete:
    events = sa.select(SqlEventLogStorageTable.c.id).where(which)
    return sa.delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id.in_(events))
