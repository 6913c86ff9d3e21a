"""Dagster's runs, with a tag for their windows, and with partitions that match the ledger at the end of a run.

A run over a range of windows has the range in the tag `klaviyo/windows`, whatever launched the run.

Dagster shows all planned windows of a failed run as failed, even if they were synced before or their step never began.
At the end of a run, its partitions are therefore corrected from the ledger. The process that reports the end does this:
the run's own process or, if that died, the daemon or the next sync.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime

from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun

from klaviyo_pipeline.catalog import METRICS
from klaviyo_pipeline.config.accounts import load_accounts
from klaviyo_pipeline.config.settings import Settings, SettingsError
from klaviyo_pipeline.dagster_internals.event_log import BatchedEventLogStorage
from klaviyo_pipeline.dagster_internals.steady_storage import SteadyRunStorage
from klaviyo_pipeline.postgres.engine import reason

ENDS = {DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}

RANGE_TAG = "klaviyo/windows"
"""The windows of a run, such as `2026-01-01 to 2026-03-31`."""

logger = logging.getLogger(__name__)


class ProjectRunStorage(SteadyRunStorage):
    """Stores Dagster's runs. The docstring of the module says what differs from Dagster's own storage."""

    def add_run(self, dagster_run: DagsterRun) -> DagsterRun:
        return super().add_run(dagster_run.with_tags({**dagster_run.tags, **_readable(dagster_run.tags)}))

    def handle_run_event(self, run_id: str, event: DagsterEvent, *times: datetime | None) -> None:
        super().handle_run_event(run_id, event, *times)
        if event.event_type not in ENDS or not self.has_instance:
            return
        try:
            # The daemon also frees the pool slots of a cancelled or killed run, but only a minute later.
            self._instance.event_log_storage.free_concurrency_slots_for_run(run_id)
            _align(self._instance, run_id, succeeded=event.event_type == DagsterEventType.RUN_SUCCESS)
        except Exception as error:  # the run has ended; the next sync or sensor corrects its partitions
            logger.warning("the partitions of run %s were not compared with the ledger: %s", run_id, reason(error))


def _readable(tags: Mapping[str, str]) -> dict[str, str]:
    first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    if not first or not last:
        return {}
    return {RANGE_TAG: first if first == last else f"{first} to {last}"}


def _align(instance: DagsterInstance, run_id: str, *, succeeded: bool) -> None:
    storage = instance.event_log_storage
    assert isinstance(storage, BatchedEventLogStorage)
    planned: dict[str, set[str]] = {}
    for key in storage.planned_assets(run_id):
        # After a successful run, only metrics may have windows that are not synced: windows without a report.
        if len(key.path) == 2 and (key.path[-1] in METRICS or not succeeded):
            planned.setdefault(key.path[0], set()).add(key.path[-1])
    if not planned:
        return
    # Imported here because it takes a second, and most runs end without it.
    from klaviyo_pipeline.dagster_internals.partition_states import WINDOWED, align_partitions
    from klaviyo_pipeline.postgres.warehouse import Warehouse

    for settings in _accounts():
        assets = [asset for asset in WINDOWED if asset in planned.get(settings.account.slug, ())]
        if assets:
            with Warehouse.of([settings.account]).engine(settings.account.slug) as engine:
                align_partitions(instance, settings.account, engine, assets)


def _accounts() -> list[Settings]:
    """The accounts of this installation. There are none in a project that configures its accounts in code."""
    try:
        return list(load_accounts().every)
    except SettingsError:
        return []
