"""Help, errors in one line, and JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from klaviyo_pipeline import catalog
from klaviyo_pipeline.cli.main import COMMANDS
from klaviyo_pipeline.cli.shared import json_text
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline_tests.cli.shell import DAYS, REFUSED, Here, Shell

pytestmark = pytest.mark.slow

TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


@pytest.mark.parametrize(
    ("arguments", "changed", "code", "line"),
    [
        (["sync", "flows"], {"KLAVIYO_API_KEY": None}, 1, "KLAVIYO_API_KEY is not set"),
        (["sync", "flows"], {"KLAVIYO_API_KEY": "pk_wrong"}, 1, "Check KLAVIYO_API_KEY"),
        (["sync", "flows"], {"KLAVIYO_API_URL": "http://example.com"}, 1, "http"),
        (["sync", "flows"], {"KLAVIYO_API_URL": "nonsense"}, 1, "KLAVIYO_API_URL"),
        (["sync", "flows"], {"KLAVIYO_DATABASE_URL": REFUSED}, 1, "cannot connect to Postgres at 127.0.0.1:9/w"),
        (["status"], {"KLAVIYO_DATABASE_URL": REFUSED}, 1, "cannot connect to Postgres at 127.0.0.1:9/w"),
        (["status"], {"KLAVIYO_DATABASE_URL": "mysql://u:hidden@h/d"}, 1, "KLAVIYO_DATABASE_URL"),
        (["status"], {}, 1, "klaviyo-pipeline migrate"),
        (["metrics", *DAYS], {}, 1, "klaviyo-pipeline migrate"),
        (["metrics", *DAYS, "--exact"], {}, 1, "klaviyo-pipeline migrate"),
        (["sync"], {"KLAVIYO_START_DATE": TOMORROW}, 1, "KLAVIYO_START_DATE"),
        (["sync"], {"KLAVIYO_START_DATE": "yesterday"}, 1, "KLAVIYO_START_DATE"),
        (["sync"], {"KLAVIYO_TIMEZONE": "Mars/Base"}, 1, "KLAVIYO_TIMEZONE"),
        (["sync"], {"KLAVIYO_SYNC_WINDOW": "weekly"}, 1, "KLAVIYO_SYNC_WINDOW"),
        (["sync"], {"KLAVIYO_ACCOUNT": "pg_toast"}, 1, "KLAVIYO_ACCOUNT"),
        (["sync", "--from", "2025-13-01"], {}, 2, "'2025-13-01' is not a valid date"),
        (["sync", "--from", "2025-03-10", "--to", "2025-03-09"], {}, 2, "is after --to"),
        (["sync", "--from", "2025-02-28"], {}, 2, "KLAVIYO_START_DATE=2025-03-01"),
        (["sync", "--from", TOMORROW], {}, 2, "is in the future"),
        (["metrics", "--from", "2025-03-10", "--to", "2025-03-09"], {}, 2, "is after --to"),
        (["metrics", "--from", "2025-03-10"], {}, 2, "--to"),
        (["metrics", "--from", "2099-03-10", "--to", "2099-03-11"], {}, 2, "is in the future"),
        (["list", "flows", "--from", "2025-03-10", "--to", "2025-03-09"], {}, 2, "is after --to"),
        (["report", "--out", "r.html", "--from", "2025-03-10", "--to", "2025-03-09"], {}, 2, "is after --to"),
        (["report", "--out", "r.html", "--from", TOMORROW], {}, 2, "is in the future"),
        (["report", "--out", "r.html", "--to", "2025-02-30"], {}, 2, "is not a valid date"),
        (["report"], {}, 2, "--out"),
        (["report", "--out", "/dev/null"], {}, 2, "is not a regular file"),
        (["report", "--out", "/nowhere/r.html"], {}, 2, "folder /nowhere does not exist"),
        (["sync", "flow"], {}, 2, "unknown asset 'flow'"),
        (["sync", "forms"], {"KLAVIYO_ASSETS": "flows"}, 2, "forms is switched off. To sync it, add it to KLAVIYO_AS"),
        (["plan", "flow_report"], {"KLAVIYO_ASSETS": "flows"}, 2, "KLAVIYO_ASSETS"),
        (["sync"], {"KLAVIYO_ASSETS": "flows, nonsense"}, 1, "KLAVIYO_ASSETS: there is no asset 'nonsense'"),
        (["list", "profiles"], {}, 2, "profiles"),
        (["status", "--format", "xml"], {}, 2, "xml"),
        (["nonsense"], {}, 2, "nonsense"),
        (["sync", "--nonsense"], {}, 2, "--nonsense"),
    ],
)
def test_an_error_is_one_line(
    arguments: Sequence[str], changed: dict[str, str | None], code: int, line: str, here: Here
) -> None:
    outcome = here.run(*arguments, **changed)
    assert outcome.code == code
    assert outcome.err.startswith("Error: ")
    assert outcome.err.count("\n") == 1, outcome.err
    assert line in outcome.err
    assert "hidden" not in outcome.err
    assert "Traceback" not in outcome.out + outcome.err


def test_an_unreachable_api_is_an_error_in_one_line(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.0)
    outcome = here.run("sync", "flows", KLAVIYO_API_URL="http://127.0.0.1:9")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "Klaviyo cannot be reached" in outcome.err


def test_debug_prints_the_traceback(fresh: Shell) -> None:
    outcome = fresh.run("status", "--debug")
    assert outcome.code == 1
    assert "Traceback" in outcome.err


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_command_has_help(command: tuple[str, ...], here: Here) -> None:
    outcome = here.run(*command, "--help", KLAVIYO_START_DATE="nonsense")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(" ".join(["Usage: klaviyo-pipeline", *command]))
    assert len(outcome.out.splitlines()) > 4


def test_the_help_of_sync_names_every_asset_and_marks_those_that_are_off(here: Here) -> None:
    words = here.run("sync", "--help").out.replace(",", " ").split()
    names = [name for name in catalog.ASSETS if not name.endswith("_census")]
    assert [name for name in names if f"{name}{'*' * (name in catalog.OFF_BY_DEFAULT)}" not in words] == []


@pytest.mark.parametrize("command", ["reset-windows", "reset-clock"])
def test_a_command_that_is_not_confirmed_changes_nothing(command: str, fresh: Shell) -> None:
    outcome = fresh.run(command, KLAVIYO_DATABASE_URL=REFUSED)
    assert outcome.code == 130
    assert outcome.err.endswith("Error: Not confirmed. Nothing was changed.\n")


def test_json_has_numbers_of_any_size_and_times() -> None:
    moment = datetime(2026, 1, 2, 3, tzinfo=UTC)
    written = json_text([{"recipients": Decimal("1e24"), "rate": Decimal("0.25"), "raw": 2**70, "at": moment}])
    assert json.loads(written) == [{"recipients": 10**24, "rate": 0.25, "raw": 2**70, "at": moment.isoformat()}]


LEAVING = """
import atexit
from importlib import import_module

program = import_module("klaviyo_pipeline.cli.main")

def command(arguments):
    atexit.register(print, "the handler")
    print("output " * 20_000)
    return 3

program._run = command
program.main()
"""


def test_the_program_leaves_with_its_exit_code_after_its_output_and_its_handlers() -> None:
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    ended = subprocess.run([sys.executable, "-c", LEAVING], env=buffered, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (3, "")
    assert ended.stdout == "output " * 20_000 + "\nthe handler\n"
