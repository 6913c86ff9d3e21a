"""Six accounts in five time zones on two Celery workers. One worker is killed during a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from starlette.requests import Request

from klaviyo_pipeline.sandbox.faults import Fault
from klaviyo_pipeline_tests.brands import FIRST, LAST, REVOKED, Brands, brands_in
from klaviyo_pipeline_tests.dagster_internals.celery.cluster import REDIS, Cluster, cluster
from klaviyo_pipeline_tests.support import key_of, throw_away_database

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REDIS is None, reason="needs redis-server: apt-get install redis-server"),
    pytest.mark.timeout(600),
]

NUMBERS = (0, 1, 2, 3, 4, 7)
"""More runs than the workers execute at once. The last account is the one with a revoked key."""
WHOLE = [f"brand_{number}" for number in NUMBERS[:-1]]
STORED = "brand_3"
"""The account whose run waits for a response when its worker is killed."""
OFTEN = "brand_0"
"""The account with two runs at once, which share its rate limits."""


@dataclass(frozen=True)
class Morning:
    """The launched runs, their results, and the runs of the killed worker."""

    brands: Brands
    runs: list[dg.DagsterRun]
    launched: dict[str, str]
    killed: set[str]

    def of(self, slug: str) -> list[dg.DagsterRun]:
        return [run for run in self.runs if run.tags["klaviyo/account"] == slug]


@pytest.fixture(scope="module")
def morning(
    postgres_server: str, recorded_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Morning]:
    """Runs of all accounts, queued at once, at Klaviyo's rates. A worker is killed while it waits for a second page."""
    folder = tmp_path_factory.mktemp("celery")
    with throw_away_database(postgres_server, recorded_template) as database:
        for brands in brands_in(database, folder, rate_scale=1, numbers=NUMBERS):
            yield _lived_through(brands, folder)


def _lived_through(brands: Brands, folder: Path) -> Morning:
    key = key_of(brands.shops[STORED])
    faults = brands.server.faults
    faults.add(lambda request: _requests_flows(request, key), Fault(delay=600), skip=1)
    assert brands.run("migrate").returncode == 0
    with cluster(brands.variables, folder) as running:
        launched = _launch_all(running, brands)
        running.until(lambda: faults.taken, "no run requests the delayed page")
        at_work = _kill_the_worker_of(running, launched[STORED])
        runs = running.ended()
    # Runs of the other worker, and runs that ended at the moment of the kill, were not killed.
    failed = {run.run_id for run in runs if run.status is dg.DagsterRunStatus.FAILURE}
    of_whole = {run.run_id for run in runs if run.tags["klaviyo/account"] in WHOLE}
    assert failed & of_whole <= at_work
    return Morning(brands, runs, launched, failed & of_whole)


def _requests_flows(request: Request, key: str) -> bool:
    return request.url.path == "/api/flows" and request.headers.get("authorization", "").endswith(key)


def _launch_all(running: Cluster, brands: Brands) -> dict[str, str]:
    """A run for each account; two for one of the accounts, for different windows.

    That of the revoked one is first: it ends before the worker is killed.
    """
    launched = {}
    for slug in (REVOKED, *WHOLE):
        ranges = [(FIRST, FIRST), (FIRST + timedelta(days=1), LAST)] if slug == OFTEN else [(FIRST, LAST)]
        for first, last in ranges:
            launched[slug] = running.launch(f"{slug}_entities", "flows", first.isoformat(), last.isoformat())
    return launched


def _kill_the_worker_of(running: Cluster, run_id: str) -> set[str]:
    """Kill the worker and start another, as a supervisor would. Return the runs that it had started or taken."""
    worker = running.worker_of(run_id)
    launched = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)
    at_work = {run.run_id for run in running.instance.get_runs() if run.status in launched}
    running.kill(worker)
    running.start("third@test")
    return at_work


def test_every_account_is_complete_although_a_worker_was_killed(morning: Morning) -> None:
    assert morning.launched[STORED] in morning.killed
    for slug in WHOLE:
        assert morning.brands.stored(slug, "flows") == morning.brands.expected(slug, "flows") != {}, slug
        ledger = morning.brands.rows("SELECT status, count(*) FROM sync_windows GROUP BY 1", slug)
        assert ledger == [("synced", (LAST - FIRST).days + 1)], slug


def test_no_state_of_an_object_is_stored_twice_after_the_second_attempt(morning: Morning) -> None:
    for slug in WHOLE:
        states = morning.brands.rows("SELECT count(*), count(DISTINCT id) FROM flows_history", slug)
        assert states == [(len(morning.brands.expected(slug, "flows")),) * 2], slug


def test_only_the_runs_of_the_killed_worker_are_retried_and_only_once(morning: Morning) -> None:
    for run_id in morning.killed:
        [again] = [run for run in morning.runs if run.parent_run_id == run_id]
        assert again.status is dg.DagsterRunStatus.SUCCESS
    others = [run for run in morning.runs if run.run_id not in morning.killed and run.parent_run_id is None]
    assert not {run.run_id for run in others} & {run.parent_run_id for run in morning.runs}


def test_only_the_account_with_a_revoked_key_fails_and_is_not_retried(morning: Morning) -> None:
    failed = Counter(
        run.tags["klaviyo/account"]
        for run in morning.runs
        if run.status is not dg.DagsterRunStatus.SUCCESS and run.run_id not in morning.killed
    )
    assert failed == {REVOKED: 1}
    [(status, reported)] = morning.brands.rows("SELECT DISTINCT status, error FROM sync_windows", REVOKED)
    assert status == "failed"
    assert f"KEY_OF_{REVOKED.upper()}" in reported


def test_all_workers_together_stay_within_each_accounts_rates(morning: Morning) -> None:
    """The sandbox limits requests as Klaviyo does, by account and endpoint, and responds with 429 above the limit."""
    answered = Counter(entry.status for entry in morning.brands.server.requests if not entry.faulty)
    assert answered.keys() == {200, 401}
    requested = [entry for entry in morning.brands.server.requests if entry.account_id == "BRAND0"]
    assert len(requested) > 2 * len(morning.of(OFTEN))
