"""A Dagster instance in memory, for runs whose events are not the subject of a test.

Dagster's own takes several times as long as the rest of a run: it creates its tables anew, and stores the events of
each window one by one, each in two transactions, and each on a new connection.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.storage import event_log, runs
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs.schema import RunStorageSqlMetadata

from klaviyo_pipeline.dagster_internals.event_log import BatchedEventLogStorage


@cache
def _template(metadata: sa.MetaData) -> sa.Connection:
    """A database in memory that has these tables."""
    # Each connection of the engine is another database. All share the statements that the engine has compiled.
    engine = sa.create_engine("sqlite://", poolclass=sa.NullPool, connect_args={"check_same_thread": False})
    connection = engine.connect()
    with connection.begin():
        metadata.create_all(connection)
    return connection


class _Memory:
    """A copy of the template. All operations share its connection, one after the other."""

    def __init__(self, metadata: sa.MetaData) -> None:
        self.lock = threading.Lock()
        template = _template(metadata)
        self.connection = template.engine.connect()
        source, copy = (one.connection.driver_connection for one in (template, self.connection))
        assert source is not None
        source.backup(copy)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        with self.lock, self.connection.begin():
            yield self.connection


class QuickEvents(event_log.InMemoryEventLogStorage):
    """Stores batches like the project's own event log, if this Dagster can."""

    stores_batches = BatchedEventLogStorage.stores_batches
    if stores_batches:
        store_event_batch = BatchedEventLogStorage.store_event_batch

    def __init__(self, preload: None = None) -> None:
        self._inst_data = None
        self._handlers = defaultdict(set)
        self._storage_id = 0
        self._memory = _Memory(SqlEventLogStorageMetadata)

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        with self._memory.transaction() as connection:
            yield connection

    def has_table(self, table_name: str) -> bool:
        return table_name in SqlEventLogStorageMetadata.tables

    def has_asset_key_col(self, column_name: str) -> bool:
        return True

    def _has_asset_key_col_on_connection(self, conn: sa.Connection, column_name: str) -> bool:
        return True

    def dispose(self) -> None:
        self._memory.connection.close()


class QuickRuns(runs.InMemoryRunStorage):
    def __init__(self, preload: None = None) -> None:
        self._memory = _Memory(RunStorageSqlMetadata)

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        with self._memory.transaction() as connection:
            yield connection

    def dispose(self) -> None:
        self._memory.connection.close()


def quick_instance(settings: dict[str, Any] | None = None) -> dg.DagsterInstance:
    """With these settings of `dagster.yaml`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_log, "InMemoryEventLogStorage", QuickEvents)
        patch.setattr(runs, "InMemoryRunStorage", QuickRuns)
        return dg.DagsterInstance.ephemeral(settings=settings)
