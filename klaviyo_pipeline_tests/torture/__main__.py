"""`make torture`: all of it. Prints what came out and ends with 1 if anything was neither right nor healed.

    python -m klaviyo_pipeline_tests.torture [SECTION…] [--seed N] [--write docs/reliability.md]

With `--write` the figures go into the document, between the marks of their sections.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from klaviyo_pipeline.postgres.embedded import EmbeddedPostgres
from klaviyo_pipeline_tests.conftest import GIVEN_SERVER, THROW_AWAY
from klaviyo_pipeline_tests.torture.faults import TROUBLES
from klaviyo_pipeline_tests.torture.matrix import CELLS, TARGETS, counted, outcomes_of
from klaviyo_pipeline_tests.torture.report import Section, measured, table

Run = Callable[[str, int], Section]
"""Runs a section on this server, with this seed."""


def matrix(server: str, seed: int) -> Section:
    """Every cell of the fault matrix, in a process for each core."""
    outcomes, defects, began = [], list[str](), time.monotonic()
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in as_completed([pool.submit(outcomes_of, server, number) for number in range(len(TARGETS))]):
            found, wrong = part.result()
            outcomes += found
            defects += wrong
            progress(f"{len(outcomes)} of {len(CELLS)} cells, {len(defects)} defects")
    counts = counted(outcomes)
    names = [target.name for target in TARGETS]
    rows = [[trouble.name, *(_cell(counts[trouble.name, name]) for name in names)] for trouble in TROUBLES]
    right, healed = (sum(outcome == what for *_, outcome in outcomes) for what in ("right", "healed"))
    told = (
        f"{len(CELLS):,} cells: {right:,} right, {healed:,} failed loudly and healed by the next run, "
        f"{len(defects)} defects. {measured(began)}"
    )
    return Section(f"{told}\n\n{table(['fault', *names], rows)}", defects)


def _cell(counts: Counter[str]) -> str:
    told = f"{counts['right']} / {counts['healed']}"
    return f"{told} / **{counts['defect']} defects**" if counts["defect"] else told


SECTIONS: dict[str, Run] = {"matrix": matrix}


def progress(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


@contextmanager
def _server() -> Iterator[str]:
    """A throw-away Postgres, or the one of `KLAVIYO_TEST_DATABASE_URL`."""
    if GIVEN_SERVER:
        yield GIVEN_SERVER
        return
    with tempfile.TemporaryDirectory(prefix="klaviyo-torture-", ignore_cleanup_errors=True) as folder:
        # When root tortures, the server's unprivileged user must pass through.
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "shared", settings=THROW_AWAY)
        try:
            yield server.start()
        finally:
            server.stop()


def write(document: Path, name: str, section: Section) -> None:
    """Put the section's figures between its marks."""
    begin, end = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
    text = document.read_text(encoding="utf-8")
    assert begin in text, f"{document} has no marks for {name}"
    put = f"{begin}\n{section.text}\n{end}"
    document.write_text(re.sub(f"{begin}.*?{end}", lambda _: put, text, flags=re.DOTALL), encoding="utf-8")


def main() -> int:
    """Run the sections; 1 if any found a defect."""
    parser = argparse.ArgumentParser(prog="python -m klaviyo_pipeline_tests.torture", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[], metavar="SECTION")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("KLAVIYO_") or name == "DAGSTER_HOME"]:
        del os.environ[name]
    os.environ["KLAVIYO_IGNORE_DOTENV"] = "1"
    defects = 0
    with _server() as server:
        for name in chosen.sections or SECTIONS:
            progress(f"{name} …")
            section = SECTIONS[name](server, chosen.seed)
            print(f"\n{name}: {section.text}\n", flush=True)
            for defect in section.defects:
                print(f"DEFECT: {defect}", flush=True)
            if chosen.write:
                write(chosen.write, name, section)
            defects += len(section.defects)
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
