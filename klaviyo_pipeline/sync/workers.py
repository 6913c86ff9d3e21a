"""Runs groups of assets concurrently, each group in its own process."""

import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Self

from dagster import DagsterInstance

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.account import KlaviyoAccount
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import cache_identity, stop_requested, stop_sessions
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.engine import reason
from klaviyo_pipeline.sync.asset_runs import AssetResult, AssetRuns, ProgressCallback, asset_runs
from klaviyo_pipeline.sync.forkserver import forking_context

STOP_SECONDS = 10.0
POLL_SECONDS = 0.5
"""How often a thread checks whether the sync was stopped. A signal interrupts only the main thread."""


class Workers:
    """The worker processes of one sync. Until the block ends, each takes one group of assets after the other.

    Groups run in processes, not in threads: when a run begins, Dagster configures the logging of its whole process,
    which can deadlock other runs. If each stage of the sync has at most one group and `at_once` is None, no worker is
    started, and the assets run in this process. `at_once` limits the number of workers.
    """

    def __init__(
        self,
        instance: DagsterInstance,
        account: Account,
        identity: KlaviyoAccount,
        request: SyncRequest,
        conversion_metrics: Mapping[str, Sequence[str]],
        on_progress: ProgressCallback,
        at_once: int | None = None,
    ) -> None:
        self._identity, self._on_progress, self._at_once = identity, on_progress, at_once
        self._shared = account, request, conversion_metrics
        self._instance = instance
        self._none_needed = at_once is None and all(len(groups) <= 1 for groups in request.stages)
        self._processes: dict[Connection, BaseProcess] = {}
        self._groups: dict[Connection, Sequence[str]] = {}
        """The group that each busy worker runs."""
        self._here = ExitStack()
        self._runs_here: AssetRuns | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        self._here.close()
        for channel, process in self._processes.items():
            if raised is None:
                channel.close()
            else:
                process.terminate()
        for process in self._processes.values():
            process.join(timeout=STOP_SECONDS)
            process.kill()

    def run(self, groups: Sequence[Sequence[str]]) -> list[AssetResult]:
        """Sync these groups of assets concurrently. Return one result for each asset, in no particular order."""
        if self._none_needed:
            return [result for group in groups for result in self._run_here(group)]
        waiting = list(reversed(groups))
        results: list[AssetResult] = []
        stop = stop_requested()
        while waiting or self._groups:
            while waiting and len(self._groups) < (self._at_once or len(groups)):
                self._start(waiting.pop())
            for ready in wait(list(self._groups), timeout=POLL_SECONDS):
                assert isinstance(ready, Connection)
                results += self._receive(ready)
            if stop.is_set():
                raise KeyboardInterrupt
        return results

    def _run_here(self, group: Sequence[str]) -> list[AssetResult]:
        if self._runs_here is None:
            self._runs_here = self._here.enter_context(asset_runs(self._instance, *self._shared, self._on_progress))
        return self._runs_here.sync_group(group)

    def _start(self, group: Sequence[str]) -> None:
        """Pass the group to an idle worker, or to a new one."""
        channel = next((one for one in self._processes if one not in self._groups), None) or self._new_worker()
        self._groups[channel] = group
        # The error is ignored here, because `_receive` reports a worker that died while it was idle.
        with suppress(BrokenPipeError, ConnectionResetError):
            channel.send(list(group))

    def _new_worker(self) -> Connection:
        context = forking_context()
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(*self._shared, self._identity, theirs), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def _receive(self, ready: Connection) -> list[AssetResult]:
        """Receive a message from a worker. Return the results of its group, or nothing after a progress line.

        If the worker has died, each asset of its group gets an error as its result.
        """
        try:
            message = ready.recv()
        except (EOFError, ConnectionResetError):
            process, group = self._processes.pop(ready), self._groups.pop(ready)
            process.join()
            error = f"the worker process died (exit code {process.exitcode})"
            return [AssetResult(asset, error=error) for asset in group]
        if isinstance(message, str):
            self._on_progress(message)
            return []
        del self._groups[ready]
        results: list[AssetResult] = message
        return results


def _work(
    account: Account,
    request: SyncRequest,
    conversion_metrics: Mapping[str, Sequence[str]],
    identity: KlaviyoAccount,
    channel: Connection,
) -> None:
    """The main function of a worker: syncs the groups that it receives, and sends progress lines and results."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _interrupt)
        cache_identity(account, identity)
        runs: AssetRuns | None = None
        with ExitStack() as opened:
            while True:
                group: list[str] = channel.recv()
                try:
                    if runs is None:
                        instance = opened.enter_context(DagsterInstance.get())
                        runs = opened.enter_context(
                            asset_runs(instance, account, request, conversion_metrics, channel.send)
                        )
                    results = runs.sync_group(group)
                except Exception as error:
                    results = [AssetResult(asset, error=reason(error)) for asset in group]
                channel.send(results)
    except EOFError:
        return  # There are no more groups, or the parent process was killed.
    except (KeyboardInterrupt, BrokenPipeError):
        # The sync was stopped, or the parent process was killed. This is no error of the worker: print no traceback.
        sys.exit(1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A second signal would interrupt the recording of why the run ended, so further signals are ignored.
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    stop_sessions()
    raise KeyboardInterrupt
