"""The write path: a frame's rows into their table, inside the caller's transaction, writing only what differs.

Rows that are all new are copied straight into the table. Others are copied into a temporary table and merged from
there by sets: what is new is added; what differs is locked, its present state put among the earlier ones, and
replaced. Why it is built this way:

- Rows that are there unchanged are compared before anything is locked: `ON CONFLICT DO UPDATE … WHERE` alone locks,
  and so writes, every conflicting row even where it then changes nothing.
- All writers add rows first and lock rows then, each in order of the key, so that two of them never wait for each
  other in a circle.
- What is replaced is compared again once it is locked, by the statement that locks it: a row that a concurrent writer
  has committed meanwhile is seen as it is, so that an earlier observation never replaces a later one, and no state is
  missing among the earlier ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import pandas as pd
import sqlalchemy as sa

from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT, DestinationTable
from klaviyo_pipeline.postgres.write.direct_copy import insert_if_all_new
from klaviyo_pipeline.postgres.write.staging import STAGING, TEMPORARY, WINDOW, rows_by_window, stage
from klaviyo_pipeline.postgres.write.statements import (
    ColumnPrecedence,
    add_new,
    archive_previous,
    delete_missing,
    has_changes,
    lock_changed,
    update_marked,
)

CountsByWindow = dict[int, RowCounts]
"""What a merge changed, by index of the sync window; rows without a window count under 0."""


@dataclass(frozen=True)
class ReplaceRange:
    """Days of a report, both ends inclusive, that a frame replaces as a whole, by the table's date `column`."""

    column: str
    first: date
    last: date
    asked_at: datetime
    window_of: Mapping[date, int] = field(default_factory=dict)


def merge(
    connection: sa.Connection,
    target: DestinationTable,
    frame: pd.DataFrame,
    *,
    precedence: Mapping[str, Sequence[str]] | None = None,
    replaces: ReplaceRange | None = None,
) -> CountsByWindow:
    """Write `frame` into the table; return what changed. Runs in the caller's transaction.

    `frame` has some of the table's columns, all of its key among them, and may have a `_window` column. Of rows
    with the same key the latest observation wins, then the later row. `precedence` names columns of which several
    answers may be true at once, with the values in order of preference: the first preferred one is kept.
    `replaces` deletes the rows of these days that `frame` lacks; all of `frame` is of these days.
    """
    preferences = tuple(
        (column, tuple(order)) for column, order in (precedence or {}).items() if column in frame.columns
    )
    frame = _latest(target, frame, preferences)
    if frame.empty and replaces is None:
        return {}
    if insert_if_all_new(connection, target, frame, replaces):
        return _counts_by_window(inserted=rows_by_window(frame))
    staged = stage(connection, target, frame)
    inserted, updated = Counter[int](), Counter[int]()
    if has_changes(connection, target, staged, preferences):
        inserted = add_new(connection, target, staged)
        if inserted.total() < len(frame):
            updated = lock_changed(connection, target, staged, preferences)
    if updated:
        archive_previous(connection, target, staged, preferences)
        update_marked(connection, target, staged, preferences)
    deleted = delete_missing(connection, target, staged, replaces) if replaces else Counter()
    connection.exec_driver_sql(f"DROP TABLE {TEMPORARY}.{STAGING}")
    return _counts_by_window(inserted, updated, deleted)


def _counts_by_window(
    inserted: Mapping[int, int], updated: Mapping[int, int] | None = None, deleted: Mapping[int, int] | None = None
) -> CountsByWindow:
    updated, deleted = updated or {}, deleted or {}
    return {
        index: RowCounts(inserted.get(index, 0), updated.get(index, 0), deleted.get(index, 0))
        for index in {*inserted, *updated, *deleted}
    }


def _latest(target: DestinationTable, frame: pd.DataFrame, precedence: ColumnPrecedence) -> pd.DataFrame:
    key = list(target.key)
    unknown = set(frame.columns) - set(target.written) - {WINDOW}
    missing = set(key) - set(frame.columns)
    if unknown or missing:
        raise ValueError(
            f"the frame for {target.table.fullname} has unknown columns {sorted(unknown)} or lacks {sorted(missing)}"
        )
    if not frame.duplicated(key).any():
        return frame
    if target.is_observed:
        frame = frame.sort_values(OBSERVED_AT, kind="stable")
    last = frame.drop_duplicates(key, keep="last")
    for column, order in precedence:
        rank = [order.index(value) if value in order else len(order) for value in frame[column]]
        best = frame.assign(rank=rank).sort_values("rank", kind="stable").drop_duplicates(key, keep="first")
        last = last.drop(columns=column).merge(best[[*key, column]], on=key, how="left")
    return last
