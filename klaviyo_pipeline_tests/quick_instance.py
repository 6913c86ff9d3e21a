"""A Dagster instance in memory, for runs whose events are not the subject of a test.

Dagster's own takes several times as long as the rest of a run: it stores the events of each window one by one, each in
two transactions, and each on a new connection.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.storage import event_log
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs import in_memory as in_memory_runs

from klaviyo_pipeline.dagster_internals.event_log import BatchedEventLogStorage


class QuickEvents(event_log.InMemoryEventLogStorage):
    """Stores batches like the project's own event log, if this Dagster can. All operations share a connection."""

    stores_batches = BatchedEventLogStorage.stores_batches
    if stores_batches:
        store_event_batch = BatchedEventLogStorage.store_event_batch

    def __init__(self, preload: None = None) -> None:
        self._inst_data = None
        self._handlers = defaultdict(set)
        self._storage_id = 0
        self._db_lock = threading.Lock()
        self._engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
        self._held_conn = self._engine.connect()
        with self._held_conn.begin():
            SqlEventLogStorageMetadata.create_all(self._held_conn)

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        with self._db_lock, self._held_conn.begin():
            yield self._held_conn

    def has_table(self, table_name: str) -> bool:
        return table_name in SqlEventLogStorageMetadata.tables

    def has_asset_key_col(self, column_name: str) -> bool:
        return True

    def _has_asset_key_col_on_connection(self, conn: sa.Connection, column_name: str) -> bool:
        return True


def quick_instance() -> dg.DagsterInstance:
    with pytest.MonkeyPatch.context() as patch:
        # Nothing reads the stamps of its migrations, which take two thirds of its time.
        patch.setattr(in_memory_runs, "stamp_alembic_rev", lambda config, connection: None)
        patch.setattr(event_log, "InMemoryEventLogStorage", QuickEvents)
        return dg.DagsterInstance.ephemeral()
