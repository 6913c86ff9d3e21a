"""The output of an asset for the IO manager: batches of rows, and the windows that they complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd
import sqlalchemy as sa

from klaviyo_pipeline.postgres.ledger import ReportContext, SyncedWindow
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.write.child_rows import Children
from klaviyo_pipeline.postgres.write.merge import ReplaceRange
from klaviyo_pipeline.windows import Window


@dataclass(frozen=True)
class CompletedWindow:
    """A window that is complete with this batch: the time of its first request (UTC), and its number of requests.

    `newest` is the latest `updated` time (UTC) of the window's objects. `objects` is their number, which the ledger
    counts in place of the rows if several rows of the load may be states of one object.
    """

    window: Window
    asked_at: datetime
    requests: int
    newest: datetime | None = None
    objects: int | None = None


@dataclass(frozen=True)
class Batch:
    """Rows to write in one transaction, together with the ledger rows of the windows that they complete.

    `frame` has columns of the asset's table and, for a load of several windows, `_window`: each row's index in the
    load's windows. `replaces` names the days that the frame replaces as a whole. `report_context` is stored in the
    ledger. `children` are the children of the frame's rows, and are written after them. `prepare` runs in the
    transaction before the rows are written.
    """

    frame: pd.DataFrame
    completes: Sequence[CompletedWindow] = ()
    replaces: ReplaceRange | None = None
    report_context: ReportContext | None = None
    children: Sequence[Children] = ()
    prepare: Callable[[sa.Connection], None] | None = None


@dataclass(frozen=True)
class Load:
    """An asset's output: batches that are produced while they are written, and their windows.

    `windows` is empty if the asset is not partitioned. `filled` are the columns that every frame fills, if the table
    may have no others (see `reflect`). `precedence` is passed to the merge. `on_synced` is called with each window once
    its batch is committed, `on_written` at the end with the changes and the number of rows read, and `on_failed` with
    the error if the load fails.

    `ledger` is the name of the windows in the ledger, if it differs from the asset's. `then` are further loads for the
    same table, which are written after this one, each with its own windows in the ledger.
    """

    batches: Iterable[Batch]
    windows: Sequence[Window] = ()
    filled: Sequence[str] = ()
    precedence: Mapping[str, Sequence[str]] = field(default_factory=dict)
    on_synced: Callable[[SyncedWindow], None] = lambda synced: None
    on_written: Callable[[RowCounts, int], None] = lambda row_counts, rows: None
    on_failed: Callable[[str], None] = lambda reason: None
    ledger: str | None = None
    then: Sequence[Load] = ()
