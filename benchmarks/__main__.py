"""`python -m benchmarks [NAME…] [--quick] [--write]`: run benchmarks, and print each result as a line of JSON."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import (
    celery_workers,
    fetch,
    growth,
    materialize_all,
    memory,
    other_writers,
    quiet_day,
    rates,
    reading,
    request_counts,
    startup,
    write_path,
)
from benchmarks.results import Measurement, as_table
from benchmarks.server import throw_away_server
from klaviyo_pipeline.config.settings import PROJECT_ROOT

BENCHMARKS: Mapping[str, Callable[..., Iterator[Measurement]]] = {
    "write_path": write_path.run,
    "other_writers": other_writers.run,
    "request_counts": request_counts.run,
    "fetch": fetch.run,
    "rates": rates.run,
    "growth": growth.run,
    "memory": memory.run,
    "reading": reading.run,
    "startup": startup.run,
    "quiet_day": quiet_day.run,
    "materialize_all": materialize_all.run,
    "celery_workers": celery_workers.run,
}
DOCS = PROJECT_ROOT / "docs"


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME", help=f"{', '.join(BENCHMARKS)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="use tiny sizes, to test only that the benchmarks run")
    parser.add_argument("--write", action="store_true", help="write each benchmark's table into its page of docs/")
    given = parser.parse_args()
    # On SIGTERM a benchmark also stops its servers.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    for name in given.names or BENCHMARKS:
        measurements = []
        with throw_away_server() as url:
            for measurement in BENCHMARKS[name](url, quick=given.quick):
                print(measurement.as_line(), flush=True)
                measurements.append(measurement)
        if given.write:
            write_table(page_of(name), name, measurements)


def page_of(name: str) -> Path:
    """The page with the markers of this benchmark's table."""
    for page in sorted(DOCS.glob("*.md")):
        if f"<!-- {name} -->" in page.read_text():
            return page
    raise SystemExit(f"No page has the marker <!-- {name} -->.")


def write_table(page: Path, name: str, measurements: list[Measurement]) -> None:
    """Replace the table between this benchmark's two markers in the page."""
    between = re.compile(f"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    text, found = between.subn(lambda marks: f"{marks[1]}{as_table(measurements)}\n{marks[2]}", page.read_text())
    if not found:
        raise SystemExit(f"{page.name} has no markers for {name}.")
    page.write_text(text)


if __name__ == "__main__":
    main()
