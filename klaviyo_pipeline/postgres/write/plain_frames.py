"""Turns a plain DataFrame into a load: checks it against its table, and assigns its rows to windows."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT, DestinationTable
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.merge import ReplaceRange
from klaviyo_pipeline.postgres.write.new_tables import UnfitFrame
from klaviyo_pipeline.postgres.write.staging import WINDOW
from klaviyo_pipeline.windows import Window

PARTITION_EXPR = "partition_expr"
REPLACE_WINDOWS = "replace_windows"


def load_of(
    context: dg.OutputContext,
    metadata: Mapping[str, Any],
    target: DestinationTable,
    frame: pd.DataFrame,
    observed_at: datetime,
) -> Load:
    """Return the frame as a load of one batch. If it has no observation times, its rows get `observed_at`.

    Raises `UnfitFrame` if the frame lacks a column of the table, has a column that the table lacks, or contains values
    that do not fit.
    """
    check_frame(target, frame)
    if target.is_observed and OBSERVED_AT not in frame.columns:
        frame = frame.assign(observed_at=observed_at)
    windows = windows_of(context)
    column = metadata.get(PARTITION_EXPR)
    replaces = bool(metadata.get(REPLACE_WINDOWS))
    if replaces and (not windows or column is None):
        raise UnfitFrame(
            f"{context.asset_key.to_user_string()} has {REPLACE_WINDOWS}, so it needs time windows as partitions, and "
            f"{PARTITION_EXPR} to name the column that assigns rows to them."
        )
    if not windows:
        return Load([Batch(frame)])
    if column is not None:
        if column not in target.table.columns:
            raise UnfitFrame(f"{PARTITION_EXPR} of {target.table.fullname} names {column}, which is not a column.")
        if WINDOW not in frame.columns:
            frame = frame.assign(**{WINDOW: _window_index(context, windows, frame[str(column)])})
    span = _replaced(context, target, str(column), frame, windows, observed_at) if replaces else None
    return Load([Batch(frame, [CompletedWindow(window, observed_at, 0) for window in windows], span)], windows)


def check_frame(target: DestinationTable, frame: pd.DataFrame) -> None:
    """Raise `UnfitFrame` unless the frame has each column of the table once, with values that fit its type.

    Columns that the database fills by a default or an identity may be absent, and so may the observation time.
    """
    table = target.table
    names = [name for name in frame.columns if name != WINDOW]
    if odd := [name for name in names if not isinstance(name, str)]:
        raise UnfitFrame(f"the frame for {table.fullname} has the column {odd[0]!r}: column names must be text.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UnfitFrame(f"the frame for {table.fullname} has the column {twice} twice.")
    if unknown := sorted(set(names) - set(target.written)):
        raise UnfitFrame(
            f"the frame for {table.fullname} has the column {', '.join(unknown)}, which the table lacks: leave it out, "
            "or add it to the table."
        )
    optional = {
        column.name for column in table.columns if column.server_default is not None or column.identity is not None
    }
    if lacking := sorted(set(target.written) - {OBSERVED_AT} - optional - set(names)):
        raise UnfitFrame(
            f"the frame for {table.fullname} lacks the column {', '.join(lacking)}: add it, with None for no value."
        )
    for name in names:
        _check_values(table, name, frame[name])


def _check_values(table: sa.Table, name: str, values: pd.Series[Any]) -> None:
    kind = table.c[name].type
    if not table.c[name].nullable and values.isna().any():
        raise UnfitFrame(
            f"the column {name} for {table.fullname} has no value in row {int(values.isna().argmax())} of the frame, "
            "and the table requires one."
        )
    if isinstance(kind, sa.DateTime):
        aware = isinstance(values.dtype, pd.DatetimeTZDtype)
        naive = pd.api.types.is_datetime64_dtype(values.dtype)
        if not aware and not naive:
            zones = {value.tzinfo is not None for value in values if isinstance(value, datetime) and not pd.isna(value)}
            aware, naive = True in zones, False in zones
        if kind.timezone and naive:
            raise UnfitFrame(
                f"the column {name} for {table.fullname} has times without a zone, and Postgres would assume one: "
                "use tz_localize."
            )
        if not kind.timezone and aware:
            raise UnfitFrame(
                f"the column {name} for {table.fullname} has times with a zone, and the table's column is timestamp "
                "without time zone: use tz_convert and tz_localize(None), or make it timestamptz."
            )
    has_fractions = pd.api.types.is_float_dtype(values.dtype) and not (values.dropna() % 1 == 0).all()
    if isinstance(kind, sa.Integer) and has_fractions:
        raise UnfitFrame(f"the column {name} for {table.fullname} has fractions, and the table's column is integer.")


def windows_of(context: dg.OutputContext) -> list[Window]:
    """The windows of the output's partitions, in order; none if it is not partitioned by time windows."""
    if not context.has_asset_partitions:
        return []
    definition = context.asset_partitions_def
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return []
    spans = {key: definition.time_window_for_partition_key(key) for key in context.asset_partition_keys}
    return sorted(Window(span.start.astimezone(UTC), span.end.astimezone(UTC), key) for key, span in spans.items())


def _window_index(context: dg.OutputContext, windows: Sequence[Window], column: pd.Series[Any]) -> list[int]:
    days = {_local(context, window.start).date(): index for index, window in enumerate(windows)}
    starts = [window.start for window in windows]

    def index(value: object) -> int:
        if isinstance(value, datetime) and value.tzinfo is not None:
            return max(0, bisect.bisect_right(starts, value) - 1)
        # pandas stores a day as a time without a zone.
        day = value.date() if isinstance(value, datetime) and not pd.isna(value) else value
        return days.get(day, 0) if isinstance(day, date) else 0

    return [index(value) for value in column]


def _replaced(
    context: dg.OutputContext,
    target: DestinationTable,
    column: str,
    frame: pd.DataFrame,
    windows: Sequence[Window],
    observed_at: datetime,
) -> ReplaceRange:
    """The range that the frame replaces. Raises `UnfitFrame` if a row of the frame is outside of it."""
    kind = target.table.c[column].type
    starts: dict[Any, int]
    first: Any
    last: Any
    if isinstance(kind, sa.Date):
        starts = {_local(context, window.start).date(): index for index, window in enumerate(windows)}
        first, last = min(starts), (_local(context, windows[-1].end) - timedelta(microseconds=1)).date()
        values: Any = pd.to_datetime(frame[column]).dt.date if len(frame) else frame[column]
    else:
        # Both ends are part of the range, and Postgres stores microseconds.
        starts, first, last = {}, windows[0].start, windows[-1].end - timedelta(microseconds=1)
        values = frame[column]
        if isinstance(kind, sa.DateTime) and not kind.timezone:
            first, last = (_local(context, moment).replace(tzinfo=None) for moment in (first, last))
    outside = [value for value in values if pd.isna(value) or not first <= value <= last]
    if outside:
        raise UnfitFrame(
            f"the frame for {target.table.fullname} has {column} {outside[0]}, which is outside of the windows "
            f"{windows[0].key} to {windows[-1].key} that it replaces."
        )
    return ReplaceRange(column, first, last, observed_at, starts)


def _local(context: dg.OutputContext, moment: datetime) -> datetime:
    definition = context.asset_partitions_def
    zone = definition.timezone if isinstance(definition, dg.TimeWindowPartitionsDefinition) else "UTC"
    local: datetime = pd.Timestamp(moment).tz_convert(zone).to_pydatetime()
    return local
