"""`make torture`: runs all reliability tests and prints the results. The exit code is 1 if there is a defect.

    python -m klaviyo_pipeline_tests.torture [SECTION…] [--seed N] [--write docs/reliability.md]

With `--write` the results are written into the document, between the markers of their sections.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from klaviyo_pipeline.klaviyo.rates import DAY, MINUTE, SECOND
from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres
from klaviyo_pipeline_tests.conftest import GIVEN_SERVER, THROW_AWAY
from klaviyo_pipeline_tests.dagster_internals.celery.cluster import REDIS
from klaviyo_pipeline_tests.support import throw_away_database
from klaviyo_pipeline_tests.torture.database import CASES, cut_connections, quick_retries, restart_server
from klaviyo_pipeline_tests.torture.database import TROUBLES as DATABASE_TROUBLES
from klaviyo_pipeline_tests.torture.database import outcome as database_outcome
from klaviyo_pipeline_tests.torture.faults import TROUBLES
from klaviyo_pipeline_tests.torture.kills import ASSETS, Slaughter, slaughter_on
from klaviyo_pipeline_tests.torture.matrix import CELLS, TARGETS, Defect, counted, matrix_on, outcomes_of
from klaviyo_pipeline_tests.torture.pacing import TIERS, excesses, race
from klaviyo_pipeline_tests.torture.report import Section, measured, table
from klaviyo_pipeline_tests.torture.workers import Morning, morning_of_kills

Run = Callable[[str, int], Iterator[Section]]
"""Runs a section on this server with this seed. Each result that it yields replaces the previous one."""


def matrix(server: str, seed: int) -> Iterator[Section]:
    """Every cell of the fault matrix, in one process per core. Yields an updated result after each target."""
    outcomes, defects, began = list[tuple[str, str, str]](), list[str](), time.monotonic()
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in as_completed([pool.submit(outcomes_of, server, number) for number in range(len(TARGETS))]):
            found, wrong = part.result()
            outcomes += found
            defects += wrong
            progress(f"{len(outcomes)} of {len(CELLS)} cells, {len(defects)} defects")
            yield Section(_matrix_text(outcomes, began), defects)


def _matrix_text(outcomes: Sequence[tuple[str, str, str]], began: float) -> str:
    counts = counted(outcomes)
    names = [target.name for target in TARGETS if (TROUBLES[0].name, target.name) in counts]
    rows = [[trouble.name, *(_cell(counts[trouble.name, name]) for name in names)] for trouble in TROUBLES]
    every = Counter(outcome for *_, outcome in outcomes)
    return (
        f"{len(outcomes):,} of {len(CELLS):,} cells: {every['right']:,} right, {every['healed']:,} failed with an "
        f"error and were complete after the next run, {every['defect']} defects. {measured(began)}\n\n"
        f"{table(['fault', *names], rows)}"
    )


def _cell(counts: Counter[str]) -> str:
    reported = f"{counts['right']} / {counts['healed']}"
    return f"{reported} / **{counts['defect']} defects**" if counts["defect"] else reported


def kills(server: str, seed: int) -> Iterator[Section]:
    """A hundred kills of real syncs, and two concurrent syncs of each group of assets."""
    defects, rounds, began = list[str](), 0, time.monotonic()
    with (
        throw_away_database(server) as database,
        tempfile.TemporaryDirectory() as folder,
        slaughter_on(database, Path(folder), seed) as slaughter,
    ):
        while sum(slaughter.kills.values()) < KILLS:
            defects += _defect_of(partial(slaughter.round, ASSETS[rounds % len(ASSETS)], KILLS_IN_A_ROW))
            rounds += 1
            progress(f"{sum(slaughter.kills.values())} of {KILLS} kills, {len(defects)} defects")
        for assets in ASSETS:
            defects += _defect_of(partial(slaughter.at_once, assets))
    yield Section(_kills_text(slaughter, rounds, defects, began), defects)


def _kills_text(slaughter: Slaughter, rounds: int, defects: Sequence[str], began: float) -> str:
    reported = ", ".join(f"{number} {how}" for how, number in slaughter.kills.items())
    return (
        f"{sum(slaughter.kills.values())} kills ({reported}) in {rounds} rounds, each of which ends with a sync "
        f"without a kill; {len(ASSETS)} pairs of concurrent syncs: {len(defects)} defects. {measured(began)}"
    )


def _defect_of(torture: Callable[[], None]) -> list[str]:
    try:
        torture()
    except AssertionError as defect:
        progress(str(defect)[:500])
        return [str(defect)]
    return []


def pacing(server: str, seed: int) -> Iterator[Section]:
    """Two and four processes on every published tier."""
    defects, rows, began = list[str](), [], time.monotonic()
    for endpoint, seconds in TIERS.items():
        for processes in (2, 4):
            with throw_away_database(server) as database:
                found = race(database, endpoint, processes, seconds, seed)
            defects += excesses(found)
            most = ", ".join(
                f"{found.most(rate)} of {rate.requests} in {UNITS[rate.seconds]}" for rate in found.endpoint.rates
            )
            rows.append([endpoint, processes, len(found.all), most, f"{found.reached:.1%}", f"{found.fairness:.2f}"])
            progress(" | ".join(map(str, rows[-1])))
    heads = ["endpoint", "processes", "requests", "most at once", "of the tightest rate", "least / most busy process"]
    yield Section(f"{table(heads, rows)}\n\n{measured(began)}", defects)


def database(server: str, seed: int) -> Iterator[Section]:
    """Every database fault in every place, terminated connections, and a restart of the server."""
    defects, counts, began = list[str](), dict[tuple[str, str], Counter[str]](), time.monotonic()
    with throw_away_database(server) as url, matrix_on(url) as torture, quick_retries():
        for case in CASES:
            outcome: str
            try:
                outcome = database_outcome(torture, case)
            except Defect as defect:
                outcome = "defect"
                defects.append(str(defect))
                progress(str(defect)[:300])
            counts.setdefault((case.trouble.name, case.table), Counter())[outcome] += 1
        for target in TARGETS:
            defects += _defect_of(partial(cut_connections, torture, target))
    with _own_server() as own, matrix_on(own.start()) as torture:
        for target in TARGETS:
            defects += _defect_of(partial(restart_server, torture, target, own))
    places = sorted({place for _, place in counts})
    rows = [[one.name, *(_cell(counts[one.name, place]) for place in places)] for one in DATABASE_TROUBLES]
    reported = (
        f"{len(CASES)} cases of a fault in a table. For each of {len(TARGETS)} targets, also a run during which all "
        f"connections are cut, and one during which the server restarts. {len(defects)} defects. {measured(began)}"
    )
    yield Section(f"{reported}\n\n{table(['fault in', *places], rows)}", defects)


def workers(server: str, seed: int) -> Iterator[Section]:
    """The daily syncs of ten accounts on two Celery workers, which are killed and replaced."""
    if REDIS is None:
        yield Section("Not measured: it needs redis-server.", [])
        return
    mornings, began = list[Morning](), time.monotonic()
    for number in range(MORNINGS):
        with throw_away_database(server) as url, tempfile.TemporaryDirectory() as folder:
            mornings.append(morning_of_kills(url, Path(folder), seed + number, KILLS_IN_A_MORNING))
        progress(f"{sum(one.kills for one in mornings)} kills, {sum(len(one.defects) for one in mornings)} defects")
    defects = [defect for one in mornings for defect in one.defects]
    reported = (
        f"{sum(one.kills for one in mornings)} kills in {MORNINGS} mornings with {sum(one.runs for one in mornings)} "
        f"runs in all. Dagster retried {sum(one.begun_again for one in mornings)} runs. "
        f"{sum(one.requested_again for one in mornings)} were launched again, because every attempt had died. "
        f"{len(defects)} defects. {measured(began)}"
    )
    yield Section(reported, defects)


SECTIONS: dict[str, Run] = {
    "matrix": matrix,
    "database": database,
    "kills": kills,
    "workers": workers,
    "pacing": pacing,
}
MORNINGS, KILLS_IN_A_MORNING = 5, 6
UNITS = {SECOND: "a second", MINUTE: "a minute", DAY: "a day"}
KILLS, KILLS_IN_A_ROW = 100, 5


def progress(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


@contextmanager
def _server() -> Iterator[str]:
    """A temporary Postgres, or the one at `KLAVIYO_TEST_DATABASE_URL`."""
    if GIVEN_SERVER:
        yield GIVEN_SERVER
        return
    with _own_server() as server:
        yield server.start()


@contextmanager
def _own_server() -> Iterator[EmbeddedPostgres]:
    """A temporary Postgres that may be stopped."""
    with tempfile.TemporaryDirectory(prefix="klaviyo-torture-", ignore_cleanup_errors=True) as folder:
        # If root runs this, the server's unprivileged user needs access to the folder.
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "shared", settings=THROW_AWAY)
        try:
            yield server
        finally:
            server.stop()


def write(document: Path, name: str, section: Section) -> None:
    """Write the section's results between its markers."""
    begin, end = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
    text = document.read_text(encoding="utf-8")
    assert begin in text, f"{document} has no marks for {name}"
    put = f"{begin}\n{section.text}\n{end}"
    document.write_text(re.sub(f"{begin}.*?{end}", lambda _: put, text, flags=re.DOTALL), encoding="utf-8")


def main() -> int:
    """Run the sections. Returns 1 if any found a defect."""
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
            section = Section("nothing", [])
            for section in SECTIONS[name](server, chosen.seed):
                if chosen.write:
                    write(chosen.write, name, section)
            print(f"\n{name}: {section.text}\n", flush=True)
            for defect in section.defects:
                print(f"DEFECT: {defect}", flush=True)
            defects += len(section.defects)
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
