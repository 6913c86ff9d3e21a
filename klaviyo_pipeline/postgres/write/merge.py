"""The merge: writes those of a frame's rows that differ from the table, in the caller's transaction.

If all rows are new, they are copied straight into the table. Otherwise they are copied into a staging table and merged
in a few statements: new rows are added; rows that differ are locked, archived in the table of earlier states, and
updated. The reasons for this procedure:

- Unchanged rows are found before anything is locked. `ON CONFLICT DO UPDATE … WHERE` alone would lock every conflicting
  row, and a lock is a write, even if the row does not change.
- All writers first add rows and then lock rows, both in order of the key, so that two writers cannot deadlock.
- The statement that locks a row compares it again, because a concurrent writer may have changed it in the meantime.
  An earlier observation therefore never replaces a later one, and no state is lost.
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
"""The changes of a merge, by index of the sync window. Rows without a window count under 0."""


@dataclass(frozen=True)
class ReplaceRange:
    """The range of days or times, from `first` to `last` inclusive, whose rows a frame replaces as a whole.

    `column` is the table's column with the day or time. `window_of` has the index of each day's window. With a
    conversion metric, only the rows of this metric are replaced.
    """

    column: str
    first: date
    last: date
    asked_at: datetime
    window_of: Mapping[date, int] = field(default_factory=dict)
    conversion_metric_id: str | None = None

    def covers(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Whether a row of the table is in the range, so that it is deleted if the frame lacks it."""
        within = table.c[self.column].between(self.first, self.last)
        if self.conversion_metric_id is None:
            return within
        return sa.and_(within, table.c.conversion_metric_id == self.conversion_metric_id)


def merge(
    connection: sa.Connection,
    target: DestinationTable,
    frame: pd.DataFrame,
    *,
    precedence: Mapping[str, Sequence[str]] | None = None,
    replaces: ReplaceRange | None = None,
) -> CountsByWindow:
    """Write `frame` into the table in the caller's transaction, and return the changes.

    `frame` has some of the table's columns, including the whole key, and may have a `_window` column. Of several rows
    with the same key, the one with the latest observation is written, and of equal observations the last row.
    `precedence` names columns that may have several true values at once, with the values in order of preference: the
    most preferred value is stored. With `replaces`, the rows of its days that `frame` lacks are deleted; all rows of
    `frame` must be of these days.
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
            f"the frame for {target.table.fullname} has unknown columns {sorted(unknown)} and lacks the key columns "
            f"{sorted(missing)}"
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
