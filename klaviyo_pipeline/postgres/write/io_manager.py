"""The Postgres IO manager: writes DataFrames into tables, and reads them back.

The asset key names the table: `klaviyo/flows` is `klaviyo.flows`. An output is a `Load` (batches of frames) or a
plain DataFrame, which is merged by the table's primary key. Metadata of the asset configures it:

- `schema` and `table` name the table, if the key does not.
- `primary_key` (a column, or a list of them) lets the first write create the table, from the types of the frame.
- `partition_expr` names the column whose values assign rows to windows. A window is read back by this column, and with
  `replace_windows`, its rows are replaced as a whole.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

import dagster as dg
import pandas as pd
import sqlalchemy as sa
from dagster import DagsterEvent

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.errors import Stopped
from klaviyo_pipeline.postgres.engine import clear_errors, database_now, reason, shared_engine, warehouse_url
from klaviyo_pipeline.postgres.ledger import Ledger, SyncedWindow
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.schema.tables import DestinationTable, NotMigrated, reflect
from klaviyo_pipeline.postgres.write.loads import Load
from klaviyo_pipeline.postgres.write.new_tables import UnfitFrame, create, table_for
from klaviyo_pipeline.postgres.write.plain_frames import PARTITION_EXPR, REPLACE_WINDOWS, load_of
from klaviyo_pipeline.postgres.write.writer import Writer

__all__ = ["PARTITION_EXPR", "REPLACE_WINDOWS", "SCHEMA", "TABLE", "PostgresIOManager", "TableIOManager"]

SCHEMA = "schema"
TABLE = "table"
PRIMARY_KEY = "primary_key"

CHECK_LEDGER = sa.text("SELECT to_regclass(quote_ident(:schema) || '.sync_windows') IS NOT NULL")

INTERRUPTS = (KeyboardInterrupt, dg.DagsterExecutionInterruptedError, Stopped)


class Database(Protocol):
    """Knows the database of each schema."""

    def engine(self, schema: str) -> AbstractContextManager[sa.Engine]:
        """An engine for this schema."""
        ...


class TableIOManager(dg.IOManager):
    """Writes and reads the tables of a database.

    A batch is one transaction: if it fails, it is rolled back. In the schema of an account, the ledger then records
    every window that is not synced yet as `failed`, with the error.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def handle_output(  # type: ignore[override]  # a generator, so that Dagster keeps the events of a failing write
        self, context: dg.OutputContext, obj: Load | pd.DataFrame
    ) -> Iterator[DagsterEvent]:
        """Write the load.

        If it fails, its synced windows are still reported as materialized, whether this run or an earlier one committed
        them. Otherwise Dagster would show them as failed.
        """
        metadata = context.definition_metadata or {}
        schema, name = table_of(context.asset_key, metadata)
        if not isinstance(obj, Load | pd.DataFrame):
            raise UnfitFrame(
                f"{context.asset_key.to_user_string()} returns {type(obj).__name__}, but its IO manager writes pandas "
                "DataFrames: return one, or choose another IO manager."
            )
        with self._database.engine(schema) as engine:
            with engine.connect() as connection:
                ours: bool = connection.execute(CHECK_LEDGER, {"schema": schema}).scalar_one()
                target, is_new = _target(connection, metadata, schema, name, obj, ours=ours)
                observed_at = database_now(connection)
            load = obj if isinstance(obj, Load) else load_of(context, metadata, target, obj, observed_at)
            if is_new:
                load = _creating(load, target)
            ledger = Ledger(schema, name) if ours else NoLedger(schema, name)
            writers: list[Writer] = []
            try:
                for one in (load, *load.then):
                    of_load = replace(ledger, entity=one.ledger or name)
                    writers.append(Writer(engine, target, of_load, one, context.run_id))
                    writers[-1].run()
            except INTERRUPTS:
                # A cancelled run is not a failed attempt: the ledger keeps the committed windows and records no error.
                for window in _synced_windows(context, writers, ledger):
                    yield _materialization(context, window)
                raise
            except BaseException as error:
                _note_failure(context, writers[-1], error)
                for window in _synced_windows(context, writers, ledger):
                    yield _materialization(context, window)
                # Dagster would wrap the error itself into a message that writing failed, although usually fetching did.
                raise dg.Failure(reason(error)) from error
            context.add_output_metadata(_metadata(engine, target, writers))

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """The table, or the rows of the input's windows, as a DataFrame with the table's columns."""
        metadata = (context.upstream_output.definition_metadata if context.upstream_output else None) or {}
        schema, name = table_of(context.asset_key, metadata)
        with self._database.engine(schema) as engine, engine.connect() as connection:
            ours: bool = connection.execute(CHECK_LEDGER, {"schema": schema}).scalar_one()
            target = reflect(connection, schema, name, ours=ours)
            query = sa.select(target.table).order_by(*target.table.primary_key)
            if context.has_asset_partitions:
                query = query.where(_in_partitions(context, metadata, target))
            return _frame(connection, query)


class PostgresIOManager(dg.ConfigurableIOManagerFactory[TableIOManager]):
    """The IO manager for your own assets.

    `database_url` is a `postgresql://` URL. Pass it as `dg.EnvVar`, because the UI displays any other value. Without
    it, the database is that of `KLAVIYO_DATABASE_URL`, or else the embedded server.
    """

    database_url: str = ""

    def create_io_manager(self, context: dg.InitResourceContext) -> TableIOManager:
        return TableIOManager(_OneDatabase(self.database_url))


class _OneDatabase:
    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def engine(self, schema: str) -> Iterator[sa.Engine]:
        url = warehouse_url(self._url or os.environ.get(Account.database_url_variable))
        with shared_engine(url) as engine, clear_errors(url):
            yield engine


class NoLedger(Ledger):
    """Replaces the ledger in a schema that is not an account's. It records nothing."""

    def record_synced(self, *_: Any, **__: Any) -> None:
        """Record nothing."""

    def record_failed(self, *_: Any, **__: Any) -> None:
        """Record nothing."""

    def requested(self, *_: Any, **__: Any) -> dict[datetime, datetime]:
        """Return no windows."""
        return {}

    def synced(self, *_: Any, **__: Any) -> list[SyncedWindow]:
        """Return no windows."""
        return []


def table_of(key: dg.AssetKey, metadata: Mapping[str, Any]) -> tuple[str, str]:
    """The schema and table of an asset, from its metadata, or else from the last two parts of its key."""
    schema, name = metadata.get(SCHEMA), metadata.get(TABLE, key.path[-1])
    if schema is None and len(key.path) < 2:
        raise ValueError(
            f"asset key {key.to_user_string()} names no schema; write the key as [schema, table], or name the schema "
            "in the asset's metadata."
        )
    return str(schema or key.path[-2]), str(name)


def _target(
    connection: sa.Connection,
    metadata: Mapping[str, Any],
    schema: str,
    name: str,
    obj: Load | pd.DataFrame,
    *,
    ours: bool,
) -> tuple[DestinationTable, bool]:
    """The table to write, and whether the first batch must create it."""
    try:
        if isinstance(obj, Load):
            return reflect(connection, schema, name, obj.filled), False
        return reflect(connection, schema, name, ours=ours), False
    except NotMigrated:
        key = metadata.get(PRIMARY_KEY)
        if isinstance(obj, Load) or key is None:
            raise
        if obj.columns.empty:
            raise UnfitFrame(f'the first frame for "{schema}"."{name}" has no columns.') from None
        return table_for(schema, name, obj, [key] if isinstance(key, str) else list(key)), True


def _creating(load: Load, target: DestinationTable) -> Load:
    """A copy of the load that first creates the table, in the transaction of its only batch."""
    [batch] = load.batches
    return replace(load, batches=[replace(batch, prepare=lambda connection: create(connection, target))])


def _in_partitions(
    context: dg.InputContext, metadata: Mapping[str, Any], target: DestinationTable
) -> sa.ColumnElement[bool]:
    name = metadata.get(PARTITION_EXPR)
    if name is None:
        raise ValueError(
            f"asset {context.asset_key.to_user_string()} is partitioned but has no {PARTITION_EXPR} in its metadata."
        )
    column = target.table.c[str(name)]
    definition = context.asset_partitions_def
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return column.in_(list(context.asset_partition_keys))
    span = context.asset_partitions_time_window
    if isinstance(column.type, sa.Date):
        return sa.and_(column >= span.start.date(), column < span.end.date())
    start, end = span.start.astimezone(UTC), span.end.astimezone(UTC)
    if isinstance(column.type, sa.DateTime) and not column.type.timezone:
        start, end = (moment.replace(tzinfo=None) for moment in (span.start, span.end))
    return sa.and_(column >= start, column < end)


def _frame(connection: sa.Connection, query: sa.Select[Any]) -> pd.DataFrame:
    """The query's rows as a frame: times as UTC datetimes, booleans as nullable booleans, numerics as Decimals."""
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


def _synced_windows(context: dg.OutputContext, writers: Sequence[Writer], ledger: Ledger) -> list[SyncedWindow]:
    """The windows of the load that are synced under the asset's name in the ledger, by this run or before it."""
    written = [synced for writer in writers if writer.ledger == ledger for synced in writer.synced]
    others = {one.window for one in written}
    left = [window for window in writers[0].load.windows if window not in others]
    try:
        with writers[0].engine.connect() as connection:
            return [*written, *ledger.synced(connection, left)]
    except sa.exc.SQLAlchemyError as error:  # the first error is the one to report
        context.log.warning(f"the windows that were synced before could not be read: {type(error).__name__}")
        return written


def _metadata(engine: sa.Engine, target: DestinationTable, writers: Sequence[Writer]) -> Mapping[str, Any]:
    with engine.connect() as connection:
        rows = connection.execute(sa.select(sa.func.count()).select_from(target.table)).scalar_one()
    total = sum((writer.total for writer in writers), RowCounts())
    return {
        "dagster/row_count": rows,
        "rows_fetched": sum(writer.rows_fetched for writer in writers),
        "rows_inserted": total.inserted,
        "rows_updated": total.updated,
        "rows_deleted": total.deleted,
        "seconds": writers[0].seconds,
    }


def window_metadata(synced: SyncedWindow) -> dict[str, Any]:
    """The metadata of a synced window, which the UI plots."""
    newest = {"newest_updated": dg.MetadataValue.timestamp(synced.newest)} if synced.newest else {}
    return {"dagster/partition_row_count": synced.rows_fetched, **synced.counts, **newest}


def report_partitions(context: dg.AssetExecutionContext) -> Callable[[SyncedWindow], None]:
    """Return a function that gives a window its own metadata. Otherwise all partitions of a run would have the same."""
    return lambda synced: context.add_asset_metadata(window_metadata(synced), partition_key=synced.window.key)


def _materialization(context: dg.OutputContext, synced: SyncedWindow) -> DagsterEvent:
    return DagsterEvent.asset_materialization(
        context.step_context,
        dg.AssetMaterialization(context.asset_key, partition=synced.window.key, metadata=window_metadata(synced)),
    )
