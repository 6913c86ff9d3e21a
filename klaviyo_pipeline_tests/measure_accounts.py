"""Measures loading many accounts: `python -m klaviyo_pipeline_tests.measure_accounts [ACCOUNTS]` (default: 200).

Prints seconds and megabytes after each step. No connection is opened. The last two lines measure other ways to load:
the definitions of all accounts in one object, and the definitions that a run of one account loads.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable

ZONES = ("America/New_York", "Europe/London", "Asia/Tokyo", "Australia/Sydney", "America/Sao_Paulo")


def code_location(number: int) -> None:
    """Loads the definitions like the code server, and serializes them like its response to the web server."""
    reported = _Reported()
    from dagster._core.remote_representation.external_data import RepositorySnap

    from klaviyo_pipeline.config.settings import Account
    from klaviyo_pipeline.orchestration.build import accounts_repository

    reported("import")
    accounts = [Account(slug=f"account_{n}", timezone=ZONES[n % len(ZONES)]) for n in range(number)]
    repository = accounts_repository(accounts)
    assert len(repository.parts) == number
    reported(f"definitions of {number} accounts")
    definition = repository.definition()
    of_one = len(repository.parts[0].asset_graph.get_all_asset_keys())
    assert len(definition.asset_graph.get_all_asset_keys()) == of_one * number
    reported("asset graph")
    definition.load_all_definitions()
    reported(f"{len(definition.job_names):,} jobs")
    RepositorySnap.from_def(definition, defer_snapshots=True)
    reported("snapshots for the web server")


def one_piece(number: int) -> None:
    """The same as one `Definitions` object."""
    reported = _Reported()
    from klaviyo_pipeline.config.settings import Account
    from klaviyo_pipeline.orchestration.build import project_defs

    project_defs([Account(slug=f"account_{n}") for n in range(number)]).get_repository_def()
    reported("project_defs and its repository, import included")


def one_run(number: int) -> None:
    """The work of a run's process before the run starts."""
    reported = _Reported()
    from klaviyo_pipeline.config.settings import Account
    from klaviyo_pipeline.orchestration.build import accounts_repository

    repository = accounts_repository([Account(slug=f"account_{n}") for n in range(number)]).definition()
    repository.get_job(f"account_{number - 1}_entities")
    reported("a run of one account, import included")


class _Reported:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __call__(self, step: str) -> None:
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        print(f"{step:48} {wall:7.1f} s {cpu:7.1f} s of CPU {megabytes:7.0f} MB", flush=True)


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    steps: tuple[Callable[[int], None], ...] = (code_location, one_piece, one_run)
    for measured in steps:
        process = multiprocessing.get_context("spawn").Process(target=measured, args=(number,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
