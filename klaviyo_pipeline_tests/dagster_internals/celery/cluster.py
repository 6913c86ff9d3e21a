"""The services of `deploy/docker-compose.yml` as processes: Redis, Celery workers, a code location, a daemon."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_graphql.cli import execute_query

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline_tests.dev_server import launch_of, running

CELERY_YAML = PROJECT_ROOT / "deploy" / "dagster" / "celery.yaml"
REDIS = shutil.which("redis-server")
PATIENCE = 300.0
END = ("SUCCESS", "FAILURE", "CANCELED")


@dataclass
class Cluster:
    """Celery workers and a daemon that execute the queued runs of one Dagster instance."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext
    workers: dict[str, subprocess.Popen[bytes]]
    """Workers by their Celery name."""
    log: Path
    begin: Callable[[str], subprocess.Popen[bytes]]

    def launch(self, job: str, asset: str, first: str, last: str) -> str:
        """Queue a run of one asset of the job, and return its id."""
        body = launch_of(first, last)
        slug, _, _ = job.rpartition("_")
        body["variables"]["run"]["selector"] |= {
            "jobName": job,
            "assetSelection": [{"path": [slug, asset]}],
            "assetCheckSelection": [],
        }
        answer = execute_query(self.workspace, body["query"], body["variables"])
        return str(answer["data"]["launchRun"]["run"]["runId"])

    def run(self, run_id: str) -> dg.DagsterRun:
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found

    def worker_of(self, run_id: str) -> str:
        """The worker that executes the run."""
        task = self.run(run_id).tags["dagster-celery/task_id"]
        reported = self.instance.run_launcher.celery.backend.get_task_meta(task)  # type: ignore[attr-defined]
        return str(reported["result"]["hostname"])

    def start(self, worker: str) -> None:
        """Start another worker, as a supervisor of the killed one would."""
        self.workers[worker] = self.begin(worker)

    def kill(self, worker: str) -> None:
        """SIGKILL the worker and every process of its runs, as when its machine loses power."""
        process = self.workers.pop(worker)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def ended(self) -> list[dg.DagsterRun]:
        """All runs, after every run has finished and every retry has been started."""
        runs: list[dg.DagsterRun] = self.until(self._all_ended, "the runs do not end")
        return runs

    def until(self, found: Callable[[], Any], otherwise: str) -> Any:
        """The result of `found`, as soon as it is not empty."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if it := found():
                return it
            # Reading every run takes longer than most pauses.
            time.sleep(0.5)
        raise AssertionError(f"{otherwise}: {self._reported()}\n{self.log.read_text(errors='replace')[-6000:]}")

    def _all_ended(self) -> list[dg.DagsterRun] | None:
        runs = list(self.instance.get_runs())
        retried = {run.parent_run_id for run in runs}
        # Dagster says whether it retries a failed run only a moment after it marked the run as failed.
        to_come = [
            run
            for run in runs
            if run.status is dg.DagsterRunStatus.FAILURE
            and run.tags.get(WILL_RETRY_TAG) != "false"
            and run.run_id not in retried
        ]
        return None if to_come or any(run.status.value not in END for run in runs) else runs

    def _reported(self) -> list[tuple[str, str]]:
        return [(run.job_name, run.status.value) for run in self.instance.get_runs()]


@contextmanager
def cluster(
    variables: dict[str, str], folder: Path, names: Sequence[str] = ("one", "other"), places: int = 2
) -> Iterator[Cluster]:
    """Start the services, each as a process, with these environment variables and with logs in `folder`.

    There is a worker with `places` slots for each of the names.
    """
    log = folder / "services.log"
    home = Path(variables["DAGSTER_HOME"])
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        ports = [free_port() for _ in range(2)]
        reported = {**variables, "CELERY_BROKER_URL": f"redis://127.0.0.1:{ports[0]}/0"}
        _configure(home, len(names) * places)
        workspace = home / "workspace.yaml"
        location = {"host": "127.0.0.1", "port": ports[1], "location_name": "klaviyo_pipeline"}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": location}]}))
        for name, value in reported.items():
            patch.setenv(name, value)
        environment = dict(os.environ)
        assert REDIS is not None
        redis = [REDIS, "--port", str(ports[0]), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        stack.enter_context(running(redis, environment, log))
        code = [_program("dagster"), "api", "grpc", "-h", "127.0.0.1", "-p", str(ports[1])]
        stack.enter_context(running([*code, "-m", "klaviyo_pipeline.definitions"], environment, log))
        wait_for(ports)

        def begin(worker: str) -> subprocess.Popen[bytes]:
            return _worker(stack, worker, places, environment, log)

        workers = {name: begin(name) for name in [f"{name}@test" for name in names]}
        instance = stack.enter_context(dg.DagsterInstance.get())
        instance.optimize_for_webserver(60_000, pool_recycle=3600, max_overflow=4)
        daemon = [_program("dagster-daemon"), "run", "-w", str(workspace)]
        stack.enter_context(running(daemon, environment, log))
        context = stack.enter_context(WorkspaceProcessContext(instance, WorkspaceFileTarget([str(workspace)])))
        yield Cluster(instance, context, workers, log, begin)


def _configure(home: Path, places: int) -> None:
    """The configuration of deploy/ with shorter timeouts, so that tests detect a dead worker quickly."""
    configuration = yaml.safe_load(CELERY_YAML.read_text())
    del configuration["local_artifact_storage"]
    configuration["run_launcher"]["config"]["silence_seconds"] = 2
    configuration["run_monitoring"] |= {"poll_interval_seconds": 1, "free_slots_after_run_end_seconds": 1}
    configuration["run_monitoring"]["start_timeout_seconds"] = 60
    configuration["concurrency"]["runs"]["max_concurrent_runs"] = places
    configuration["run_coordinator"] = {
        "module": "dagster.core.run_coordinator",
        "class": "QueuedRunCoordinator",
        "config": {"dequeue_interval_seconds": 1},
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(configuration))


def _worker(
    stack: ExitStack, name: str, places: int, environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """A worker in its own process group, which ends with the stack."""
    command = [_program("celery"), "-A", "klaviyo_pipeline.dagster_internals.celery.celery_app", "worker", "-n", name]
    output = stack.enter_context(log.open("ab"))
    process = subprocess.Popen(
        [*command, "--concurrency", str(places), "--without-mingle", "--without-gossip"],
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(ports: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
