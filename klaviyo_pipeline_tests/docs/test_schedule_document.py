"""The names, commands and services in `docs/schedule.md` exist and work as shown."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from klaviyo_pipeline.config.settings import PROJECT_ROOT, Account
from klaviyo_pipeline.orchestration.build import project_defs
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.dev_server import running
from klaviyo_pipeline_tests.support import empty_shop, environment

DOCUMENT = (PROJECT_ROOT / "docs" / "schedule.md").read_text(encoding="utf-8")
INSTALLED = "/opt/klaviyo-pipeline"
COMMANDS = re.findall(r"^\.venv/bin/(dagster .*)$", DOCUMENT, re.MULTILINE)
SWITCHED = (COMMANDS[0], COMMANDS[-1])
PREPARES, *SERVICES = re.findall(r"^ExecStart(?:Pre)?=(.*)$", DOCUMENT, re.MULTILINE)
STATE = """
query {
  instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } }
  schedulesOrError(repositorySelector: {
    repositoryName: "__repository__", repositoryLocationName: "klaviyo_pipeline"
  }) { ... on Schedules { results { name scheduleState { status } } } }
  sensorsOrError(repositorySelector: {
    repositoryName: "__repository__", repositoryLocationName: "klaviyo_pipeline"
  }) { ... on Sensors { results { name sensorState { status } } } }
}
"""
PATIENCE = 120.0


def test_the_document_reports_every_schedule_and_sensor_and_of_no_other() -> None:
    reported = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE))
    repository = project_defs([Account()]).get_repository_def()
    there = {one.name for one in (*repository.schedule_defs, *repository.sensor_defs)}
    assert reported == there
    assert {shlex.split(command)[3] for command in COMMANDS} <= there


def test_the_schedules_run_when_the_document_says() -> None:
    reported = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", DOCUMENT, re.MULTILINE))
    for schedule in project_defs([Account()]).get_repository_def().schedule_defs:
        minute, hour, *_ = str(schedule.cron_schedule).split()
        messages = reported[schedule.name]
        assert messages == "every 15 minutes" if minute == "*/15" else f"{int(hour):02}:{minute}" in messages


def local(line: str, port: int) -> list[str]:
    """A service's command, in this project and at a free port."""
    words = shlex.split(line.replace(INSTALLED, str(PROJECT_ROOT)).replace("-p 3000", f"-p {port}"))
    return [str(Path(sys.executable).with_name(Path(words[0]).name)), *words[1:]]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_commands_and_services_start_a_daemon_with_its_schedules(database: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    shop, log = empty_shop(), tmp_path / "services.log"
    with SandboxServer(shop, rate_scale=0) as server, ExitStack() as stack:
        reported = environment(shop, server.url, database, tmp_path) | {"KLAVIYO_ACCOUNT": "klaviyo"}
        variables = {**os.environ, **reported}
        # One of each kind: a command line of Dagster's takes seconds to start, and the names are tested above.
        for line in (PREPARES, *SWITCHED):
            command = local(line, port)
            subprocess.run(command, cwd=PROJECT_ROOT, env=variables, check=True, capture_output=True)
        for line in SERVICES:
            stack.enter_context(running(local(line, port), variables, log))
        state = _healthy(port, log)
    started = {
        one["name"]
        for one in (*state["schedulesOrError"]["results"], *state["sensorsOrError"]["results"])
        if (one.get("scheduleState") or one.get("sensorState"))["status"] == "RUNNING"
    }
    assert started == {shlex.split(command)[3] for command in SWITCHED}


def _healthy(port: int, log: Path) -> dict[str, Any]:
    """What the web server says, once every daemon that is needed is healthy."""
    deadline = time.monotonic() + PATIENCE
    messages = None
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(f"http://127.0.0.1:{port}/graphql", json={"query": STATE}, timeout=30)
            messages = answer.raise_for_status().json()["data"]
            daemons = messages["instance"]["daemonHealth"]["allDaemonStatuses"]
            if all(one["healthy"] for one in daemons if one["required"]):
                return dict(messages)
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"the services do not come up: {messages}\n{log.read_text(errors='replace')[-4000:]}")
