"""Images and clusters cannot run in a test, so their files are checked against what their tools expect."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest
import yaml
from compose_spec import PyCompose
from dagster._config import process_config
from dagster._core.instance import InstanceRef
from dagster_k8s import K8sRunLauncher

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.dagster_internals.celery.celery_launcher import CeleryLauncher

pytestmark = pytest.mark.slow

DEPLOY = PROJECT_ROOT / "deploy"
BROKER = "redis://:hush-hush@127.0.0.1:1/0"


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture
def compose() -> Any:
    return loaded(DEPLOY / "docker-compose.yml")


@pytest.fixture
def values() -> Any:
    return loaded(DEPLOY / "helm" / "values.yaml")


def instance_of(configuration: str, database: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    monkeypatch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", database)
    (folder / "dagster.yaml").write_text((DEPLOY / "dagster" / configuration).read_text())
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder)))


def test_celery_is_switched_on_only_by_its_configuration_and_no_password_is_visible(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", BROKER)
    with instance_of("celery.yaml", database, tmp_path, monkeypatch) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, CeleryLauncher)
        assert launcher.celery.conf.broker_url == launcher.celery.conf.result_backend == BROKER
        output = instance.info_str() + str(instance.get_ref())
    assert "CELERY_BROKER_URL" in output
    assert "hush" not in output
    assert urlsplit(database).netloc not in output


def test_a_worker_takes_no_more_runs_than_it_can_execute_and_no_running_one_is_delivered_again(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", BROKER)
    with instance_of("celery.yaml", database, tmp_path, monkeypatch) as instance:
        settings = instance.run_launcher.celery.conf  # type: ignore[attr-defined]
        assert (settings.task_acks_late, settings.worker_prefetch_multiplier) == (True, 1)
        assert settings.task_reject_on_worker_lost is False
        longest = instance.run_monitoring_max_runtime_seconds
        assert settings.broker_transport_options["visibility_timeout"] > longest


def test_the_launcher_of_kubernetes_accepts_its_configuration(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with instance_of("k8s.yaml", database, tmp_path, monkeypatch) as instance:
        reported = instance.get_ref().run_launcher_data
        assert reported is not None
        understood = process_config(K8sRunLauncher.config_type(), yaml.safe_load(reported.config_yaml))
        assert understood.errors is None or understood.errors == []
        assert understood.success


@pytest.mark.parametrize("name", ["celery.yaml", "k8s.yaml"])
def test_a_configuration_differs_from_the_projects_own_only_in_where_runs_go(name: str) -> None:
    own, other = loaded(PROJECT_ROOT / "dagster.yaml"), loaded(DEPLOY / "dagster" / name)
    differing = {key for key in own.keys() | other.keys() if own.get(key) != other.get(key)}
    assert differing == {"compute_logs", "run_launcher", "concurrency", "run_monitoring"}
    assert own["concurrency"]["pools"] == other["concurrency"]["pools"]
    assert own["run_monitoring"].keys() <= other["run_monitoring"].keys()
    limits = [{limit["key"] for limit in one["concurrency"]["runs"]["tag_concurrency_limits"]} for one in (own, other)]
    assert limits[0] == limits[1]


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_copies_existing_files_runs_as_an_unprivileged_user_and_contains_no_secret() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copies = [line.split() for line in lines if line.startswith("COPY ") and "--from" not in line]
    copied = [word for _, *words, _ in copies for word in words]
    assert [name for name in copied if not (PROJECT_ROOT / name).exists()] == []
    let_in = re.findall(r"^!(.*)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert set(copied) == set(let_in)
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER 10001:10001"]


def test_the_compose_file_is_valid(compose: Any) -> None:
    understood = PyCompose.from_json(json.dumps(compose))
    understood.validate()
    assert set(understood.service_names()) == compose["services"].keys()
    compose["services"]["daemon"]["comand"] = "x"
    with pytest.raises(ValueError, match="comand"):
        PyCompose.from_json(json.dumps(compose))


def test_every_file_that_the_compose_file_mounts_exists_except_secrets_and_accounts(compose: Any) -> None:
    files = [one["file"] for one in compose["configs"].values()]
    assert [name for name in files if not (DEPLOY / name).exists()] == ["../accounts.yaml"]


def test_only_one_daemon_runs_and_only_workers_have_the_keys(compose: Any) -> None:
    services = compose["services"]
    daemons = [name for name, service in services.items() if "dagster-daemon" in service.get("command", [])]
    assert daemons == ["daemon"]
    assert "container_name" in services["daemon"]
    with_keys = [name for name, service in services.items() if "secrets/keys" in str(service.get("volumes"))]
    assert with_keys == ["worker"]


def test_every_long_running_service_has_a_health_check(compose: Any) -> None:
    assert [name for name, service in compose["services"].items() if "healthcheck" not in service] == ["migrate"]


def test_the_slots_of_two_workers_match_the_limit_of_the_queue(compose: Any) -> None:
    [each] = [int(word.partition("=")[2]) for word in compose["services"]["worker"]["command"] if "concurrency" in word]
    assert loaded(DEPLOY / "dagster" / "celery.yaml")["concurrency"]["runs"]["max_concurrent_runs"] == 2 * each


def test_the_chart_has_the_version_of_the_installed_dagster(values: Any) -> None:
    text = (DEPLOY / "helm" / "values.yaml").read_text()
    lock = (PROJECT_ROOT / "requirements-deploy.lock").read_text()
    assert re.findall(r"--version (\S+)", text) == [dg.__version__]
    assert f"\ndagster=={dg.__version__} " in lock


def test_the_charts_launcher_queue_and_monitoring_match_the_configuration(values: Any) -> None:
    """The chart has its own spelling of keys, and maps them to the launcher's."""
    other = loaded(DEPLOY / "dagster" / "k8s.yaml")
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    understood = process_config(
        K8sRunLauncher.config_type(), {"service_account_name": "x", "instance_config_map": "x", **snaked(launcher)}
    )
    assert understood.success, understood.errors
    daemon = values["dagsterDaemon"]
    queue = snaked(daemon["runCoordinator"]["config"]["queuedRunCoordinator"])
    queue["tag_concurrency_limits"] = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]["tagConcurrencyLimits"]
    assert queue == other["concurrency"]["runs"]
    monitoring = snaked(daemon["runMonitoring"])
    assert {name: other["run_monitoring"].get(name, 0) for name in monitoring} == monitoring
    assert snaked(daemon["runRetries"]) == other["run_retries"]


def snaked(values: Any) -> Any:
    """The chart's keys in Dagster's spelling, down to Kubernetes' own keys."""
    return {_snake(key): snaked(value) if key == "runK8sConfig" else value for key, value in values.items()}


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
