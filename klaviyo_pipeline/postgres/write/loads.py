"""What an asset hands to the IO manager: frames, page by page, and word of which windows they complete."""

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
    """A window that is complete with this batch: when it was first asked (UTC), and in how many requests.

    `newest` is the latest time (UTC) that an object of the window was updated at.
    """

    window: Window
    asked_at: datetime
    requests: int
    newest: datetime | None = None


@dataclass(frozen=True)
class Batch:
    """Rows to be written in one transaction, together with the ledger rows of the windows they complete.

    `frame` has columns of the asset's table and, for a load of several windows, `_window`: the index into the
    load's windows that each row belongs to. `replaces` names the days that the frame holds as a whole;
    `report_context` is for the ledger: what a report was asked with. `children` hang on the frame's rows, and are
    written after them. `prepare` is run in the transaction before the rows are written.
    """

    frame: pd.DataFrame
    completes: Sequence[CompletedWindow] = ()
    replaces: ReplaceRange | None = None
    report_context: ReportContext | None = None
    children: Sequence[Children] = ()
    prepare: Callable[[sa.Connection], None] | None = None


@dataclass(frozen=True)
class Load:
    """An asset's output: batches, made while they are written, for these windows (none: an unpartitioned load).

    `filled` are the columns that every frame fills, where the table may have no others; `precedence` is passed to the
    merge. `on_synced` is told of each window once its batch is committed, `on_written` at the end what the load changed
    and how many rows it brought, `on_failed` why it ended early.
    """

    batches: Iterable[Batch]
    windows: Sequence[Window] = ()
    filled: Sequence[str] = ()
    precedence: Mapping[str, Sequence[str]] = field(default_factory=dict)
    on_synced: Callable[[SyncedWindow], None] = lambda synced: None
    on_written: Callable[[RowCounts, int], None] = lambda row_counts, rows: None
    on_failed: Callable[[str], None] = lambda reason: None
