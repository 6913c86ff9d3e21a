"""The examples, in an empty environment with the wheel that this checkout builds.

`DAGSTER_VERSION` names the Dagster to install, as `make test-dagster VERSION=1.11.0` sets it. Installing and starting
Dagster many times takes minutes, so without the variable the test is skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.sandbox_account import READ_SCOPES
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.support import key_of

# Read here because the environment of the tests is cleaned.
VERSION = os.environ.get("DAGSTER_VERSION", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not VERSION, reason="it takes minutes; run: make test-dagster"),
]

BUILT_FROM = ("klaviyo_pipeline", "sql", "dagster.yaml", "workspace.yaml", "pyproject.toml", "setup.py", "MANIFEST.in")
ZONES = {"SHOP_UK": "Europe/London", "SHOP_US": "America/New_York", "SHOP_DE": "Europe/Berlin"}


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run([*command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return str(done.stdout)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The folder of the programs of an empty environment with the wheel and the example. Skips without a network."""
    source, venv = tmp_path / "source", tmp_path / "venv"
    source.mkdir()
    for name in (*BUILT_FROM, "README.md", "LICENSE", "examples"):
        path = PROJECT_ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path / "dist", source)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    try:
        run(*pip, "install", "-q", "--target", tmp_path / "tools", "uv")
    except AssertionError as error:
        if "No matching distribution" in str(error) or "connection" in str(error).lower():
            pytest.skip("the package index cannot be reached")
        raise
    uv = tmp_path / "tools" / "bin" / "uv"
    run(uv, "venv", "-q", "--python", sys.executable, venv)
    newest = VERSION == "newest"
    packages = ["dagster", "dagster-dg-cli"] if newest else [f"dagster=={VERSION}", f"dagster-dg-cli=={VERSION}"]
    run(uv, "pip", "install", "-q", "--python", venv / "bin" / "python", *packages, wheel)
    project = source / "examples" / "existing_project"
    run(uv, "pip", "install", "-q", "--no-deps", "--python", venv / "bin" / "python", "-e", project)
    return venv / "bin"


@pytest.fixture
def shops() -> Iterator[dict[str, str]]:
    """Variables with the keys of three small accounts, and the address at which all are served."""
    small = {"flows": 6, "campaigns": 8, "forms": 2, "segments": 2, "lists": 1}
    days = {"start": date(2025, 2, 20), "until": date(2025, 3, 10)}
    accounts = {
        name: generate_account(seed, timezone=zone, **small, **days)  # type: ignore[arg-type]
        for seed, (name, zone) in enumerate(ZONES.items(), start=1)
    }
    for name, account in accounts.items():
        account.api_keys = {f"pk_of_{name.lower()}": set(READ_SCOPES)}
    with SandboxServer(list(accounts.values()), rate_scale=0) as server:
        keys = {f"KLAVIYO_API_KEY_{name}": key_of(account) for name, account in accounts.items()}
        yield {**keys, "KLAVIYO_API_URL": server.url}


def test_the_examples_work_from_a_wheel_in_an_empty_environment(
    environment: Path, shops: dict[str, str], database: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    examples = tmp_path / "source" / "examples"
    print(
        run(
            environment / "python",
            "-W",
            "ignore",
            Path(__file__).with_name("scenario.py"),
            examples / "python_definitions",
            cwd=examples / "existing_project",
            env={
                **shops,
                "PATH": f"{environment}:/usr/bin:/bin",
                "VIRTUAL_ENV": str(environment.parent),
                "HOME": str(tmp_path),
                "DAGSTER_HOME": str(home),
                "DAGSTER_DISABLE_TELEMETRY": "1",
                "WAREHOUSE_URL": database,
            },
        )
    )
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT DISTINCT entity FROM shop_us.sync_windows").fetchall()
    assert found == [("flows",)]
    site = next(environment.parent.glob("lib/python*/site-packages"))
    assert not any(site.rglob(".klaviyo")), "state beside the code"
