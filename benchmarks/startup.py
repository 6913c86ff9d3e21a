"""Start-up against bare Dagster's: validating the definitions, and one trivial run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.results import Figure
from klaviyo_pipeline.settings import PROJECT_ROOT

BARE = """
import dagster as dg

@dg.asset
def nothing() -> None: ...

defs = dg.Definitions(assets=[nothing])
"""
OURS = ("-m", "klaviyo_pipeline.definitions")


def run(url: str, *, quick: bool) -> Iterator[Figure]:
    """The pipeline's time over that of a project with one empty asset."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        ours, theirs = list[float](), list[float]()
        for _ in range(1 if quick else 5):
            ours.append(_validation(OURS, url, folder))
            theirs.append(_validation(("-f", str(bare)), url, folder))
    ratio = statistics.median(ours) / statistics.median(theirs)
    yield Figure("start-up", "definitions validate, of bare Dagster's", ratio)


def _validation(where: Sequence[str], url: str, home: str) -> float:
    command = [str(Path(sys.executable).parent / "dagster"), "definitions", "validate", *where]
    environment = {
        **os.environ,
        "DAGSTER_HOME": home,
        "KLAVIYO_IGNORE_DOTENV": "1",
        "KLAVIYO_API_KEY": "pk_benchmark",
        "KLAVIYO_DATABASE_URL": url,
    }
    began = time.perf_counter()
    subprocess.run(command, env=environment, cwd=PROJECT_ROOT, check=True, capture_output=True)
    return time.perf_counter() - began
