"""The IO manager in real Dagster runs: frames are written into the tables of migrations and read back."""

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.orchestration.step_errors import step_errors
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.write.io_manager import PostgresIOManager
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.windows import Window
from klaviyo_pipeline_tests.postgres.store import SLUG, Store, flow, frame, minute

ORDERS = """
CREATE TABLE orders (number int PRIMARY KEY, day date NOT NULL, total numeric(10, 2), placed_at timestamptz);
CREATE TABLE totals ("the day" date PRIMARY KEY, total numeric);
"""
DAYS = dg.DailyPartitionsDefinition("2025-03-28", timezone="Europe/Berlin")
"""The clocks change on the third day."""


@pytest.fixture
def shop(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with the user's own tables, created by an additional migration."""
    folder = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    number = len(list(folder.glob("*.sql"))) + 1
    (folder / f"{number:03}_orders.sql").write_text(ORDERS)
    migrate(store.dsn, SLUG, folder)
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", store.dsn)
    return store


def run(
    *assets: dg.AssetsDefinition, days: tuple[str, str] | None = None, succeeds: bool = True, **options: Any
) -> dg.ExecuteInProcessResult:
    """Materialize assets in one run, for a range of days if given."""
    tags = dict(
        zip(("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"), days or (), strict=False)
    )
    result = dg.materialize(
        list(assets),
        resources={"postgres": PostgresIOManager()},
        tags=tags,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        **options,
    )
    assert result.success == succeeds
    return result


def materializations(result: dg.ExecuteInProcessResult) -> list[dg.AssetMaterialization]:
    """The materializations of the run's tables and windows, in order."""
    return [
        event.step_materialization_data.materialization
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
    ]


def order(number: int, day: str, total: str = "1.00", hour: int = 12) -> dict[str, Any]:
    placed = pd.Timestamp(f"{day} {hour}:00", tz="Europe/Berlin")
    return {"number": number, "day": date.fromisoformat(day), "total": Decimal(total), "placed_at": placed}


def orders(*rows: dict[str, Any], by: str = "day", **metadata: Any) -> dg.AssetsDefinition:
    """The table of orders as an asset partitioned by day."""

    @dg.asset(
        key=[SLUG, "orders"],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="postgres",
        metadata={"partition_expr": by, **metadata},
    )
    def made() -> pd.DataFrame:
        return pd.DataFrame(list(rows), columns=["number", "day", "total", "placed_at"])

    return made


def numbers(store: Store) -> list[Any]:
    return store.values("SELECT number FROM orders ORDER BY 1")


def test_a_plain_frame_is_merged_into_the_table_of_the_asset_key(shop: Store) -> None:
    @dg.asset(key=["any_prefix", SLUG, "totals"], io_manager_key="postgres")
    def totals() -> pd.DataFrame:
        return pd.DataFrame({"the day": [date(2025, 3, 28), date(2025, 3, 29)], "total": [0.1, None]})

    result = run(totals)
    assert shop.rows("SELECT * FROM totals ORDER BY 1") == [
        (date(2025, 3, 28), Decimal("0.1")),
        (date(2025, 3, 29), None),
    ]
    [reported] = materializations(result)
    assert {name: value.value for name, value in reported.metadata.items() if name != "seconds"} == {
        "dagster/row_count": 2,
        "rows_fetched": 2,
        "rows_inserted": 2,
        "rows_updated": 0,
        "rows_deleted": 0,
    }
    before = shop.versions("totals")
    run(totals)
    assert shop.versions("totals") == before
    assert shop.value("SELECT count(*) FROM sync_windows") == 0


def test_every_window_of_a_partitioned_frame_has_its_own_counts_in_the_ledger(shop: Store) -> None:
    rows = [order(1, "2025-03-29"), order(2, "2025-03-30", hour=23), order(3, "2025-03-30", hour=0)]
    run(orders(*rows), days=("2025-03-29", "2025-03-31"))
    assert numbers(shop) == [1, 2, 3]
    assert shop.ledger("orders", "window_start", "window_end - window_start", "status", "rows_fetched") == [
        (datetime(2025, 3, 28, 23, tzinfo=UTC), timedelta(hours=24), "synced", 1),
        (datetime(2025, 3, 29, 23, tzinfo=UTC), timedelta(hours=23), "synced", 2),
        (datetime(2025, 3, 30, 22, tzinfo=UTC), timedelta(hours=24), "synced", 0),
    ]


def test_rows_are_assigned_to_windows_by_a_time_column_too(shop: Store) -> None:
    rows = [order(1, "2025-03-30", hour=0), order(2, "2025-03-30", hour=23), order(3, "2025-03-31", hour=0)]
    run(orders(*rows, by="placed_at"), days=("2025-03-30", "2025-03-31"))
    assert shop.ledger("orders", "rows_fetched") == [(2,), (1,)]


def test_days_that_pandas_stores_as_timestamps_are_days(shop: Store) -> None:
    rows = [{**order(n, day), "day": pd.Timestamp(day)} for n, day in enumerate(["2025-03-29", "2025-03-30"])]
    run(orders(*rows), days=("2025-03-29", "2025-03-30"))
    assert shop.ledger("orders", "rows_fetched") == [(1,), (1,)]


def test_the_days_of_a_window_are_replaced_with_replace_windows(shop: Store) -> None:
    days = ("2025-03-29", "2025-03-30")
    run(orders(order(1, "2025-03-28"), replace_windows=True), partition_key="2025-03-28")
    run(orders(order(2, "2025-03-29"), order(3, "2025-03-30"), replace_windows=True), days=days)
    run(orders(order(4, "2025-03-30"), replace_windows=True), days=days)
    assert numbers(shop) == [1, 4]
    assert shop.ledger("orders", "rows_deleted", "rows_inserted") == [(0, 1), (1, 0), (1, 1)]


def test_the_rows_of_a_window_stay_without_replace_windows(shop: Store) -> None:
    run(orders(order(1, "2025-03-29")), partition_key="2025-03-29")
    run(orders(order(2, "2025-03-29")), partition_key="2025-03-29")
    assert numbers(shop) == [1, 2]


def reader(seen: list[pd.DataFrame], **options: Any) -> dg.AssetsDefinition:
    """An asset downstream of the orders that keeps its input in `seen`."""

    def reading(orders: pd.DataFrame) -> None:
        seen.append(orders)

    made: dg.AssetsDefinition = dg.asset(ins={"orders": dg.AssetIn(key=[SLUG, "orders"])}, **options)(reading)
    return made


WEEK = [f"2025-03-{number}" for number in (28, 29, 30, 31)]


@pytest.mark.parametrize("by", ["day", "placed_at"])
def test_a_window_is_read_back(shop: Store, by: str) -> None:
    made = orders(
        *(order(n, day, hour=hour) for n, (day, hour) in enumerate((d, h) for d in WEEK for h in (0, 23))), by=by
    )
    run(made, days=(WEEK[0], WEEK[-1]))
    seen: list[pd.DataFrame] = []
    run(made, reader(seen, partitions_def=DAYS), partition_key=WEEK[2], selection="reading")
    assert list(seen[0]["number"]) == [4, 5]


@pytest.mark.parametrize("by", ["day", "placed_at"])
def test_a_range_of_windows_is_read_back(shop: Store, by: str) -> None:
    made = orders(*(order(n, day) for n, day in enumerate(WEEK)), by=by)
    run(made, days=(WEEK[0], WEEK[-1]))
    seen: list[pd.DataFrame] = []
    downstream = reader(seen, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    run(made, downstream, days=(WEEK[1], WEEK[2]), selection="reading")
    assert list(seen[0]["number"]) == [1, 2]


def test_an_asset_without_windows_reads_the_whole_table_in_order(shop: Store) -> None:
    made = orders(*(order(n, day) for n, day in reversed(list(enumerate(WEEK)))))
    run(made, days=(WEEK[0], WEEK[-1]))
    seen: list[pd.DataFrame] = []
    run(made, reader(seen), selection="reading")
    assert list(seen[0]["number"]) == [0, 1, 2, 3]


def test_a_frame_that_is_read_has_the_types_of_the_table(shop: Store) -> None:
    made = orders(order(1, WEEK[0], "0.10"), {**order(2, WEEK[0]), "total": None, "placed_at": None})
    run(made, partition_key=WEEK[0])
    seen: list[pd.DataFrame] = []
    run(made, reader(seen, partitions_def=DAYS), partition_key=WEEK[0], selection="reading")
    read = seen[0]
    assert list(read.columns) == ["number", "day", "total", "placed_at"]
    assert str(read["placed_at"].dtype) == "datetime64[us, UTC]"
    assert list(read["total"]) == [Decimal("0.10"), None]
    assert list(read["day"]) == [date(2025, 3, 28)] * 2
    assert read["placed_at"][0] == pd.Timestamp("2025-03-28 11:00", tz="UTC")
    assert read["placed_at"][1] is pd.NaT


def test_an_empty_window_is_read_as_a_frame_with_every_column(shop: Store) -> None:
    made = orders()
    run(made, partition_key=WEEK[0])
    seen: list[pd.DataFrame] = []
    run(made, reader(seen, partitions_def=DAYS), partition_key=WEEK[0], selection="reading")
    assert (len(seen[0]), list(seen[0].columns)) == (0, ["number", "day", "total", "placed_at"])
    assert str(seen[0]["placed_at"].dtype) == "datetime64[us, UTC]"


def test_a_table_without_windows_of_its_own_needs_no_column_for_them(shop: Store) -> None:
    @dg.asset(key=[SLUG, "flows"], io_manager_key="postgres")
    def flows() -> pd.DataFrame:
        empty = dict.fromkeys(("status", "trigger_type", "created_at", "updated_at", "deleted_at"))
        return frame([{"id": "a", "name": "Welcome", "archived": None, "raw": {"a": 1}, **empty}])

    seen: list[pd.DataFrame] = []

    @dg.asset(ins={"flows": dg.AssetIn(key=[SLUG, "flows"])})
    def reading(flows: pd.DataFrame) -> None:
        seen.append(flows)

    run(flows, reading)
    assert seen[0]["raw"][0] == {"a": 1}
    assert str(seen[0]["archived"].dtype) == "boolean"
    assert shop.value("SELECT now() - observed_at < interval '5 minutes' FROM flows") is True


def test_another_table_of_the_schema_can_be_written(shop: Store) -> None:
    @dg.asset(key=[SLUG, "orders_census"], io_manager_key="postgres", metadata={"table": "orders"})
    def census() -> pd.DataFrame:
        return pd.DataFrame([order(1, WEEK[0])])

    run(census)
    assert numbers(shop) == [1]


def error_of(result: dg.ExecuteInProcessResult) -> str:
    [failed] = [event for event in result.all_events if event.is_step_failure]
    return step_errors(failed)[-1].message


def test_a_frame_that_the_table_refuses_is_rolled_back_and_the_ledger_has_the_error(shop: Store) -> None:
    result = run(
        orders(order(1, WEEK[0]), {**order(2, WEEK[1]), "total": Decimal("1e20")}),
        days=(WEEK[0], WEEK[1]),
        succeeds=False,
    )
    assert numbers(shop) == []
    assert [status for (status,) in shop.ledger("orders", "status")] == ["failed", "failed"]
    [(reason, run_id), _] = shop.ledger("orders", "error", "run_id")
    assert "numeric field overflow" in reason
    assert "\n" not in reason
    assert run_id == result.run_id


def test_a_failed_attempt_at_synced_windows_leaves_their_rows_and_status(shop: Store) -> None:
    run(orders(order(1, WEEK[0])), partition_key=WEEK[0])
    run(orders({**order(1, WEEK[0]), "total": Decimal("1e20")}), partition_key=WEEK[0], succeeds=False)
    assert numbers(shop) == [1]
    assert shop.ledger("orders", "status", "attempts", "error IS NULL") == [("synced", 2, False)]


def window_of(key: str) -> Window:
    span = DAYS.time_window_for_partition_key(key)
    return Window(span.start.astimezone(UTC), span.end.astimezone(UTC), key)


@pytest.mark.parametrize("how", ["the API", "the table"])
def test_synced_windows_are_materialized_although_the_run_fails(shop: Store, how: str) -> None:
    windows = [window_of(key) for key in WEEK]

    def batches() -> Iterator[Batch]:
        for place, window in enumerate(windows[:3]):
            row = flow(f"f{place}", minute(0), _window=place)
            if place == 2:
                if how == "the API":
                    raise ConnectionError("Klaviyo does not answer")
                row["raw"] = None
            yield Batch(frame([row]), [CompletedWindow(window, minute(0), 1)])

    @dg.asset(
        key=[SLUG, "flows"],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="postgres",
    )
    def flows() -> Load:
        return Load(batches(), windows)

    result = run(flows, days=(WEEK[0], WEEK[-1]), succeeds=False)
    done = materializations(result)
    assert [one.partition for one in done] == WEEK[:2]
    assert [one.metadata["rows_inserted"].value for one in done] == [1, 1]
    assert [status for (status,) in shop.ledger("flows", "status")] == ["synced", "synced", "failed", "failed"]
    assert shop.values("SELECT id FROM flows ORDER BY 1") == ["f0", "f1"]
    reason = "Klaviyo does not answer" if how == "the API" else "null value in column"
    assert reason in shop.ledger("flows", "error")[-1][0]
    assert reason in error_of(result)


def test_a_table_that_no_migration_made_is_reported_with_the_remedy(shop: Store) -> None:
    @dg.asset(key=[SLUG, "nowhere"], io_manager_key="postgres")
    def nowhere() -> pd.DataFrame:
        return pd.DataFrame({"id": [1]})

    assert "run `klaviyo-pipeline migrate` first" in error_of(run(nowhere, succeeds=False))


def test_an_asset_key_without_a_schema_is_reported(shop: Store) -> None:
    @dg.asset(io_manager_key="postgres")
    def alone() -> pd.DataFrame:
        return pd.DataFrame({"id": [1]})

    assert "alone names no schema" in error_of(run(alone, succeeds=False))


def test_a_partitioned_table_without_a_column_for_its_windows_cannot_be_read_by_window(shop: Store) -> None:
    @dg.asset(key=[SLUG, "orders"], partitions_def=DAYS, io_manager_key="postgres")
    def made() -> pd.DataFrame:
        return pd.DataFrame([order(1, WEEK[0])])

    seen: list[pd.DataFrame] = []
    result = run(made, reader(seen, partitions_def=DAYS), partition_key=WEEK[0], succeeds=False)
    assert "is partitioned but has no partition_expr" in error_of(result)
    assert shop.ledger("orders", "status", "rows_fetched") == [("synced", 1)]
