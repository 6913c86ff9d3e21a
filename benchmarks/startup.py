"""Compares the start with that of plain Dagster: importing it, validating the definitions, and one trivial run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.account_server import FIRST_DAY, SMALL, served
from benchmarks.fetch import environment_of
from benchmarks.results import Measurement
from klaviyo_pipeline.config.settings import PROJECT_ROOT, SQL_DIR
from klaviyo_pipeline.postgres.schema.migrations import migrate

BARE = """
import dagster as dg

@dg.asset
def nothing() -> None: ...

defs = dg.Definitions(assets=[nothing])
"""
OURS = ("-m", "klaviyo_pipeline.definitions")


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """The pipeline's time divided by that of a project with one empty asset, on the same instance."""
    migrate(url, "klaviyo", SQL_DIR)
    with tempfile.TemporaryDirectory() as folder, served(SMALL, 0.0) as account:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        theirs = ("-f", str(bare))
        environment = environment_of(account.url, url, Path(folder))
        window = ("--partition", FIRST_DAY.isoformat())
        for name, command, our_arguments, their_arguments in (
            ("definitions validate", ("definitions", "validate"), OURS, theirs),
            (
                "a run of one window",
                ("asset", "materialize"),
                (*OURS, "--select", "klaviyo/forms", *window),
                (*theirs, "--select", "nothing"),
            ),
        ):
            ratio = _ratio(
                ("dagster", *command, *our_arguments),
                ("dagster", *command, *their_arguments),
                environment,
                1 if quick else 5,
            )
            yield Measurement("start-up", f"{name}, relative to bare Dagster", ratio)
        yield from _commands(environment, 1 if quick else 5)


def _commands(environment: Mapping[str, str], times: int) -> Iterator[Measurement]:
    """The time of a command, relative to the time in which Python imports Dagster."""
    imported = ("python", "-c", "import dagster")
    for name, command in (
        ("--help", ("klaviyo-pipeline", "--help")),
        ("--version", ("klaviyo-pipeline", "--version")),
        ("status", ("klaviyo-pipeline", "status")),
        ("the definitions' import", ("python", "-c", "import klaviyo_pipeline.definitions")),
    ):
        yield Measurement(
            "start-up", f"{name}, relative to `import dagster`", _ratio(command, imported, environment, times)
        )


def _ratio(ours: Sequence[str], theirs: Sequence[str], environment: Mapping[str, str], times: int) -> float:
    """The median of our command's time over theirs, each pair measured together."""
    pairs = [(_timed(ours, environment), _timed(theirs, environment)) for _ in range(times)]
    return statistics.median(one / other for one, other in pairs)


def _timed(command: Sequence[str], environment: Mapping[str, str]) -> float:
    program, *arguments = command
    began = time.perf_counter()
    subprocess.run(
        [str(Path(sys.executable).parent / program), *arguments],
        env=environment,
        cwd=PROJECT_ROOT,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began
