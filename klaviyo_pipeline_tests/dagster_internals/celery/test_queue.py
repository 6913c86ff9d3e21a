"""The order in which Dagster's queue starts the runs of many accounts, with our tags and limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.orchestration.jobs import ACCOUNT_TAG, CATCHING_UP, SCHEDULED
from klaviyo_pipeline_tests.quick_instance import quick_instance

pytestmark = pytest.mark.slow

ACCOUNTS = 8
PAGE = 3
"""Runs that the daemon reads at once: far fewer than are queued, like the usual 100 with two hundred accounts."""


@pytest.fixture(params=["dagster.yaml", "deploy/dagster/celery.yaml"])
def instance(request: pytest.FixtureRequest) -> Iterator[dg.DagsterInstance]:
    """An instance with the queue of this configuration."""
    configured = yaml.safe_load((PROJECT_ROOT / request.param).read_text())
    with quick_instance({"concurrency": configured["concurrency"]}) as found:
        # An instance in memory has no queue.
        found._run_coordinator = QueuedRunCoordinator()
        found._run_coordinator.register_instance(found)
        yield found


def waits(instance: dg.DagsterInstance, name: str, account: str, **tags: str) -> None:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("klaviyo_pipeline"), "__repository__")
    create_run_for_test(
        instance,
        job_name=name,
        status=dg.DagsterRunStatus.QUEUED,
        tags={ACCOUNT_TAG: account, **tags},
        remote_job_origin=RemoteJobOrigin(repository, name),
    )


def served(instance: dg.DagsterInstance) -> list[list[tuple[str, str]]]:
    """Job and account of every run, by the rounds in which they start. The runs of a round end before the next."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=1, page_size=PAGE)
    iter_pages = []
    while runs := daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None):
        iter_pages.append([(run.job_name, run.tags[ACCOUNT_TAG]) for run in runs])
        for run in runs:
            instance.delete_run(run.run_id)
    return iter_pages


def test_scheduled_runs_of_many_accounts_start_in_turn_and_before_manual_runs(
    instance: dg.DagsterInstance,
) -> None:
    accounts = [f"shop_{number:03}" for number in range(ACCOUNTS)]
    for _ in range(2 * PAGE):
        waits(instance, "backfill", accounts[0])
    for _ in range(PAGE):
        waits(instance, "missing", accounts[1], **CATCHING_UP)
    for account in accounts:
        for name in ("entities", "reports"):
            waits(instance, name, account, **SCHEDULED)
    order = [run for turn in served(instance) for run in turn]
    scheduled = [(name, account) for account in accounts for name in ("entities", "reports")]
    assert order[: len(scheduled)] == scheduled
    assert [name for name, _ in order[len(scheduled) :]][:PAGE].count("missing") >= 1
    assert len(order) == len(scheduled) + 3 * PAGE


def test_an_account_with_a_backlog_leaves_slots_to_the_others(instance: dg.DagsterInstance) -> None:
    for _ in range(3 * PAGE):
        waits(instance, "entities", "busy", **SCHEDULED)
    waits(instance, "entities", "late", **SCHEDULED)
    first, *_ = iter_pages = served(instance)
    assert ("entities", "late") in first
    limits = instance.get_concurrency_config().run_queue_config
    assert limits is not None
    [share] = [one["limit"] for one in limits.tag_concurrency_limits if one["key"] == ACCOUNT_TAG]
    assert max(Counter(account for _, account in turn)["busy"] for turn in iter_pages) == share
