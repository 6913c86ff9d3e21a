"""The factory of the metrics assets: performance by object and day, week or month, computed only from Postgres."""

from collections.abc import Iterator, Sequence

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.catalog import REPORTS, MetricsTable, period_column, period_of
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.orchestration.assets.account_asset import NOTHING_IN_PROGRESS, windowed_asset
from klaviyo_pipeline.orchestration.assets.asset_metadata import latest_objects
from klaviyo_pipeline.orchestration.assets.frames import table_frame
from klaviyo_pipeline.orchestration.resources.account_resources import AccountAccess
from klaviyo_pipeline.postgres.day_counts import days_that_differ
from klaviyo_pipeline.postgres.engine import database_now, in_transaction, reason, snapshot
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.metrics_tables import Metrics
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.postgres.write.io_manager import report_partitions
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.merge import ReplaceRange
from klaviyo_pipeline.postgres.write.staging import WINDOW
from klaviyo_pipeline.reporting import preview
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader
from klaviyo_pipeline.reporting.subjects import SUBJECTS
from klaviyo_pipeline.windows import Window, contiguous_ranges, report_windows

DAYS_PER_BATCH = 31


def metrics_asset(account: Account, table: MetricsTable) -> dg.AssetsDefinition:
    """The asset of one metrics table in one account."""
    period = period_of(table.name)
    plan = report_windows(account, period)
    metrics = Metrics(account.slug, table)
    objects = latest_objects(account, REPORTS[table.report].listing)
    named = list(table.named.values())

    @windowed_asset(
        account,
        table.name,
        plan,
        column=period_column(table.name),
        kinds={"postgres"},
        deps=[dg.AssetKey(account.asset_key(table.report)), *objects],
        # Has no effect until you switch on the automation sensor. Updates of the entity are ignored: they do not change
        # the sums, and every run refreshes the names. A report that is synced during a run is handled after that run.
        automation_condition=(
            dg.AutomationCondition.any_deps_updated()
            .ignore(dg.AssetSelection.assets(*(dep.asset_key for dep in objects)))
            .since_last_handled()
            & NOTHING_IN_PROGRESS
        ),
        description=(
            f"One row for each {table.key} and {period} of {table.report}: sums, rates computed from the sums, and the "
            f"latest {', '.join(named[:-1])} and {named[-1]} in {table.entity}."
        ),
    )
    def computed(context: dg.AssetExecutionContext, access: AccountAccess) -> Load:
        windows = plan.of_run(context)

        def batches() -> Iterator[Batch]:
            with access.warehouse.engine(account.slug) as engine:
                renamed = in_transaction(engine, metrics.refresh_names)
                context.add_asset_metadata({"rows_renamed": renamed})
                for first in range(0, len(windows), DAYS_PER_BATCH):
                    chunk = windows[first : first + DAYS_PER_BATCH]
                    _check_report(engine, account, table, chunk, windows)
                    yield from _compute(context, engine, metrics, chunk, first)

        def written(row_counts: RowCounts, rows: int) -> None:
            if not rows or period != "day":
                return
            try:
                _add_preview(context, access.warehouse, metrics, windows)
            except Exception as error:  # the rows are stored, so a missing preview does not fail the run
                context.log.warning(f"this run has no preview: {reason(error)}")

        return Load(batches=batches(), windows=windows, on_synced=report_partitions(context), on_written=written)

    return computed


class ReportLostRows(RuntimeError):
    """The report's table has more or fewer rows than the ledger counted, so metrics computed from it would be wrong."""


def _check_report(
    engine: sa.Engine, account: Account, table: MetricsTable, chunk: Sequence[Window], windows: Sequence[Window]
) -> None:
    """Raise `ReportLostRows` if a day of the chunk differs from the ledger. The message covers all of `windows`."""
    with engine.connect() as connection:
        days = days_that_differ(connection, account, table.report, chunk[0].first_day, chunk[-1].first_day)
        if days:
            days = days_that_differ(connection, account, table.report, windows[0].first_day, windows[-1].first_day)
    if days:
        raise ReportLostRows(
            f"{table.report} has a different number of rows than the ledger counted for "
            f"{counted(len(days), period_of(table.report))}, {days[0]} to {days[-1]}. The table was changed by hand, "
            f"truncated or restored. {table.name} is left unchanged. Run "
            f"`klaviyo-pipeline sync {table.report} {table.name} --from {max(days[0], account.start_date)} --to "
            f"{days[-1]} --force`."
        )


def _add_preview(
    context: dg.AssetExecutionContext, warehouse: Warehouse, metrics: Metrics, windows: Sequence[Window]
) -> None:
    """Add a table and a chart of the computed metrics to the materialization.

    Dagster stores the metadata of a run once for each partition. The preview is added only to the last partition,
    which the UI shows first. A chart whose values have not changed is not drawn again.
    """
    subject = SUBJECTS[metrics.table.name]
    period = Period(windows[0].first_day, windows[-1].first_day)
    with warehouse.engine(metrics.schema) as engine, snapshot(engine) as connection:
        reader = Reader(connection, metrics.schema)
        previews = {
            f"top_{metrics.table.entity}": preview.top_table(reader, subject, period),
            "chart": preview.chart(reader, subject, period, _previous_chart(context, windows[-1])),
        }
    context.add_asset_metadata(
        {name: dg.MetadataValue.md(text) for name, text in previews.items() if text}, partition_key=windows[-1].key
    )


def _previous_chart(context: dg.AssetExecutionContext, window: Window) -> str | None:
    """The chart in the last materialization of this window."""
    partition = dg.AssetRecordsFilter(context.asset_key, asset_partitions=[window.key])
    found = context.instance.fetch_materializations(partition, limit=1).records
    materialization = found[0].asset_materialization if found else None
    shown = materialization.metadata.get("chart") if materialization else None
    return shown.md_str if isinstance(shown, dg.MarkdownMetadataValue) else None


def _compute(
    context: dg.AssetExecutionContext,
    engine: sa.Engine,
    metrics: Metrics,
    chunk: Sequence[Window],
    first_index: int,
) -> Iterator[Batch]:
    """A batch for each contiguous range of windows with a synced report. Windows without one keep their metrics."""
    days = {window.first_day: first_index + place for place, window in enumerate(chunk)}
    with engine.connect() as connection:
        computed_at = database_now(connection)
        reported = Ledger(metrics.schema, metrics.table.report).requested(connection, chunk)
        column = period_column(metrics.table.name)
        rows = [{**row, WINDOW: days[row[column]]} for row in metrics.compute(connection, min(days), max(days))]
        columns = (*metrics.columns(connection), WINDOW)
    unreported = [window.key for window in chunk if window.start not in reported]
    if unreported:
        context.log.warning(
            f"{metrics.table.report} is not synced for {counted(len(unreported), period_of(metrics.table.name))} "
            f"({unreported[0]} to {unreported[-1]}), so their metrics are not computed"
        )
    for covered in contiguous_ranges(chunk, [window for window in chunk if window.start in reported]):
        of_range = {window.first_day: days[window.first_day] for window in covered}
        # The metrics of a window are as recent as the report that they were computed from.
        completes = [CompletedWindow(window, reported[window.start], 0) for window in covered]
        replaces = ReplaceRange(column, min(of_range), max(of_range), computed_at, of_range)
        yield Batch(table_frame([row for row in rows if row[column] in of_range], columns), completes, replaces)
