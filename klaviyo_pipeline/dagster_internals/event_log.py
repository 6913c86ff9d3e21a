"""Dagster's event log, to which a run over many windows tells what it plans and what it made all at once.

Dagster's own stores plans one by one, each in two transactions, and compiles a statement with a parameter for each
column of each event where it stores several: over a year of windows that took longer than the sync itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagster import DagsterEventType, EventLogEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable

from klaviyo_pipeline.dagster_internals.steady_storage import SteadyEventLogStorage

BATCHED_EVENTS = {DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_MATERIALIZATION}


class BatchedEventLogStorage(SteadyEventLogStorage):
    """Stores a batch of planned or of made materializations in one statement, and of each asset the last of them."""

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        kinds = {event.get_dagster_event().event_type for event in events}
        if len(kinds) != 1 or not kinds <= BATCHED_EVENTS:
            super().store_event_batch(events)
            return
        insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        rows = [self._event_to_row(event) for event in events]
        # All or nothing: of a batch that fails Dagster stores every event again, one by one.
        with self.index_transaction() as connection:
            ids = [int(row[0]) for row in connection.execute(insert, rows)]
            self._store_asset_event_tags(connection, events, ids)
            last = {row["asset_key"]: (event, id) for row, event, id in zip(rows, events, ids, strict=True)}
            # In one order, so that runs that make the same assets never wait for each other in a circle.
            for _, (event, event_id) in sorted(last.items()):
                self._store_asset_event(connection, event, event_id)
