"""The Postgres IO manager: writes DataFrames into the tables of the migrations, and reads them back.

The asset key names the table: `klaviyo/flows` is `klaviyo.flows`. An output is a `Load` (batches of frames) or a
plain DataFrame, which is merged by the table's primary key. Metadata of the asset configures it: `partition_expr` names
the column whose values assign rows to windows, for reading a window back and, with `replace_windows`, for replacing the
days of a window as a whole; `table` names another table of the schema.
"""

import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa
from dagster import DagsterEvent

from klaviyo_pipeline.klaviyo.errors import Stopped
from klaviyo_pipeline.postgres.engine import reason
from klaviyo_pipeline.postgres.ledger import Ledger, SyncedWindow
from klaviyo_pipeline.postgres.schema.tables import DestinationTable, reflect
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.merge import ReplaceRange
from klaviyo_pipeline.postgres.write.staging import WINDOW
from klaviyo_pipeline.postgres.write.writer import Writer
from klaviyo_pipeline.windows import Window

PARTITION_EXPR = "partition_expr"
REPLACE_WINDOWS = "replace_windows"
TABLE = "table"

INTERRUPTS = (KeyboardInterrupt, dg.DagsterExecutionInterruptedError, Stopped)


class PostgresIOManager(dg.ConfigurableIOManager):
    """Writes and reads the tables of the warehouse.

    A batch is one transaction: if it fails, it is rolled back, and the ledger records every window that is not yet
    synced as `failed`, with the error.
    """

    warehouse: dg.ResourceDependency[Warehouse]

    def handle_output(  # type: ignore[override]  # a generator: the events of a failing write are kept
        self, context: dg.OutputContext, obj: Load | pd.DataFrame
    ) -> Iterator[DagsterEvent]:
        """Write the load. If it fails, its synced windows are still reported as materialized: those that it committed,
        and those that were synced before. Otherwise Dagster shows them as failed.
        """
        schema, name = _table_to_write(context)
        with self.warehouse.engine(schema) as engine:
            with engine.connect() as connection:
                target = reflect(connection, schema, name, obj.filled if isinstance(obj, Load) else ())
                observed_at = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            load = obj if isinstance(obj, Load) else _load_of(context, target, obj, observed_at)
            writer = Writer(engine, target, Ledger(schema, name), load, context.run_id)
            try:
                writer.run()
            except INTERRUPTS:
                # A cancelled run is no failed attempt: the ledger keeps its committed windows, and no error.
                for window in [*writer.synced, *_synced_before(context, writer)]:
                    yield _materialization(context, window)
                raise
            except BaseException as error:
                _note_failure(context, writer, error)
                for window in [*writer.synced, *_synced_before(context, writer)]:
                    yield _materialization(context, window)
                # Dagster would wrap another error into one that says that writing failed. Most often fetching did.
                raise dg.Failure(reason(error)) from error
            context.add_output_metadata(_metadata(engine, target, writer))

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """The table, or the rows of the input's windows, as a DataFrame with the table's columns."""
        schema, name = table_of(context.asset_key)
        with self.warehouse.engine(schema) as engine, engine.connect() as connection:
            target = reflect(connection, schema, name)
            query = sa.select(target.table).order_by(*target.table.primary_key)
            if context.has_asset_partitions:
                query = query.where(_in_windows(context, target))
            return _frame(connection, query)


def table_of(key: dg.AssetKey) -> tuple[str, str]:
    """The schema and table of an asset key: its last two parts."""
    if len(key.path) < 2:
        raise ValueError(f"asset key {key.to_user_string()} names no schema; write the key as [schema, table].")
    return key.path[-2], key.path[-1]


def _table_to_write(context: dg.OutputContext) -> tuple[str, str]:
    schema, name = table_of(context.asset_key)
    return schema, str((context.definition_metadata or {}).get(TABLE, name))


def _load_of(context: dg.OutputContext, target: DestinationTable, frame: pd.DataFrame, observed_at: datetime) -> Load:
    """A plain DataFrame as a load of one batch, observed now unless it has its own observation times."""
    if target.is_observed and "observed_at" not in frame.columns:
        frame = frame.assign(observed_at=observed_at)
    windows = _windows(context)
    if not windows:
        return Load([Batch(frame)])
    column = (context.definition_metadata or {}).get(PARTITION_EXPR)
    if column is not None and WINDOW not in frame.columns:
        frame = frame.assign(**{WINDOW: _window_index(context, windows, frame[str(column)])})
    replaces = None
    if (context.definition_metadata or {}).get(REPLACE_WINDOWS):
        days = {_first_day(context, window): index for index, window in enumerate(windows)}
        replaces = ReplaceRange(str(column), min(days), max(days), observed_at, days)
    batch = Batch(frame, [CompletedWindow(window, observed_at, 0) for window in windows], replaces)
    return Load([batch], windows)


def _windows(context: dg.OutputContext) -> list[Window]:
    if not context.has_asset_partitions:
        return []
    definition = context.asset_partitions_def
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return []
    spans = {key: definition.time_window_for_partition_key(key) for key in context.asset_partition_keys}
    return sorted(Window(span.start.astimezone(UTC), span.end.astimezone(UTC), key) for key, span in spans.items())


def _window_index(context: dg.OutputContext, windows: Sequence[Window], column: "pd.Series[Any]") -> list[int]:
    days = {_first_day(context, window): index for index, window in enumerate(windows)}
    starts = [window.start for window in windows]

    def index(value: object) -> int:
        if isinstance(value, datetime) and value.tzinfo is not None:
            return max(0, bisect.bisect_right(starts, value) - 1)
        # pandas stores a day as a time without a zone.
        day = value.date() if isinstance(value, datetime) and not pd.isna(value) else value
        return days.get(day, 0) if isinstance(day, date) else 0

    return [index(value) for value in column]


def _first_day(context: dg.OutputContext, window: Window) -> date:
    definition = context.asset_partitions_def
    zone = definition.timezone if isinstance(definition, dg.TimeWindowPartitionsDefinition) else "UTC"
    return pd.Timestamp(window.start).tz_convert(zone).date()


def _in_windows(context: dg.InputContext, target: DestinationTable) -> sa.ColumnElement[bool]:
    metadata = context.upstream_output.definition_metadata if context.upstream_output else {}
    name = (metadata or {}).get(PARTITION_EXPR)
    if name is None:
        raise ValueError(f"asset {context.asset_key.to_user_string()} is partitioned but has no {PARTITION_EXPR}.")
    column = target.table.c[str(name)]
    span = context.asset_partitions_time_window
    if isinstance(column.type, sa.Date):
        return sa.and_(column >= span.start.date(), column < span.end.date())
    return sa.and_(column >= span.start.astimezone(UTC), column < span.end.astimezone(UTC))


def _frame(connection: sa.Connection, query: sa.Select[Any]) -> pd.DataFrame:
    """Rows as a frame: times as UTC datetimes, booleans as nullable booleans, numerics as Decimals."""
    result = connection.execute(query)
    frame = pd.DataFrame(result.all(), columns=pd.Index(list(result.keys())), dtype=object)
    for column in query.selected_columns:
        if isinstance(column.type, sa.DateTime):
            frame[column.name] = pd.to_datetime(frame[column.name], utc=True).astype("datetime64[us, UTC]")
        elif isinstance(column.type, sa.Boolean):
            frame[column.name] = frame[column.name].astype("boolean")
    return frame


def _note_failure(context: dg.OutputContext, writer: Writer, error: BaseException) -> None:
    message = reason(error)
    try:
        writer.record_failure(message)
        writer.load.on_failed(message)
    except Exception as second:  # the first error is the one to report
        context.log.warning(f"the failure could not be recorded in the ledger: {type(second).__name__}")


def _synced_before(context: dg.OutputContext, writer: Writer) -> list[SyncedWindow]:
    """The windows that this load has not written and that the ledger has as synced from an earlier attempt."""
    try:
        with writer.engine.connect() as connection:
            return writer.ledger.synced(connection, writer.open_windows)
    except sa.exc.SQLAlchemyError as error:  # the first error is the one to report
        context.log.warning(f"the windows that were synced before could not be read: {type(error).__name__}")
        return []


def _metadata(engine: sa.Engine, target: DestinationTable, writer: Writer) -> Mapping[str, Any]:
    with engine.connect() as connection:
        rows = connection.execute(sa.select(sa.func.count()).select_from(target.table)).scalar_one()
    return {
        "dagster/row_count": rows,
        "rows_fetched": writer.rows_fetched,
        "rows_inserted": writer.total.inserted,
        "rows_updated": writer.total.updated,
        "rows_deleted": writer.total.deleted,
        "seconds": writer.seconds,
    }


def window_metadata(synced: SyncedWindow) -> dict[str, Any]:
    """The metadata of a window, which the UI plots."""
    newest = {"newest_updated": dg.MetadataValue.timestamp(synced.newest)} if synced.newest else {}
    return {
        "dagster/partition_row_count": synced.rows_fetched,
        "rows_fetched": synced.rows_fetched,
        "rows_inserted": synced.row_counts.inserted,
        "rows_updated": synced.row_counts.updated,
        "rows_unchanged": synced.rows_unchanged,
        "rows_deleted": synced.row_counts.deleted,
        "requests": synced.requests,
        **newest,
    }


def report_partitions(context: dg.AssetExecutionContext) -> Callable[[SyncedWindow], None]:
    """Gives each window of a run its own metadata: otherwise all partitions of a range have the same."""
    return lambda synced: context.add_asset_metadata(window_metadata(synced), partition_key=synced.window.key)


def _materialization(context: dg.OutputContext, synced: SyncedWindow) -> DagsterEvent:
    return DagsterEvent.asset_materialization(
        context.step_context,
        dg.AssetMaterialization(context.asset_key, partition=synced.window.key, metadata=window_metadata(synced)),
    )
