"""Writes a load, one transaction per batch. A window's ledger row is written with the last rows of the window."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pandas as pd
import sqlalchemy as sa

from klaviyo_pipeline.postgres.engine import in_transaction
from klaviyo_pipeline.postgres.ledger import Ledger, SyncedWindow
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.schema.tables import DestinationTable
from klaviyo_pipeline.postgres.write.child_rows import ChildWriter
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.merge import ReplaceRange, merge
from klaviyo_pipeline.postgres.write.staging import WINDOW, rows_by_window
from klaviyo_pipeline.windows import Window


@dataclass
class Writer:
    """Writes one load into one table. After a failure, `open_windows` are the windows that are not synced."""

    engine: sa.Engine
    target: DestinationTable
    ledger: Ledger
    load: Load
    run_id: str
    total: RowCounts = field(default_factory=RowCounts)
    rows_fetched: int = 0

    def __post_init__(self) -> None:
        self._started_at = datetime.now(UTC)
        self._index = {window: index for index, window in enumerate(self.load.windows)}
        self._fetched: dict[int, int] = {}
        self._counts_by_window: dict[int, RowCounts] = {}
        self.synced: list[SyncedWindow] = []
        self._children = ChildWriter(self.ledger.schema)

    @property
    def open_windows(self) -> list[Window]:
        synced = {one.window for one in self.synced}
        return [window for window in self.load.windows if window not in synced]

    @property
    def seconds(self) -> float:
        """How long the load has taken so far, including fetching and waiting."""
        return round((datetime.now(UTC) - self._started_at).total_seconds(), 1)

    def run(self) -> None:
        """Write every batch, and report each window to the load once it is committed as synced."""
        with _closed(self.load.batches) as batches:
            for batch in batches:
                for synced in self.write(batch):
                    self.load.on_synced(synced)
        self.load.on_written(self.total, self.rows_fetched)

    def write(self, batch: Batch) -> list[SyncedWindow]:
        """Commit one batch with its ledger rows. If anything fails, nothing of the batch is written."""
        # For days that are replaced as a whole, the ledger has the number of rows in the table after the write.
        counted = batch.frame if batch.replaces is None else batch.frame.drop_duplicates(list(self.target.key))
        fetched = self._fetched | {
            index: self._fetched.get(index, 0) + rows for index, rows in rows_by_window(counted).items()
        }
        fetched |= {self._index[one.window]: one.objects for one in batch.completes if one.objects is not None}

        def write(connection: sa.Connection) -> tuple[dict[int, RowCounts], list[SyncedWindow]]:
            if self.load.windows and not batch.completes:
                # Nothing depends on these rows before the ledger row, whose commit also makes earlier commits durable.
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            self._take_turn(connection, batch)
            if batch.prepare is not None:
                # `prepare` may rename windows of another conversion metric in the ledger. It runs before the ledger is
                # read, because those windows must not count as later requests for the windows of this batch.
                batch.prepare(connection)
            frame, span = self._still_newest(connection, batch)
            changed = merge(connection, self.target, frame, precedence=self.load.precedence, replaces=span)
            self._children.write(connection, batch.children)
            counts_by_window = self._counts_by_window | {
                index: self._counts_by_window.get(index, RowCounts()) + row_counts
                for index, row_counts in changed.items()
            }
            synced = [self._synced(complete, fetched, counts_by_window) for complete in batch.completes]
            self.ledger.record_synced(connection, synced, run_id=self.run_id, report_context=batch.report_context)
            return counts_by_window, synced

        self._counts_by_window, synced = in_transaction(self.engine, write)
        self._fetched = fetched
        self.synced.extend(synced)
        self.rows_fetched = sum(self._fetched.values())
        self.total = sum(self._counts_by_window.values(), RowCounts())
        return synced

    def record_failure(self, error: str) -> None:
        """Record the error in the ledger for the windows that are not synced yet."""

        def record(connection: sa.Connection) -> None:
            self.ledger.record_failed(
                connection, self.open_windows, run_id=self.run_id, started_at=self._started_at, error=error
            )

        in_transaction(self.engine, record)

    def _synced(
        self, complete: CompletedWindow, fetched: Mapping[int, int], counts_by_window: Mapping[int, RowCounts]
    ) -> SyncedWindow:
        index = self._index[complete.window]
        return SyncedWindow(
            window=complete.window,
            asked_at=complete.asked_at,
            started_at=self._started_at,
            rows_fetched=fetched.get(index, 0),
            requests=complete.requests,
            row_counts=counts_by_window.get(index, RowCounts()),
            newest=complete.newest,
        )

    def _take_turn(self, connection: sa.Connection, batch: Batch) -> None:
        """Wait for the other writers that replace days of this table."""
        if batch.replaces is not None and batch.replaces.window_of:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(self.target.table.fullname))))

    def _still_newest(self, connection: sa.Connection, batch: Batch) -> tuple[pd.DataFrame, ReplaceRange | None]:
        """Leave out the days of a report that another run has requested later and already written.

        Replacing a day also deletes rows, so the merge's comparison of single rows is not enough. The writers that
        replace days of one table therefore take turns, and each one reads the ledger here. Metrics have the `asked_at`
        of their report. If the ledger now has a day that this batch does not complete, another run has computed the day
        from a newer report.
        """
        span = batch.replaces
        if span is None or not span.window_of:
            return batch.frame, span
        windows = {index: self.load.windows[index] for index in sorted(span.window_of.values())}
        known = self.ledger.requested(connection, list(windows.values()))
        ours = {complete.window: complete.asked_at for complete in batch.completes}
        stale = {
            index
            for index, window in windows.items()
            if window.start in known and (window not in ours or ours[window] < known[window.start])
        }
        if not stale:
            return batch.frame, span
        days = [day for day, index in span.window_of.items() if index not in stale]
        frame = batch.frame[~batch.frame[WINDOW].isin(stale)]
        if not days:
            return frame, None
        kept = replace(span, first=min(days), last=max(days))
        if len(days) == (kept.last - kept.first).days + 1:
            return frame, kept
        raise ConcurrentReplacement(
            f"another run is replacing days of {self.target.table.fullname} between {span.first} and "
            f"{span.last}; run this one again when that run has ended."
        )


class ConcurrentReplacement(RuntimeError):
    """Two runs replaced overlapping days of a report at once, and neither has the newer answer for all days."""


@contextmanager
def _closed(batches: Iterable[Batch]) -> Iterator[Iterable[Batch]]:
    """Yield the batches and close their generator when the block ends: after a failed write, it must not read ahead."""
    try:
        yield batches
    finally:
        if isinstance(batches, Generator):
            batches.close()
