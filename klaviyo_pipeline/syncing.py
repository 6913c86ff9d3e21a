"""A sync: runs of Dagster for what the plan says, entities side by side, then the reports, then the metrics.

Every run is recorded in Dagster's instance, with its logs and materializations, as if it had been launched in the
UI. A failing asset does not stop the others.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterInstance, RunsFilter
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from klaviyo_pipeline.assets.reports import REPORT_ASSETS, chosen_metric
from klaviyo_pipeline.definitions import sync_defs
from klaviyo_pipeline.estimates.durations import told_time
from klaviyo_pipeline.estimates.estimator import Estimate, Estimator
from klaviyo_pipeline.instance import output_is_seen
from klaviyo_pipeline.jobs import ACCOUNT_TAG
from klaviyo_pipeline.klaviyo.account import Account as KlaviyoAccount
from klaviyo_pipeline.klaviyo.errors import KlaviyoError, MissingScope
from klaviyo_pipeline.klaviyo.tags import TAGS
from klaviyo_pipeline.partitions import Window, range_tags
from klaviyo_pipeline.planning import CENSUSES, ENTITIES, FULL_LISTINGS, Planner, SyncRequest
from klaviyo_pipeline.postgres.engine import first_line, reason
from klaviyo_pipeline.postgres.metrics import METRICS
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.resources import KlaviyoResource, Session, stop_sessions, told_to_stop, trust
from klaviyo_pipeline.settings import Account

STORAGE_TIMEOUT_MS = 60_000

STOP_SECONDS = 10.0
LOOK_SECONDS = 0.5
"""How often it is seen whether the sync was told to stop: only the main thread is interrupted by a signal."""

INTERRUPTS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")

HOST_TAG, PROCESS_TAG = "klaviyo_pipeline/host", "klaviyo_pipeline/process"

Tell = Callable[[str], None]


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


@dataclass(frozen=True)
class Sync:
    """One sync of one account, through the assets and the instance that the UI has too."""

    account: Account
    warehouse: Warehouse
    tell: Tell
    workers: int | None = None
    """How many processes work at once, none of them this one; by default as many as there is to do side by side."""

    def run(self, request: SyncRequest) -> list[AssetResult]:
        """Sync what was asked for; one result for each asset, in the order of the request.

        Raises what makes every asset fail alike: a wrong key, another account's key, an unreachable database.
        """
        prepare_instance([self.account])
        return self.sync(request)

    def sync(self, request: SyncRequest) -> list[AssetResult]:
        """`run`, on an instance that is prepared for the account."""
        with KlaviyoResource().session(self.account, self.warehouse) as session:
            identity = session.identity
            if not session.zone_is_right:
                self.tell(f"warning: {session.zone_remedy}")
            metric_id = self._conversion_metric(session, request)
        chains = [[asset for asset in request.assets if entity in (asset, CENSUSES.get(asset))] for entity in ENTITIES]
        results = side_by_side(self.account, identity, chains, request, None, self.tell, self.workers)
        chains = [
            [asset for asset in (table.report, name) if asset in request.assets] for name, table in METRICS.items()
        ]
        # After the censuses: tags that these brought by their ids alone have their names then.
        chains.append([asset for asset in request.assets if asset == TAGS.entity])
        results += side_by_side(self.account, identity, chains, request, metric_id, self.tell, self.workers)
        by_asset = {result.asset: result for result in results}
        return [by_asset[asset] for asset in request.assets]

    def _conversion_metric(self, session: Session, request: SyncRequest) -> str | None:
        """The metric that report windows count as asked with; None where the report's own run will tell why not."""
        asked = [spec for name, spec in REPORT_ASSETS.items() if name in request.assets]
        if not session.zone_is_right or not any(spec.report.needs_conversion_metric for spec in asked):
            return None
        try:
            return chosen_metric(session).id
        except KlaviyoError:
            return None


def sync_chain(
    account: Account, assets: Sequence[str], request: SyncRequest, conversion_metric_id: str | None, tell: Tell
) -> list[AssetResult]:
    """Sync these assets one after the other in this process; one result each."""
    if not assets:
        return []
    warehouse = Warehouse.of([account])
    definitions = sync_defs(account, warehouse)
    logging.getLogger().addFilter(_is_news)
    with warehouse.engine(account.slug) as engine, DagsterInstance.get() as instance, output_is_seen():
        # Dagster opens two connections for each window of a run unless it is told to keep them.
        instance.optimize_for_webserver(STORAGE_TIMEOUT_MS, pool_recycle=3600, max_overflow=4)
        chain = _Chain(account, engine, definitions, instance, request, conversion_metric_id, tell)
        results: list[AssetResult] = []
        for asset in assets:
            results.append(chain.held_back(asset, results) or chain.sync(asset))
        return results


def side_by_side(
    account: Account,
    identity: KlaviyoAccount,
    chains: Sequence[Sequence[str]],
    request: SyncRequest,
    conversion_metric_id: str | None,
    tell: Tell,
    at_once: int | None = None,
) -> list[AssetResult]:
    """Sync several chains of assets at once, each in a process of its own.

    Dagster reconfigures the logging of the whole process whenever a run begins, which deadlocks runs in threads.
    """
    chains = [chain for chain in chains if chain]
    if at_once is None and len(chains) <= 1:
        return [
            result for chain in chains for result in sync_chain(account, chain, request, conversion_metric_id, tell)
        ]
    waiting = list(reversed(chains))
    workers: dict[Connection, tuple[BaseProcess, Sequence[str]]] = {}
    results: list[AssetResult] = []
    stop = told_to_stop()
    try:
        while waiting or workers:
            while waiting and len(workers) < (at_once or len(chains)):
                chain = waiting.pop()
                ours, worker = _start(account, identity, list(chain), request, conversion_metric_id)
                workers[ours] = worker, chain
            for ready in wait(list(workers), timeout=LOOK_SECONDS):
                assert isinstance(ready, Connection)
                results += _receive(ready, workers, tell)
            if stop.is_set():
                raise KeyboardInterrupt
    finally:
        for worker, _ in workers.values():
            worker.terminate()
        for worker, _ in workers.values():
            worker.join(timeout=STOP_SECONDS)
            worker.kill()
    return results


def _start(*arguments: Any) -> tuple[Connection, BaseProcess]:
    """A worker at its work, with these arguments of `_work`, and the channel on which it tells."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(*arguments, theirs), daemon=True)
    worker.start()
    theirs.close()
    return ours, worker


def _receive(
    ready: Connection, workers: dict[Connection, tuple[BaseProcess, Sequence[str]]], tell: Tell
) -> list[AssetResult]:
    """A line to tell, or the results of a worker that has ended."""
    try:
        message = ready.recv()
    except EOFError:
        worker, chain = workers.pop(ready)
        worker.join()
        return [AssetResult(asset, error=f"its process ended early (exit code {worker.exitcode})") for asset in chain]
    if isinstance(message, str):
        tell(message)
        return []
    worker, _ = workers.pop(ready)
    worker.join()
    found: list[AssetResult] = message
    return found


def _work(
    account: Account,
    identity: KlaviyoAccount,
    assets: list[str],
    request: SyncRequest,
    conversion_metric_id: str | None,
    channel: Connection,
) -> None:
    """A worker: syncs its chain, telling the parent by lines and at the end by results."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _interrupt)
        trust(account, identity)
        try:
            results = sync_chain(account, assets, request, conversion_metric_id, channel.send)
        except Exception as error:
            results = [AssetResult(asset, error=reason(error)) for asset in assets]
        channel.send(results)
    except (KeyboardInterrupt, BrokenPipeError):
        # Told to stop, or the parent was killed: there is nobody to tell, and a traceback would help nobody.
        sys.exit(1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Once is enough: a second signal would cut off the noting of why the run ended.
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)
    stop_sessions()
    raise KeyboardInterrupt


@dataclass(frozen=True)
class _Chain:
    """Assets that are synced one after the other, each run recorded in the instance."""

    account: Account
    engine: sa.Engine
    definitions: dg.Definitions
    instance: DagsterInstance
    request: SyncRequest
    conversion_metric_id: str | None
    tell: Tell

    def held_back(self, asset: str, before: Sequence[AssetResult]) -> AssetResult | None:
        """The result of metrics whose report came and was found to be wrong; None if there is nothing against them."""
        report = METRICS[asset].report if asset in METRICS else None
        if not any(result.asset == report and result.blocked for result in before):
            return None
        result = AssetResult(asset, skipped=f"held back by a check of {report}")
        self.tell(_told(result))
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
                result.skipped = "nothing to ask" if asset not in FULL_LISTINGS else "the last census is fresh"
            _add_counts(self.engine, self.account.slug, result)
        except Exception as error:
            result.error = reason(error)
        result.seconds = time.monotonic() - started
        self.tell(_told(result))
        return result

    def _runs(self, asset: str) -> Iterator[tuple[dict[str, str], dict[str, Any], int]]:
        """Tags, run config and number of windows of each run that this asset needs."""
        with self.engine.connect() as connection:
            now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            planner = Planner(self.account, now)
            # Nothing is yielded in here: the connection would stay in its transaction for as long as the run takes.
            is_due = asset in FULL_LISTINGS and planner.census_is_due(connection, asset, self.request)
            needs = asset in REPORT_ASSETS and REPORT_ASSETS[asset].report.needs_conversion_metric
            metric_id = self.conversion_metric_id if needs else None
            ranges = (
                planner.windows(connection, asset, self.request, conversion_metric_id=metric_id)
                if asset not in FULL_LISTINGS
                else []
            )
            expected = Estimator(self.account, now, connection, metric_id).estimates(
                replace(self.request, assets=[asset])
            )
        takes = _takes(expected[0])
        if is_due:
            self.tell(f"{asset}: a full listing{takes}")
            yield {}, self._config(asset), 0
        for number, windows in enumerate(ranges):
            self.tell(f"{asset}: {_span(windows)}{takes if number == 0 else ''}")
            yield range_tags(windows), {}, len(windows)

    def _out_of_scope(self, asset: str) -> str | None:
        """Why the key cannot see the tags, unless they were asked for by name; nothing else is optional."""
        if asset != TAGS.entity or self.request.named:
            return None
        with KlaviyoResource().session(self.account, Warehouse.of([self.account])) as session:
            try:
                next(session.client.pages(TAGS, TAGS.chains(None, None, session.now())[0]))
            except MissingScope as refused:
                scopes = ", ".join(refused.scopes or TAGS.list_endpoint.scopes)
                return f"the key lacks the scope {scopes}; create a key with it"
        return None

    def _config(self, asset: str) -> dict[str, Any]:
        """A census takes a word on how many deletes are plausible."""
        if asset not in FULL_LISTINGS:
            return {}
        config = {"accept_deletes": self.request.accept_deletes}
        return {"ops": {f"{self.account.slug}__{asset}": {"config": config}}}

    def _run(self, asset: str, tags: dict[str, str], config: dict[str, Any], result: AssetResult) -> None:
        """One run of one asset in this process, recorded in the instance."""
        key = dg.AssetKey([self.account.slug, asset])
        job = self.definitions.resolve_implicit_global_asset_job_def()
        logger = _progress_logger(lambda line: self.tell(f"{asset}: {line}"))
        executed = job.with_logger_defs({"progress": logger}).execute_in_process(
            instance=self.instance,
            # Here rather than as a subset of the job: only this way does the run name its asset in the UI.
            asset_selection=[key],
            tags={
                **tags,
                ACCOUNT_TAG: self.account.slug,
                HOST_TAG: socket.gethostname(),
                PROCESS_TAG: _process(os.getpid()),
            },
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


def _progress_logger(tell: Tell) -> dg.LoggerDefinition:
    """A run's logger that passes on what an asset says, and leaves out Dagster's own events."""

    class Progress(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            meta = getattr(record, "dagster_meta", {})
            line = str(meta.get("orig_message", record.getMessage()))
            # A check that is left out of a run is no news, and Dagster tells of each.
            if not meta.get("dagster_event") and "did not yield or return expected outputs" not in line:
                tell(line)

    def make(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("klaviyo_pipeline.sync", logging.INFO)
        logger.addHandler(Progress())
        return logger

    return dg.LoggerDefinition(make)


def prepare_instance(accounts: Sequence[Account]) -> None:
    """Free what died in earlier syncs on this machine, and make the accounts' pools."""
    with DagsterInstance.get() as instance:
        free_dead_runs(instance)
        for account in accounts:
            make_pool(instance, f"{account.slug}_api")


def free_dead_runs(instance: DagsterInstance) -> list[str]:
    """Mark runs of syncs that died on this machine as failed and free their pool slots; return their ids."""
    dead = []
    # One that was killed right after its birth has not even started.
    open_runs = instance.get_run_records(
        RunsFilter(tags={HOST_TAG: socket.gethostname()}, statuses=NOT_FINISHED_STATUSES)
    )
    for record in open_runs:
        run = record.dagster_run
        if _alive(run.tags.get(PROCESS_TAG, "")):
            continue
        instance.report_run_failed(run, "The process that ran this sync died.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        dead.append(run.run_id)
    return dead


def make_pool(instance: DagsterInstance, pool: str) -> None:
    """Make the pool's slots before the first workers ask for one.

    Dagster makes them on demand, and fails the run of all but the quickest when several processes ask at once.
    """
    storage = instance.event_log_storage
    if all(limit.name != pool for limit in storage.get_pool_limits()):
        # Where another sync is quicker, the pool is there all the same.
        with contextlib.suppress(sa.exc.DBAPIError):
            storage.initialize_concurrency_limit_to_default(pool)


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


def _takes(expected: Estimate) -> str:
    """What all runs of the asset ask, and how long the published rates alone make that take."""
    if not expected.requests:
        return ""
    requests = f"{expected.told_requests} request{'s' if expected.requests > 1 else ''}"
    time = f", {told_time(expected.seconds)} or more at the published rates" if expected.seconds >= 1 else ""
    return f": {requests}{time}"


def _told(result: AssetResult) -> str:
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
    is_census = result.asset in FULL_LISTINGS
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


def _process(pid: int) -> str:
    """A process by its id and start, so that a recycled id is not taken for it."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = ""
    return f"{pid}:{started}"


def _alive(process: str) -> bool:
    pid = process.partition(":")[0]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process == _process(int(pid))
