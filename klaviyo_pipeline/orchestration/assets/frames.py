"""Records and report rows as DataFrames with typed columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from klaviyo_pipeline.klaviyo.records import Column
from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT
from klaviyo_pipeline.postgres.write.staging import WINDOW

UTC_MICROSECONDS = "datetime64[us, UTC]"

_DTYPES = {
    "text": "object",
    "texts": "object",
    "label": "object",
    "int": "object",
    "json": "object",
    "bool": "boolean",
    "time": UTC_MICROSECONDS,
}


def filled_columns(columns: Sequence[Column]) -> tuple[str, ...]:
    """The columns of the table that `record_frame` fills."""
    return (*(column.name for column in columns), "deleted_at", OBSERVED_AT)


def record_frame(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    observed: Sequence[datetime],
    windows: Sequence[int] | None = None,
) -> pd.DataFrame:
    """One row for each record, with `observed_at` and, for windowed loads, the index of its window.

    `deleted_at` is NULL in every row, because an object that Klaviyo returns exists.
    """
    series: dict[str, Any] = {
        column.name: _series([row[column.name] for row in rows], _DTYPES[column.kind]) for column in columns
    }
    series["deleted_at"] = _series([None] * len(rows), UTC_MICROSECONDS)
    series[OBSERVED_AT] = _series(list(observed), UTC_MICROSECONDS)
    if windows is not None:
        series[WINDOW] = pd.Series(list(windows), dtype="int32")
    return pd.DataFrame(series)


def table_frame(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """Rows as a frame of Python objects, so that numbers stay exact Decimals."""
    return pd.DataFrame([[row[name] for name in names] for row in rows], columns=pd.Index(names), dtype=object)


def _series(values: list[Any], dtype: str) -> pd.Series[Any]:
    if dtype == UTC_MICROSECONDS:
        return pd.Series(pd.array(values, dtype=pd.DatetimeTZDtype("us", "UTC")))
    return pd.Series(values, dtype=dtype)
