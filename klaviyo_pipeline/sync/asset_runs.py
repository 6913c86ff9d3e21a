"""Syncs the assets of a group one after the other, each in Dagster runs of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterInstance

from klaviyo_pipeline.catalog import CENSUSES, METRICS
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.dagster_internals.readable_events import is_about_step_not_run
from klaviyo_pipeline.dagster_internals.storage import without_output_capture
from klaviyo_pipeline.klaviyo.errors import Forbidden, MissingScope
from klaviyo_pipeline.klaviyo.tags import TAGS
from klaviyo_pipeline.maintenance.dead_runs import tags_of_this_process
from klaviyo_pipeline.orchestration.build import sync_defs
from klaviyo_pipeline.orchestration.jobs import ACCOUNT_TAG
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource
from klaviyo_pipeline.orchestration.step_errors import failure_line, step_errors
from klaviyo_pipeline.planning.durations import format_duration
from klaviyo_pipeline.planning.estimates import Estimate, Estimator
from klaviyo_pipeline.planning.planner import PlannedRun, Planner, SyncRequest
from klaviyo_pipeline.postgres.engine import database_now, reason
from klaviyo_pipeline.postgres.schema.system_tables import system_table
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.windows import Window

INTERRUPTS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")

ProgressCallback = Callable[[str], None]


@dataclass
class AssetResult:
    """The result of one asset's sync. `error` is one line. `skipped` says why the asset had no run."""

    asset: str
    windows: int = 0
    requests: int = 0
    rows_fetched: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_unchanged: int = 0
    rows_deleted: int = 0
    seconds: float = 0.0
    run_ids: list[str] = field(default_factory=list)
    error: str | None = None
    skipped: str | None = None
    blocked: bool = False
    """Whether a blocking check failed: the data is stored, but nothing should be computed from it."""


@contextmanager
def asset_runs(
    instance: DagsterInstance,
    account: Account,
    request: SyncRequest,
    conversion_metrics: Mapping[str, Sequence[str]],
    on_progress: ProgressCallback,
) -> Iterator[AssetRuns]:
    """Within the block, the runs of one account in this process share its definitions and connections.

    `conversion_metrics` maps an asset to the ids of the conversion metrics with which it is requested.
    """
    warehouse = Warehouse.of([account])
    definitions = sync_defs(account, warehouse)
    logging.getLogger().addFilter(_is_relevant)
    with warehouse.engine(account.slug) as engine, without_output_capture():
        yield AssetRuns(account, engine, definitions, instance, request, conversion_metrics, on_progress)


@dataclass(frozen=True)
class AssetRuns:
    """Runs assets one after the other in this process. Each run is recorded in the instance."""

    account: Account
    engine: sa.Engine
    definitions: dg.Definitions
    instance: DagsterInstance
    request: SyncRequest
    conversion_metrics: Mapping[str, Sequence[str]]
    on_progress: ProgressCallback

    def sync_group(self, assets: Sequence[str]) -> list[AssetResult]:
        """Sync these assets one after the other. Return one result for each asset, in the same order."""
        results: list[AssetResult] = []
        for asset in assets:
            results.append(self.blocked_by_check(asset, results) or self.sync(asset))
        return results

    def blocked_by_check(self, asset: str, before: Sequence[AssetResult]) -> AssetResult | None:
        """The result of a metrics asset that must not run, because a blocking check of its report failed.

        `before` are the results of the group so far. Returns None if the asset may run.
        """
        report = METRICS[asset].report if asset in METRICS else None
        if not any(result.asset == report and result.blocked for result in before):
            return None
        result = AssetResult(asset, skipped=f"not computed, because a check of {report} failed")
        self.on_progress(_summary_line(result))
        return result

    def sync(self, asset: str) -> AssetResult:
        """Run the windows or the census that the planner finds for this asset. An error is part of the result."""
        result = AssetResult(asset)
        started = time.monotonic()
        try:
            for tags, config, windows in self._runs(asset):
                result.skipped = self._missing_scope(asset)
                if result.skipped:
                    break
                result.windows += windows
                self._run(asset, tags, config, result)
                if result.error:
                    break
            if result.run_ids:
                _add_counts(self.engine, self.account.slug, result)
            elif not result.skipped:
                result.skipped = "up to date" if asset not in CENSUSES else "the last full listing is recent"
        except Exception as error:
            result.error = reason(error)
        result.seconds = time.monotonic() - started
        self.on_progress(_summary_line(result))
        return result

    def _runs(self, asset: str) -> Iterator[tuple[dict[str, str], dict[str, Any], int]]:
        """The tags, the run config and the number of windows of each run that this asset needs.

        Reports a progress line before each run.
        """
        with self.engine.connect() as connection:
            now = database_now(connection)
            planner = Planner(self.account, now)
            estimator = Estimator(self.account, now, connection, self.conversion_metrics)
            # Runs are yielded after this block, so that its transaction does not stay open during a run.
            runs: list[PlannedRun] = []
            if asset in CENSUSES:
                estimate = estimator.census(asset, due=planner.census_is_due(connection, asset, self.request))
            else:
                runs = planner.runs(connection, asset, self.request, self.conversion_metrics.get(asset, ()))
                estimate = estimator.windowed(asset, self.request, runs)
        cost = _cost_text(estimate)
        if asset in CENSUSES and estimate.ranges:
            self.on_progress(f"{asset}: full listing{cost}")
            yield {}, self._config(asset), 0
        for number, run in enumerate(runs):
            self.on_progress(f"{asset}: {_windows_text(run.windows)}{cost if number == 0 else ''}")
            yield run.tags, {}, len(run.windows)

    def _missing_scope(self, asset: str) -> str | None:
        """Why the tags are skipped: the key has no access to them. None for other assets, and if the key has access.

        If the user named the assets, tags are not skipped: their run fails with the reason instead.
        """
        if asset != TAGS.entity or self.request.named:
            return None
        with KlaviyoResource().session(self.account, Warehouse.of([self.account])) as session:
            try:
                next(session.client.pages(TAGS, TAGS.queries(None, None, session.now())[0]))
            except MissingScope as error:
                scopes = ", ".join(error.scopes)
                return f"the key lacks the scope {scopes}; create a key with this scope and the present ones"
            except Forbidden as error:
                return str(error)
        return None

    def _config(self, asset: str) -> dict[str, Any]:
        """The run config of a census, with the option `accept_deletes`; empty for other assets."""
        if asset not in CENSUSES:
            return {}
        config = {"accept_deletes": self.request.accept_deletes}
        return {"ops": {f"{self.account.slug}__{asset}": {"config": config}}}

    def _run(self, asset: str, tags: dict[str, str], config: dict[str, Any], result: AssetResult) -> None:
        """Execute one run of an asset in this process, record it in the instance, and add its outcome to `result`."""
        key = dg.AssetKey(self.account.asset_key(asset))
        job = self.definitions.resolve_implicit_global_asset_job_def()
        logger = _progress_logger(lambda line: self.on_progress(f"{asset}: {line}"))
        executed = job.with_logger_defs({"progress": logger}).execute_in_process(
            instance=self.instance,
            # The asset is selected for the run. If the job had only this asset, the UI would show no asset for the run.
            asset_selection=[key],
            tags={**tags, ACCOUNT_TAG: self.account.slug, **tags_of_this_process()},
            run_config={**config, "loggers": {"progress": {}}},
            raise_on_error=False,
        )
        result.run_ids.append(executed.run_id)
        if _interrupted(executed):
            # Dagster handled the signal and marked the run as failed, so raise again: the next asset must not start.
            raise KeyboardInterrupt
        if not executed.success:
            blocking = _failed_checks(executed)
            result.blocked = bool(blocking)
            result.error = blocking or _failure(executed)


def _is_relevant(record: logging.LogRecord) -> bool:
    """Whether to print a record of the root logger. Dagster logs every retried database connection there."""
    return not record.getMessage().startswith("Retrying failed database")


def _progress_logger(on_progress: ProgressCallback) -> dg.LoggerDefinition:
    """A logger for runs that passes the log lines of an asset to `on_progress` and drops Dagster's own events."""

    class Progress(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            meta = getattr(record, "dagster_meta", {})
            line = str(meta.get("orig_message", record.getMessage()))
            # Dagster also logs a line for each check that the run does not include.
            is_noise = "did not yield or return expected outputs" in line or is_about_step_not_run(line)
            if not meta.get("dagster_event") and not is_noise:
                on_progress(f"warning: {line}" if record.levelno == logging.WARNING else line)

    def make(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("klaviyo_pipeline.sync", logging.INFO)
        logger.addHandler(Progress())
        return logger

    return dg.LoggerDefinition(make)


def _failed_checks(executed: dg.ExecuteInProcessResult) -> str:
    """The messages of the blocking checks that failed, on one line; empty if none failed."""
    return "; ".join(
        f"check {evaluation.check_name}: {evaluation.description}"
        for evaluation in executed.get_asset_check_evaluations()
        if evaluation.blocking and not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
    )


def _interrupted(executed: dg.ExecuteInProcessResult) -> bool:
    failed = (event for event in executed.all_events if event.is_step_failure)
    return any(error.class_name in INTERRUPTS for event in failed for error in step_errors(event))


def _failure(executed: dg.ExecuteInProcessResult) -> str:
    for event in executed.all_events:
        if event.is_step_failure and (line := failure_line(event)):
            return line
    return "the run failed; see its log in the UI"


def _cost_text(estimate: Estimate) -> str:
    """The number of requests that all runs of an asset take, and the shortest time at the published rates."""
    if not estimate.requests:
        return ""
    requests = f"{estimate.requests_text} request{'s' if estimate.requests > 1 else ''}"
    requests += f" for {estimate.ranges} runs" if estimate.ranges > 1 else ""
    time = f", {format_duration(estimate.seconds)} or more at the published rates" if estimate.seconds >= 1 else ""
    return f": {requests}{time}"


def _windows_text(windows: Sequence[Window]) -> str:
    keys = f"{windows[0].key} to {windows[-1].key}" if len(windows) > 1 else windows[0].key
    return f"{counted(len(windows), 'window')}, {keys}"


def _summary_line(result: AssetResult) -> str:
    if result.error:
        return f"{result.asset}: failed: {result.error}"
    if result.skipped:
        return f"{result.asset}: {result.skipped}"
    return (
        f"{result.asset}: done in {result.seconds:.1f} s: {counted(result.rows_fetched, 'row')} in "
        f"{counted(result.requests, 'request')}, {result.rows_inserted:,} new, {result.rows_updated:,} changed"
    )


def _add_counts(engine: sa.Engine, schema: str, result: AssetResult) -> None:
    """Set the counts of the result to those that its runs recorded in the ledger or in `census_runs`."""
    is_census = result.asset in CENSUSES
    names = ("rows_inserted", "rows_updated", "rows_unchanged", "rows_deleted", "requests")
    fetched = "rows_listed" if is_census else "rows_fetched"
    table = system_table(schema, "census_runs" if is_census else "sync_windows")
    query = sa.select(*(sa.func.coalesce(sa.func.sum(table.c[name]), 0) for name in (fetched, *names))).where(
        table.c.run_id.in_(result.run_ids)
    )
    with engine.connect() as connection:
        counted = connection.execute(query).one()
    for name, value in zip(("rows_fetched", *names), counted, strict=True):
        setattr(result, name, int(value))
