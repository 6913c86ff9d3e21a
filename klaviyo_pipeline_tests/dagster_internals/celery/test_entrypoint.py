"""The images' entrypoint: mounted secrets become variables, and nothing else does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from klaviyo_pipeline.config.settings import PROJECT_ROOT

pytestmark = pytest.mark.slow

ENTRYPOINT = PROJECT_ROOT / "deploy" / "entrypoint.sh"
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


def started(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    reported = {"PATH": os.environ["PATH"], "SECRETS_FOLDER": str(folder), **variables}
    return subprocess.run([str(ENTRYPOINT), *command], env=reported, capture_output=True, text=True, check=False)


def seen(folder: Path, **variables: str) -> dict[str, str]:
    done = started(folder, sys.executable, "-c", SHOW, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout))


def test_a_file_becomes_the_variable_of_its_name_in_the_folder_or_one_below(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "KLAVIYO_API_KEY_UK").write_text("pk_uk\n")
    (tmp_path / "KLAVIYO_DATABASE_URL").write_text("postgresql://me:a$b`c'd\"e@host/db")
    found = seen(tmp_path)
    assert found["KLAVIYO_API_KEY_UK"] == "pk_uk"
    assert found["KLAVIYO_DATABASE_URL"] == "postgresql://me:a$b`c'd\"e@host/db"


def test_a_variable_that_is_set_takes_precedence_and_an_empty_one_does_not(tmp_path: Path) -> None:
    for name in ("ONE", "OTHER"):
        (tmp_path / name).write_text("of the file")
    found = seen(tmp_path, ONE="of the shell", OTHER="")
    assert (found["ONE"], found["OTHER"]) == ("of the shell", "of the file")


def test_other_files_are_ignored_and_never_executed(tmp_path: Path) -> None:
    for name in ("postgres_password", "A-B", "1ST", "A;touch x", "..data"):
        (tmp_path / name).write_text("secret")
    assert "secret" not in seen(tmp_path).values()
    assert not (tmp_path / "x").exists()


def test_without_secrets_the_command_runs_unchanged_and_its_exit_code_is_kept(tmp_path: Path) -> None:
    assert started(tmp_path / "nowhere", "sh", "-c", "exit 3").returncode == 3


def test_a_folder_with_the_name_of_a_variable_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "KLAVIYO_API_KEY").mkdir()
    assert "KLAVIYO_API_KEY" not in seen(tmp_path)
