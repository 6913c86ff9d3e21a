"""The health of a task that the launcher reports to run monitoring, which fails the run of an unhealthy one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan, execute_plan
from dagster._core.launcher import WorkerStatus
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from klaviyo_pipeline.config.settings import PROJECT_ROOT, SettingsError
from klaviyo_pipeline.dagster_internals.celery.celery_launcher import CeleryLauncher
from klaviyo_pipeline_tests.dagster_internals.celery.cluster import REDIS, free_port, wait_for
from klaviyo_pipeline_tests.dev_server import running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REDIS is None, reason="needs redis-server: apt-get install redis-server"),
]

TASK = "7d1c0b5e"
SUPERVISED = """
import sys
from klaviyo_pipeline.dagster_internals.celery.supervisor import supervise
child = "import signal as s, time; s.signal(15, lambda *_: exit(7)); print('ready', flush=True); time.sleep(60)"
sys.exit(supervise([sys.executable, "-c", child]))
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis that nobody else uses, without a worker."""
    assert REDIS is not None
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    command = [REDIS, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with running(command, os.environ, folder / "redis.log"):
        wait_for([port])
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("klaviyo_pipeline"), "__repository__")
    return create_run_for_test(
        instance,
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster-celery/task_id": TASK},
        remote_job_origin=RemoteJobOrigin(repository, "shop_entities"),
    )


@dg.op
def flows() -> None:
    """A step that succeeds."""


@dg.op(ins={"before": dg.In(dg.Nothing)}, config_schema={"fails": dg.Field(bool, default_value=False)})
def report(context) -> None:  # type: ignore[no-untyped-def]
    """A step that succeeds or fails as configured."""
    if context.op_config["fails"]:
        raise RuntimeError("it fails")


@dg.job
def morning() -> None:
    """Two steps, one after the other."""
    report(before=flows())


def launcher(broker: str, instance: dg.DagsterInstance, silence_seconds: int = 60) -> CeleryLauncher:
    made = CeleryLauncher(silence_seconds, broker=broker, backend=broker, default_queue="dagster")
    made.register_instance(instance)
    return made


def reported(launcher: CeleryLauncher, state: str, outcome: object) -> None:
    """Store what a worker would store about the task."""
    launcher.celery.backend.forget(TASK)
    launcher.celery.backend.store_result(TASK, outcome, state)


def test_a_worker_that_does_not_reply_counts_as_dead_after_some_time(
    broker: str, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    patient, impatient = launcher(broker, instance), launcher(broker, instance, silence_seconds=0)
    reported(patient, "STARTED", {"hostname": "gone@elsewhere", "pid": 1})
    assert patient.check_run_worker_health(run).status is WorkerStatus.RUNNING
    found = impatient.check_run_worker_health(run)
    assert (found.status, found.msg) == (WorkerStatus.FAILED, "The worker gone@elsewhere has not replied for 0 s.")


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_task_that_has_ended_before_its_run_fails_the_run(
    state: str, broker: str, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    requested = launcher(broker, instance)
    reported(requested, state, RuntimeError("it failed") if state == "FAILURE" else None)
    found = requested.check_run_worker_health(run)
    assert found.status is WorkerStatus.FAILED
    assert state in (found.msg or "")


@pytest.mark.parametrize(
    ("steps", "fails", "healthy", "becomes"),
    [
        (["flows", "report"], False, WorkerStatus.SUCCESS, dg.DagsterRunStatus.SUCCESS),
        (["flows"], False, WorkerStatus.FAILED, dg.DagsterRunStatus.STARTED),
        (["flows", "report"], True, WorkerStatus.FAILED, dg.DagsterRunStatus.STARTED),
    ],
    ids=["died after its last step", "died before it", "its last step failed"],
)
def test_a_run_that_died_after_its_last_step_has_succeeded(
    steps: list[str],
    fails: bool,
    healthy: WorkerStatus,
    becomes: dg.DagsterRunStatus,
    broker: str,
    instance: dg.DagsterInstance,
) -> None:
    """Dagster does not retry a run without remaining steps, so a failure would be final."""
    config = {"ops": {"report": {"config": {"fails": fails}}}}
    run = instance.create_run_for_job(
        morning,
        execution_plan=create_execution_plan(morning, config),
        run_config=config,
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster-celery/task_id": TASK},
    )
    done = create_execution_plan(morning, config, step_keys_to_execute=steps)
    execute_plan(done, InMemoryJob(morning), instance, run, config)
    requested = launcher(broker, instance)
    reported(requested, "STARTED", {"hostname": "gone@elsewhere", "pid": 1})
    assert requested.check_run_worker_health(run).status is WorkerStatus.RUNNING
    reported(requested, "SUCCESS", None)
    assert requested.check_run_worker_health(run).status is healthy
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is becomes
    # Called again, as by a daemon that has read the status earlier: the event is not stored twice.
    assert requested.check_run_worker_health(run).status is healthy
    messages = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_SUCCESS).records
    assert len(messages) == (becomes is dg.DagsterRunStatus.SUCCESS)


def test_a_broker_that_lost_the_task_does_not_fail_its_run_at_once(
    broker: str, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    requested = launcher(broker, instance)
    requested.celery.backend.forget(TASK)
    assert requested.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_cancelling_a_task_stops_the_process_of_its_run() -> None:
    command = [sys.executable, "-c", SUPERVISED]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 7


def test_an_error_about_missing_celery_names_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "dagster_celery.py").write_text("raise ModuleNotFoundError('no dagster_celery')")
    done = subprocess.run(
        [sys.executable, "-c", "import klaviyo_pipeline.dagster_internals.celery.celery_launcher"],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Install requirements-deploy.lock" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "address", ["redis://:longHIDDEN/x@127.0.0.1:6391/0", "HIDDENpw", "redis://:HIDDEN#a@host:1/0"]
)
def test_an_invalid_broker_url_is_reported_in_one_line_without_its_password(address: str) -> None:
    with pytest.raises(SettingsError, match=r"^CELERY_BROKER_URL is not a valid broker URL\. .*%2F\)\.$") as refused:
        CeleryLauncher(60, broker=address, default_queue="dagster")
    assert "HIDDEN" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


def test_a_list_of_brokers_is_a_valid_address() -> None:
    CeleryLauncher(60, broker="sentinel://one:26379;sentinel://two:26379", default_queue="dagster")
