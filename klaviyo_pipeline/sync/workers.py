"""Chains of assets side by side, each in a process of its own."""

import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.account import KlaviyoAccount as KlaviyoAccount
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import cache_identity, stop_requested, stop_sessions
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.engine import reason
from klaviyo_pipeline.sync.asset_runs import AssetResult, ProgressCallback, sync_assets
from klaviyo_pipeline.sync.forkserver import forking_context

STOP_SECONDS = 10.0
LOOK_SECONDS = 0.5
"""How often it is seen whether the sync was told to stop: only the main thread is interrupted by a signal."""


def run_concurrently(
    account: Account,
    identity: KlaviyoAccount,
    groups: Sequence[Sequence[str]],
    request: SyncRequest,
    conversion_metrics: Mapping[str, str],
    on_progress: ProgressCallback,
    at_once: int | None = None,
) -> list[AssetResult]:
    """Sync several chains of assets at once, each in a process of its own.

    Dagster reconfigures the logging of the whole process whenever a run begins, which deadlocks runs in threads.
    """
    if at_once is None and len(groups) <= 1:
        return [
            result
            for group in groups
            for result in sync_assets(account, group, request, conversion_metrics, on_progress)
        ]
    waiting = list(reversed(groups))
    workers: dict[Connection, tuple[BaseProcess, Sequence[str]]] = {}
    results: list[AssetResult] = []
    stop = stop_requested()
    try:
        while waiting or workers:
            while waiting and len(workers) < (at_once or len(groups)):
                group = waiting.pop()
                ours, worker = _start(account, identity, list(group), request, conversion_metrics)
                workers[ours] = worker, group
            for ready in wait(list(workers), timeout=LOOK_SECONDS):
                assert isinstance(ready, Connection)
                results += _receive(ready, workers, on_progress)
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
    context = forking_context()
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(*arguments, theirs), daemon=True)
    worker.start()
    theirs.close()
    return ours, worker


def _receive(
    ready: Connection, workers: dict[Connection, tuple[BaseProcess, Sequence[str]]], on_progress: ProgressCallback
) -> list[AssetResult]:
    """A line to tell, or the results of a worker that has ended."""
    try:
        message = ready.recv()
    except EOFError:
        worker, group = workers.pop(ready)
        worker.join()
        return [AssetResult(asset, error=f"its process ended early (exit code {worker.exitcode})") for asset in group]
    if isinstance(message, str):
        on_progress(message)
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
    conversion_metrics: Mapping[str, str],
    channel: Connection,
) -> None:
    """A worker: syncs its chain, telling the parent by lines and at the end by results."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _interrupt)
        cache_identity(account, identity)
        try:
            results = sync_assets(account, assets, request, conversion_metrics, channel.send)
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
