"""An event log for Dagster that stores the events of many windows in one statement, and can wipe single partitions.

Dagster's own event log stores planned materializations one by one, each in two transactions. For a batch of
materializations it compiles a statement with a parameter for each column of each event. Over a year of windows, both
took longer than the sync itself.

Dagster's own event log on Postgres refuses to wipe single partitions. Here their materializations are deleted, and the
ones that were planned, so that the partitions look as if they had never been materialized.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from dagster import AssetKey, DagsterEventType, EventLogEntry
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    AssetKeyTable,
    SqlEventLogStorageTable,
)

from klaviyo_pipeline.dagster_internals.readable_events import readable
from klaviyo_pipeline.dagster_internals.steady_storage import SteadyEventLogStorage

BATCHED_EVENTS = {DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_MATERIALIZATION}


CHECK_EVENTS = {DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}


class BatchedEventLogStorage(SteadyEventLogStorage):
    """Stores a batch of planned or completed materializations in one statement, and updates each asset only once.

    Failures are stored as `readable_events` words them. Where Dagster's own log has no methods for a batch within a
    transaction, as in 1.11, events are stored one by one.
    """

    stores_batches = hasattr(SteadyEventLogStorage, "_store_asset_event_tags")

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event. Dagster also sends a notification for each one, to which nothing listens any more."""
        event = readable(event)
        of_dagster = event.dagster_event
        if of_dagster and (of_dagster.asset_key is not None or of_dagster.event_type in CHECK_EVENTS):
            super().store_event(event)
            return
        with self.index_connection() as connection:
            connection.execute(SqlEventLogStorageTable.insert(), self._event_to_row(event))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        if not self.stores_batches:
            super().store_event_batch([readable(event) for event in events])
            return
        kinds = {event.get_dagster_event().event_type for event in events}
        if kinds == {DagsterEventType.ASSET_CHECK_EVALUATION}:
            self._store_evaluations(events)
            return
        if len(kinds) != 1 or not kinds <= BATCHED_EVENTS:
            super().store_event_batch(events)
            return
        insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        rows = [self._event_to_row(event) for event in events]
        # In one transaction: if a batch fails, Dagster stores all of its events again, one by one.
        with self.index_transaction() as connection:
            ids = [int(row[0]) for row in connection.execute(insert, rows)]
            self._store_asset_event_tags(connection, events, ids)
            last = {row["asset_key"]: (event, id) for row, event, id in zip(rows, events, ids, strict=True)}
            # Sorted, so that concurrent runs of the same assets cannot deadlock.
            for _, (event, event_id) in sorted(last.items()):
                self._store_asset_event(connection, event, event_id)

    def wipe_asset_partitions(self, asset_key: AssetKey, partition_keys: Sequence[str]) -> None:
        events, key = SqlEventLogStorageTable.c, asset_key.to_string()
        wiped = sa.and_(
            events.asset_key == key,
            events.partition.in_(partition_keys),
            events.dagster_event_type.in_([kind.value for kind in BATCHED_EVENTS]),
        )
        with self.index_transaction() as connection:
            ids = sa.select(events.id).where(wiped)
            connection.execute(sa.delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id.in_(ids)))
            connection.execute(sa.delete(SqlEventLogStorageTable).where(wiped))
            # Both are computed again from the events that are left.
            connection.execute(
                sa.update(AssetKeyTable)
                .where(AssetKeyTable.c.asset_key == key)
                .values(cached_status_data=None, last_materialization=None)
            )

    def planned_assets(self, run_id: str) -> set[AssetKey]:
        """The assets that a run was going to materialize."""
        events = SqlEventLogStorageTable.c
        query = (
            sa.select(events.asset_key)
            .where(
                events.run_id == run_id,
                events.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
            )
            .distinct()
        )
        with self.index_connection() as connection:
            found = {AssetKey.from_db_string(text) for text in connection.execute(query).scalars()}
        return {key for key in found if key is not None}

    def _store_evaluations(self, events: Sequence[EventLogEntry]) -> None:
        """Store evaluations of checks that were not planned, each as Dagster does."""
        insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        rows = [self._event_to_row(event) for event in events]
        with self.index_transaction() as connection:
            ids = [int(row[0]) for row in connection.execute(insert, rows)]
            executions = []
            for row, event, event_id in zip(rows, events, ids, strict=True):
                evaluation = event.get_dagster_event().asset_check_evaluation_data
                target = evaluation.target_materialization_data
                executions.append(
                    {
                        "asset_key": evaluation.asset_key.to_string(),
                        "check_name": evaluation.check_name,
                        "run_id": event.run_id,
                        "execution_status": "SUCCEEDED" if evaluation.passed else "FAILED",
                        "evaluation_event": row["event"],
                        "evaluation_event_timestamp": row["timestamp"],
                        "evaluation_event_storage_id": event_id,
                        "materialization_event_storage_id": target and target.storage_id,
                        "partition": evaluation.partition,
                    }
                )
            connection.execute(AssetCheckExecutionsTable.insert(), executions)
