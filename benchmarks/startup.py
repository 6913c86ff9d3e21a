"""Start-up against bare Dagster's: validating the definitions, and one trivial run."""

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
    """The pipeline's time over that of a project with one empty asset, on the same instance."""
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
            seconds: list[tuple[float, float]] = []
            for _ in range(1 if quick else 5):
                ours = _timed((*command, *our_arguments), environment)
                seconds.append((ours, _timed((*command, *their_arguments), environment)))
            ratio = statistics.median(ours / others for ours, others in seconds)
            yield Measurement("start-up", f"{name}, of bare Dagster's", ratio)


def _timed(arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    command = [str(Path(sys.executable).parent / "dagster"), *arguments]
    began = time.perf_counter()
    subprocess.run(command, env=environment, cwd=PROJECT_ROOT, check=True, capture_output=True)
    return time.perf_counter() - began
