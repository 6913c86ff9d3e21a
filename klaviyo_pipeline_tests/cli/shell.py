"""Runs commands in separate processes, or in this one, in the environment of a served account."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.support import SLUG, environment, key_of

PROGRAM = str(Path(sys.executable).with_name("klaviyo-pipeline"))
DAYS = ("--from", "2025-03-01", "--to", "2025-03-14")
ENTITIES = ("flows", "campaigns", "forms", "segments")
REFUSED = "postgresql://nobody:hidden@127.0.0.1:9/w"


@dataclass(frozen=True)
class Outcome:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Shell:
    """A shell with the settings of a served account in its environment."""

    shop: SandboxAccount
    server: SandboxServer
    database: str
    variables: dict[str, str]

    def start(self, *arguments: str, **changed: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, *arguments],
            env={**os.environ, **self.variables, **changed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str], seconds: float = 280) -> Outcome:
        """Wait for the process. Its output must not contain the key or a password."""
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        self.check_secrets(out + err)
        return Outcome(process.returncode, out, err)

    def run(self, *arguments: str, **changed: str) -> Outcome:
        return self.end(self.start(*arguments, **changed))

    def check_secrets(self, output: str) -> None:
        for secret in (key_of(self.shop), psycopg.conninfo.conninfo_to_dict(self.database)["password"]):
            assert str(secret) not in output

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.database, options=f"-csearch_path={SLUG}") as connection:
            return connection.execute(query.encode()).fetchall()


def shell_for(shop: SandboxAccount, server: SandboxServer, database: str, home: Path) -> Shell:
    return Shell(shop, server, database, environment(shop, server.url, database, home))


@dataclass(frozen=True)
class Here:
    """Runs commands in this process, in the environment of a shell.

    A sync of several entities runs them in worker processes, whose environment is the one of the first test with such a
    sync: use a separate process for it.
    """

    shell: Shell
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: str, **changed: str | None) -> Outcome:
        outcome = run_here(arguments, {**self.shell.variables, **changed}, self.patch, self.capture)
        self.shell.check_secrets(outcome.out + outcome.err)
        return outcome


def run_here(
    arguments: Sequence[str],
    variables: Mapping[str, str | None],
    patch: pytest.MonkeyPatch,
    capture: pytest.CaptureFixture[str],
) -> Outcome:
    """Run a command in this process, with these environment variables. None unsets a variable."""
    for name, value in variables.items():
        patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
    capture.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capture.readouterr()
    assert isinstance(ended.value.code, int)
    return Outcome(ended.value.code, out, err)
