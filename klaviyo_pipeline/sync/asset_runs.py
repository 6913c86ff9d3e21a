"""Assets that are synced one after the other, each in runs of its own."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterInstance

from klaviyo_pipeline.catalog import CENSUSES, METRICS
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.steady_storage import SteadySessions
from klaviyo_pipeline.dagster_internals.storage import output_is_seen
from klaviyo_pipeline.klaviyo.errors import Forbidden, MissingScope
from klaviyo_pipeline.klaviyo.tags import TAGS
from klaviyo_pipeline.orchestration.build import sync_defs
from klaviyo_pipeline.orchestration.jobs import ACCOUNT_TAG
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource
from klaviyo_pipeline.planning.durations import format_duration
from klaviyo_pipeline.planning.estimates import Estimator
from klaviyo_pipeline.planning.planner import Planner, SyncRequest
from klaviyo_pipeline.postgres.engine import first_line, reason
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.sync.stale_runs import tags_of_this_process
from klaviyo_pipeline.windows import Window, range_tags

STORAGE_TIMEOUT_MS = 60_000

INTERRUPTS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")

ProgressCallback = Callable[[str], None]


@dataclass
class AssetResult:
    """What a sync of one asset came to. `error` is one line; `skipped` says why there was nothing to run."""

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
    """Whether it was a check that failed: the data came, and nothing should be computed from it."""


def sync_assets(
    account: Account,
    assets: Sequence[str],
    request: SyncRequest,
    conversion_metrics: Mapping[str, str],
    on_progress: ProgressCallback,
) -> list[AssetResult]:
    """Sync these assets one after the other in this process; one result each.

    `conversion_metrics` are the ids that the reports are asked with, by asset.
    """
    if not assets:
        return []
    warehouse = Warehouse.of([account])
    definitions = sync_defs(account, warehouse)
    logging.getLogger().addFilter(_is_news)
    with warehouse.engine(account.slug) as engine, DagsterInstance.get() as instance, output_is_seen():
        if isinstance(instance.run_storage, SteadySessions):
            # Dagster opens two connections for each window of a run unless it is told to keep them. Another storage
            # than ours would take one that was ended while it was idle for a failure of the run.
            instance.optimize_for_webserver(STORAGE_TIMEOUT_MS, pool_recycle=3600, max_overflow=4)
        group = _AssetRuns(account, engine, definitions, instance, request, conversion_metrics, on_progress)
        results: list[AssetResult] = []
        for asset in assets:
            results.append(group.blocked_by_check(asset, results) or group.sync(asset))
        return results


@dataclass(frozen=True)
class _AssetRuns:
    """Assets that are synced one after the other, each run recorded in the instance."""

    account: Account
    engine: sa.Engine
    definitions: dg.Definitions
    instance: DagsterInstance
    request: SyncRequest
    conversion_metrics: Mapping[str, str]
    on_progress: ProgressCallback

    def blocked_by_check(self, asset: str, before: Sequence[AssetResult]) -> AssetResult | None:
        """The result of metrics whose report came and was found to be wrong; None if there is nothing against them."""
        report = METRICS[asset].report if asset in METRICS else None
        if not any(result.asset == report and result.blocked for result in before):
            return None
        result = AssetResult(asset, skipped=f"held back by a check of {report}")
        self.on_progress(_summary_line(result))
        return result

    def sync(self, asset: str) -> AssetResult:
        """Run what the plan says for this asset; an error ends up in the result."""
        result = AssetResult(asset)
        started = time.monotonic()
        try:
            for tags, config, windows in self._runs(asset):
                result.skipped = self._out_of_scope(asset)
                if result.skipped:
                    break
                result.windows += windows
                self._run(asset, tags, config, result)
                if result.error:
                    break
            if not result.run_ids and not result.skipped:
                result.skipped = "nothing to ask" if asset not in CENSUSES else "the last census is fresh"
            _add_counts(self.engine, self.account.slug, result)
        except Exception as error:
            result.error = reason(error)
        result.seconds = time.monotonic() - started
        self.on_progress(_summary_line(result))
        return result

    def _runs(self, asset: str) -> Iterator[tuple[dict[str, str], dict[str, Any], int]]:
        """Tags, run config and number of windows of each run that this asset needs."""
        with self.engine.connect() as connection:
            now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            planner = Planner(self.account, now)
            # Nothing is yielded in here: the connection would stay in its transaction for as long as the run takes.
            is_due = asset in CENSUSES and planner.census_is_due(connection, asset, self.request)
            metric_id = self.conversion_metrics.get(asset)
            ranges = (
                planner.windows(connection, asset, self.request, conversion_metric_id=metric_id)
                if asset not in CENSUSES
                else []
            )
            takes = self._takes(asset, connection, now) if is_due or ranges else ""
        if is_due:
            self.on_progress(f"{asset}: a full listing{takes}")
            yield {}, self._config(asset), 0
        for number, windows in enumerate(ranges):
            self.on_progress(f"{asset}: {_span(windows)}{takes if number == 0 else ''}")
            yield range_tags(windows), {}, len(windows)

    def _takes(self, asset: str, connection: sa.Connection, now: datetime) -> str:
        """What all runs of the asset ask, and how long the published rates alone make that take."""
        request = replace(self.request, assets=[asset])
        [expected] = Estimator(self.account, now, connection, self.conversion_metrics).estimates(request)
        if not expected.requests:
            return ""
        requests = f"{expected.requests_text} request{'s' if expected.requests > 1 else ''}"
        time = f", {format_duration(expected.seconds)} or more at the published rates" if expected.seconds >= 1 else ""
        return f": {requests}{time}"

    def _out_of_scope(self, asset: str) -> str | None:
        """Why the key cannot see the tags, unless they were asked for by name; nothing else is optional."""
        if asset != TAGS.entity or self.request.named:
            return None
        with KlaviyoResource().session(self.account, Warehouse.of([self.account])) as session:
            try:
                next(session.client.pages(TAGS, TAGS.queries(None, None, session.now())[0]))
            except MissingScope as refused:
                return f"the key lacks the scope {', '.join(refused.scopes)}; create a key with it"
            except Forbidden as refused:
                return str(refused)
        return None

    def _config(self, asset: str) -> dict[str, Any]:
        """A census takes a word on how many deletes are plausible."""
        if asset not in CENSUSES:
            return {}
        config = {"accept_deletes": self.request.accept_deletes}
        return {"ops": {f"{self.account.slug}__{asset}": {"config": config}}}

    def _run(self, asset: str, tags: dict[str, str], config: dict[str, Any], result: AssetResult) -> None:
        """One run of one asset in this process, recorded in the instance."""
        key = dg.AssetKey([self.account.slug, asset])
        job = self.definitions.resolve_implicit_global_asset_job_def()
        logger = _progress_logger(lambda line: self.on_progress(f"{asset}: {line}"))
        executed = job.with_logger_defs({"progress": logger}).execute_in_process(
            instance=self.instance,
            # Here rather than as a subset of the job: only this way does the run name its asset in the UI.
            asset_selection=[key],
            tags={**tags, ACCOUNT_TAG: self.account.slug, **tags_of_this_process()},
            run_config={**config, "loggers": {"progress": {}}},
            raise_on_error=False,
        )
        result.run_ids.append(executed.run_id)
        if _interrupted(executed):
            # A run takes the signals for itself and ends as failed: the next asset must not begin.
            raise KeyboardInterrupt
        if not executed.success:
            blocking = _failed_checks(executed)
            result.blocked = bool(blocking)
            result.error = blocking or _failure(executed)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the root logger is worth a terminal: Dagster tells there of every connection it tries again."""
    return not record.getMessage().startswith("Retrying failed database")


def _progress_logger(on_progress: ProgressCallback) -> dg.LoggerDefinition:
    """A run's logger that passes on what an asset says, and leaves out Dagster's own events."""

    class Progress(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            meta = getattr(record, "dagster_meta", {})
            line = str(meta.get("orig_message", record.getMessage()))
            # A check that is left out of a run is no news, and Dagster tells of each.
            if not meta.get("dagster_event") and "did not yield or return expected outputs" not in line:
                on_progress(f"warning: {line}" if record.levelno == logging.WARNING else line)

    def make(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("klaviyo_pipeline.sync", logging.INFO)
        logger.addHandler(Progress())
        return logger

    return dg.LoggerDefinition(make)


def _failed_checks(executed: dg.ExecuteInProcessResult) -> str:
    """What the blocking checks found that failed, on one line; empty if none did."""
    return "; ".join(
        f"check {one.check_name}: {one.description}"
        for one in executed.get_asset_check_evaluations()
        if one.blocking and not one.passed and one.severity == dg.AssetCheckSeverity.ERROR
    )


def _interrupted(executed: dg.ExecuteInProcessResult) -> bool:
    for event in executed.all_events:
        error = event.step_failure_data.error if event.is_step_failure else None
        while error is not None:
            if error.cls_name in INTERRUPTS:
                return True
            error = error.cause
    return False


def _failure(executed: dg.ExecuteInProcessResult) -> str:
    for event in executed.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            if error is not None:
                # Dagster's message is "module.Kind: text", and the text may have lines of its own.
                return first_line(error.message.partition(": ")[2]) or first_line(error.message)
    return "the run failed; its log in the UI says why"


def _span(windows: Sequence[Window]) -> str:
    count = f"{len(windows)} window{'s' if len(windows) > 1 else ''}"
    return f"{count}, {windows[0].key} to {windows[-1].key}" if len(windows) > 1 else f"{count}, {windows[0].key}"


def _summary_line(result: AssetResult) -> str:
    if result.error:
        return f"{result.asset}: failed: {result.error}"
    if result.skipped:
        return f"{result.asset}: {result.skipped}"
    return (
        f"{result.asset}: done in {result.seconds:.1f} s: {result.rows_fetched:,} rows in {result.requests} requests, "
        f"{result.rows_inserted:,} new, {result.rows_updated:,} changed"
    )


def _add_counts(engine: sa.Engine, schema: str, result: AssetResult) -> None:
    """What the runs noted in the ledger, or in the record of censuses."""
    is_census = result.asset in CENSUSES
    names = ("rows_inserted", "rows_updated", "rows_unchanged", "rows_deleted", "requests")
    fetched = "rows_listed" if is_census else "rows_fetched"
    table = sa.table(
        "census_runs" if is_census else "sync_windows",
        *(sa.column(name) for name in (*names, fetched, "run_id")),
        schema=schema,
    )
    query = sa.select(*(sa.func.coalesce(sa.func.sum(table.c[name]), 0) for name in (fetched, *names))).where(
        table.c.run_id.in_(result.run_ids)
    )
    with engine.connect() as connection:
        counted = connection.execute(query).one()
    for name, value in zip(("rows_fetched", *names), counted, strict=True):
        setattr(result, name, int(value))
