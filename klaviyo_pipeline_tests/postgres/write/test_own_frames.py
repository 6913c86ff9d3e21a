"""Frames of other people's assets: tables that the first write creates, odd values, and frames that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import psycopg
import pytest

from klaviyo_pipeline.orchestration.step_errors import step_errors
from klaviyo_pipeline.postgres.write.io_manager import PostgresIOManager

DAYS = dg.DailyPartitionsDefinition("2025-03-28", timezone="Europe/Berlin")
HOURS = dg.HourlyPartitionsDefinition("2025-03-28-00:00", timezone="Europe/Berlin")
Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run(database: str) -> Run:
    """Materializes assets into an empty database, through an IO manager that has only its URL."""

    def materialize(
        *assets: dg.AssetsDefinition, range: tuple[str, str] | None = None, **options: Any
    ) -> dg.ExecuteInProcessResult:
        tags = {
            f"dagster/asset_partition_range_{end}": key for end, key in zip(("start", "end"), range or (), strict=False)
        }
        return dg.materialize(
            list(assets),
            resources={"tables": PostgresIOManager(database_url=database)},
            tags=tags,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            **options,
        )

    return materialize


@pytest.fixture
def rows(database: str) -> Callable[[str], list[tuple[Any, ...]]]:
    def read(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(database) as connection:
            return connection.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]

    return read


def asset(frame: pd.DataFrame | object, name: str = "orders", **options: Any) -> dg.AssetsDefinition:
    metadata = {"primary_key": "id", **options.pop("metadata", {})}

    @dg.asset(key=["analytics", name], io_manager_key="tables", metadata=metadata, **options)
    def made() -> Any:
        return frame

    return made


def error_of(result: dg.ExecuteInProcessResult) -> str:
    [failed] = [event for event in result.all_events if event.is_step_failure]
    line = step_errors(failed)[-1].text
    assert "\n" not in line
    return line


SHAPES = pd.DataFrame(
    {
        "id": [1, 2],
        "gaps": pd.array([7, None], dtype="Int64"),
        "share": [0.1, np.nan],
        "exact": [Decimal("0.10"), None],
        "large": [2**70, 1],
        "flag": pd.array([True, None], dtype="boolean"),
        "name": ["ä", None],
        "day": [date(2025, 3, 30), None],
        "placed_at": pd.to_datetime(["2025-03-30 01:30", None]).tz_localize("UTC").tz_convert("Asia/Tokyo"),
        "local": pd.to_datetime(["2025-03-30 02:30", None]),
        "document": [{"a": [1, None]}, None],
    }
)


def test_the_first_write_creates_the_table_with_the_types_of_the_frame_and_it_is_read_back(
    run: Run, rows: Callable[[str], list[tuple[Any, ...]]]
) -> None:
    seen: list[pd.DataFrame] = []

    @dg.asset(ins={"orders": dg.AssetIn(key=["analytics", "orders"])})
    def reading(orders: pd.DataFrame) -> None:
        seen.append(orders)

    assert run(asset(SHAPES), reading).success
    assert run(asset(SHAPES)).success
    types = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'orders' ORDER BY 1"
    assert dict(rows(types)) == {
        "id": "bigint",
        "gaps": "bigint",
        "share": "double precision",
        "exact": "numeric",
        "large": "numeric",
        "flag": "boolean",
        "name": "text",
        "day": "date",
        "placed_at": "timestamp with time zone",
        "local": "timestamp without time zone",
        "document": "jsonb",
    }
    [first, second] = rows("SELECT * FROM analytics.orders ORDER BY id")
    assert first[1:8] == (7, 0.1, Decimal("0.10"), 2**70, True, "ä", date(2025, 3, 30))
    assert (first[8].timestamp(), first[9]) == (1743298200.0, datetime(2025, 3, 30, 2, 30))
    assert first[10] == {"a": [1, None]}
    assert second == (2, None, None, None, 1, None, None, None, None, None, None)
    read = seen[0]
    assert list(read["gaps"]) == [7, None]
    assert read["exact"][0] == Decimal("0.10")
    assert read["placed_at"][0] == SHAPES["placed_at"][0]


def test_a_frame_is_merged_by_key_and_an_empty_one_changes_nothing(
    run: Run, rows: Callable[[str], list[tuple[Any, ...]]]
) -> None:
    assert run(asset(pd.DataFrame({"id": [1, 2], "n": [1.0, np.nan]}))).success
    assert run(asset(pd.DataFrame({"id": [2, 3], "n": [2, 3]}))).success
    assert run(asset(pd.DataFrame({"id": [], "n": []}))).success
    assert rows("SELECT * FROM analytics.orders ORDER BY 1") == [(1, 1.0), (2, 2.0), (3, 3.0)]


@pytest.mark.parametrize(("column", "plan"), [("day", DAYS), ("at", HOURS), ("local", DAYS)])
def test_a_window_or_a_range_is_replaced_and_read_back(
    run: Run, rows: Callable[[str], list[tuple[Any, ...]]], column: str, plan: dg.TimeWindowPartitionsDefinition
) -> None:
    keys = [plan.start.strftime(plan.fmt), *plan.get_partition_keys()[1:3]]
    starts = [plan.time_window_for_partition_key(key).start for key in keys]

    def of(*numbers: int) -> dg.AssetsDefinition:
        at = pd.Series([starts[number % 3] for number in numbers])
        frame = pd.DataFrame({"id": numbers, "at": at, "local": at.dt.tz_localize(None), "day": at.dt.date})
        options = {"partitions_def": plan, "backfill_policy": dg.BackfillPolicy.single_run()}
        return asset(frame, metadata={"partition_expr": column, "replace_windows": True}, **options)

    seen: list[pd.DataFrame] = []

    @dg.asset(
        ins={"orders": dg.AssetIn(key=["analytics", "orders"])},
        partitions_def=plan,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def reading(orders: pd.DataFrame) -> None:
        seen.append(orders)

    assert run(of(0, 1, 2), range=(keys[0], keys[2])).success
    assert run(of(4, 5), range=(keys[1], keys[2])).success
    assert rows("SELECT id FROM analytics.orders ORDER BY 1") == [(0,), (4,), (5,)]
    assert run(of(0), reading, range=(keys[0], keys[1]), selection="reading").success
    assert list(seen[0]["id"]) == [0, 4]
    assert "outside of the windows" in error_of(run(of(3, 4), partition_key=keys[0]))
    assert rows("SELECT id FROM analytics.orders ORDER BY 1") == [(0,), (4,), (5,)]


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (pd.DataFrame({"id": [3], "at": [pd.Timestamp("2025-01-01", tz="UTC")]}), "lacks the column n"),
        (pd.DataFrame({"id": [3], "n": [1], "at": None, "more": [1]}), "has the column more, which the table lacks"),
        (pd.DataFrame({"id": [3], "n": [1.5], "at": None}), "the column n for analytics.orders has fractions"),
        (pd.DataFrame({"id": [3], "n": [1], "at": [pd.Timestamp("2025-01-01")]}), "has times without a zone"),
        (pd.DataFrame({"id": [None], "n": [1], "at": None}), "has no value in row 0 of the frame"),
        (pd.DataFrame({"id": [3], "n": ["x"], "at": None}), ""),
        ([1, 2], "analytics/orders returns list, but its IO manager writes pandas DataFrames"),
    ],
)
def test_a_frame_that_does_not_fit_is_one_line_and_nothing_is_written(
    run: Run, rows: Callable[[str], list[tuple[Any, ...]]], frame: object, line: str
) -> None:
    made = pd.DataFrame({"id": [1], "n": [1], "at": [pd.Timestamp("2025-01-01", tz="UTC")]})
    assert run(asset(made)).success
    assert line in error_of(run(asset(frame)))
    assert rows("SELECT id FROM analytics.orders") == [(1,)]


def test_a_table_that_nobody_created_is_reported_and_a_column_of_no_type_creates_none(
    run: Run, rows: Callable[[str], list[tuple[Any, ...]]]
) -> None:
    unknown = pd.DataFrame({"id": [1]})
    assert "create it, or name its primary_key" in error_of(run(asset(unknown, metadata={"primary_key": None})))
    mixed = pd.DataFrame({"id": [1, 2], "odd": pd.Series(["x", 1], dtype=object)})
    assert "the column odd" in error_of(run(asset(mixed)))
    assert rows("SELECT 1 FROM pg_namespace WHERE nspname = 'analytics'") == []
