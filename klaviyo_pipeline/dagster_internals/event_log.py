"""An event log for Dagster that stores the events of many windows in one statement, and can wipe single partitions.

Dagster's own event log stores planned materializations one by one, each in two transactions. For a batch of
completed ones, it compiles a statement with a parameter for each column of each event. In a run over a year of
windows, both took longer than the sync itself.

Dagster's own event log on Postgres refuses to wipe single partitions. This event log deletes their materializations,
including planned ones. The partitions then look as if they had never been materialized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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

MATERIALIZATIONS = {DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_MATERIALIZATION}
CHECK_EVENTS = {DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}


class BatchedEventLogStorage(SteadyEventLogStorage):
    """Stores a batch of planned or completed materializations in one statement, and updates each asset only once.

    Failures are stored with the wording of `readable_events`. Dagster before 1.12 cannot store a batch in one
    transaction. With these versions, events are stored one by one.
    """

    stores_batches = hasattr(SteadyEventLogStorage, "_store_asset_event_tags")

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event. Unlike Dagster's own method, this sends no notification for events without an asset or check.

        Nothing in Dagster listens to these notifications any more.
        """
        event = readable(event)
        of_dagster = event.dagster_event
        if of_dagster and (of_dagster.asset_key is not None or of_dagster.event_type in CHECK_EVENTS):
            super().store_event(event)
            return
        with self.index_connection() as connection:
            connection.execute(SqlEventLogStorageTable.insert(), self._event_to_row(event))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store a batch. It may have events of several types: a run plans materializations and checks together."""
        if not self.stores_batches:
            super().store_event_batch([readable(event) for event in events])
            return
        by_type: dict[DagsterEventType, list[EventLogEntry]] = {}
        for event in events:
            by_type.setdefault(event.get_dagster_event().event_type, []).append(event)
        if not by_type.keys() <= MATERIALIZATIONS | CHECK_EVENTS:
            super().store_event_batch(events)
            return
        insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        # One transaction, because Dagster stores all events of a failed batch again, one by one.
        with self.index_transaction() as connection:
            for kind, of_type in by_type.items():
                rows = [self._event_to_row(event) for event in of_type]
                ids = [int(row[0]) for row in connection.execute(insert, rows)]
                if kind in CHECK_EVENTS:
                    executions = [_execution(*stored) for stored in zip(rows, of_type, ids, strict=True)]
                    connection.execute(AssetCheckExecutionsTable.insert(), executions)
                    continue
                self._store_asset_event_tags(connection, of_type, ids)
                last = {row["asset_key"]: (event, id) for row, event, id in zip(rows, of_type, ids, strict=True)}
                # Sorted, so that concurrent runs of the same assets cannot deadlock.
                for _, (event, event_id) in sorted(last.items()):
                    self._store_asset_event(connection, event, event_id)

    def wipe_asset_partitions(self, asset_key: AssetKey, partition_keys: Sequence[str]) -> None:
        events, key = SqlEventLogStorageTable.c, asset_key.to_string()
        wiped = sa.and_(
            events.asset_key == key,
            events.partition.in_(partition_keys),
            events.dagster_event_type.in_([kind.value for kind in MATERIALIZATIONS]),
        )
        with self.index_transaction() as connection:
            ids = sa.select(events.id).where(wiped)
            connection.execute(sa.delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id.in_(ids)))
            connection.execute(sa.delete(SqlEventLogStorageTable).where(wiped))
            # Dagster computes both values again from the remaining events.
            connection.execute(
                sa.update(AssetKeyTable)
                .where(AssetKeyTable.c.asset_key == key)
                .values(cached_status_data=None, last_materialization=None)
            )

    def planned_assets(self, run_id: str) -> set[AssetKey]:
        """The assets that the run planned to materialize."""
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


def _execution(row: Mapping[str, Any], event: EventLogEntry, event_id: int) -> dict[str, Any]:
    """A row in Dagster's table of check executions: for a planned check, or for the result of an unplanned check.

    A check examines the whole table, so its row has no partition. Dagster would store a planned check in one row for
    each window of the run. No result would ever update these rows, and a run of all assets would have thousands.
    """
    of_dagster = event.get_dagster_event()
    if of_dagster.event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
        key, status, target = of_dagster.asset_check_planned_data.asset_check_key, "PLANNED", None
    else:
        evaluation = of_dagster.asset_check_evaluation_data
        key, target = evaluation.asset_check_key, evaluation.target_materialization_data
        status = "SUCCEEDED" if evaluation.passed else "FAILED"
    return {
        "asset_key": key.asset_key.to_string(),
        "check_name": key.name,
        "run_id": event.run_id,
        "execution_status": status,
        "evaluation_event": row["event"],
        "evaluation_event_timestamp": row["timestamp"],
        "evaluation_event_storage_id": event_id,
        "materialization_event_storage_id": target and target.storage_id,
    }
