"""Peak memory of the write path by number of rows. Each number is measured in a separate process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from benchmarks.results import Measurement
from klaviyo_pipeline.config.settings import PROJECT_ROOT, SQL_DIR
from klaviyo_pipeline.klaviyo.listings import FORMS
from klaviyo_pipeline.orchestration.assets.entity_assets import BATCH_ROWS
from klaviyo_pipeline.orchestration.assets.frames import record_frame
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.schema.tables import reflect
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.writer import Writer
from klaviyo_pipeline.windows import Window

START = datetime(2026, 1, 1, tzinfo=UTC)


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """The peak memory with more rows, divided by that with the fewest."""
    few, *more = (100, 3_000) if quick else (10_000, 100_000, 1_000_000)
    least = _peak(url, few)
    for count in more:
        name = f"peak, {count:,} rows against {few:,}"
        yield Measurement("memory", name, _peak(url, count) / least, "ratio", 1.5, "at most")


def _peak(url: str, count: int) -> int:
    command, environment = [sys.executable, "-m", __name__, str(count)], {**os.environ, "BENCH_DATABASE_URL": url}
    return int(subprocess.check_output(command, env=environment, cwd=PROJECT_ROOT, text=True))


def _batches(count: int, window: Window) -> Iterator[Batch]:
    for first in range(0, count, BATCH_ROWS):
        numbers = range(first, min(first + BATCH_ROWS, count))
        done = [CompletedWindow(window, window.end + timedelta(days=1), 1)] if numbers.stop == count else []
        yield Batch(_frame(numbers), done)


def _frame(numbers: range) -> pd.DataFrame:
    rows = [
        {
            **dict.fromkeys(column.name for column in FORMS.columns),
            "id": f"{number:08}",
            "name": f"Form {number}",
            "updated_at": START,
            "raw": {"id": f"{number:08}", "attributes": {"name": f"Form {number}"}},
        }
        for number in numbers
    ]
    return record_frame(FORMS.columns, rows, [START] * len(rows), [0] * len(rows))


def main() -> None:
    """Write this number of rows into a new schema, and print the peak memory."""
    url, count = os.environ["BENCH_DATABASE_URL"], int(sys.argv[1])
    schema = f"memory_{count}"
    migrate(url, schema, SQL_DIR)
    engine = create_engine(url)
    window = Window(START, START + timedelta(days=1), START.date().isoformat())
    with engine.connect() as connection:
        target = reflect(connection, schema, "forms")
    Writer(engine, target, Ledger(schema, "forms"), Load(_batches(count, window), [window]), "bench").run()
    engine.dispose()
    print(_peak_here())


def _peak_here() -> int:
    """The peak memory of this process. On Linux `ru_maxrss` would include the parent process's peak."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
