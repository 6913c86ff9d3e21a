"""Corrects the partitions in Dagster from the ledger: a partition is green exactly if its window is synced.

Dagster computes the state of a partition from its own events. The state differs from the ledger if a run fails at
windows that were synced before, if a process dies between a commit and its event, if a database is restored, or if
windows are reset. For a synced window that Dagster does not show as materialized, a materialization outside of any run
is reported, with the counts of the ledger. For a window that is not synced but shown as materialized, the events are
deleted.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, EventLogEntry
from dagster._core.events import StepMaterializationData
from dagster._core.instance import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.event_log.base import AssetRecord
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from klaviyo_pipeline.catalog import ENTITIES, FIGURES, switched_on
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.dagster_internals.batches import stores_batches
from klaviyo_pipeline.postgres.account_binding import check_schema_owner
from klaviyo_pipeline.postgres.engine import database_now
from klaviyo_pipeline.postgres.ledger import Ledger, SyncedWindow, synced_ranges
from klaviyo_pipeline.postgres.write.io_manager import window_metadata
from klaviyo_pipeline.windows import Window, asset_windows

WINDOWED = (*ENTITIES, *FIGURES)

FROM_LEDGER = "Reported from the ledger, which has this window as synced."

EVENTS_AT_ONCE = 1000

EVENTS_PER_TICK = 25
"""The most windows of an asset that a sensor's tick reports singly, at 10 ms each. A tick must end within a minute."""

Range = tuple[datetime, datetime]


@dataclass
class Corrections:
    """How many partitions were corrected: synced windows that were not shown as materialized, and the reverse."""

    shown: int = 0
    withdrawn: int = 0

    @property
    def total(self) -> int:
        return self.shown + self.withdrawn

    @property
    def text(self) -> str:
        """What was corrected, on one line."""
        return (
            f"{counted(self.total, 'partition')} corrected in Dagster: {self.shown:,} synced and not shown as "
            f"materialized, {self.withdrawn:,} shown as materialized and not synced"
        )

    def __add__(self, other: Corrections) -> Corrections:
        return Corrections(self.shown + other.shown, self.withdrawn + other.withdrawn)


def align_partitions(
    instance: DagsterInstance,
    account: Account,
    engine: sa.Engine,
    assets: Sequence[str] | None = None,
    *,
    briefly: bool = False,
) -> Corrections:
    """Correct the account's partitions in Dagster from the ledger. Windows of unfinished runs are left alone.

    By default, `assets` are all of the account's assets with windows. With `briefly`, at most `EVENTS_PER_TICK` windows
    of an asset are reported, unless the instance stores many events in one statement.

    Raises `AccountRefused` if the windows in the ledger have another time zone or length than the account's settings.
    """
    if assets is None:
        on = switched_on(account.assets)
        assets = [asset for asset in WINDOWED if asset in on]
    with engine.connect() as connection:
        check_schema_owner(connection, account, None)
    shown = _shown(instance, account, assets)
    # The ledger is read after Dagster's state. Otherwise a window that a run commits in between would lose its events.
    with engine.connect() as connection:
        synced = synced_ranges(connection, account.slug)
        now = database_now(connection)
    corrections = Corrections()
    for asset in assets:
        if shown[asset].finished != synced.get(asset, []) or shown[asset].unfinished:
            most = EVENTS_PER_TICK if briefly and not stores_batches(instance) else None
            corrections += _align(instance, account, engine, asset, shown[asset], synced.get(asset, []), now, most)
    return corrections


@dataclass(frozen=True)
class _Shown:
    """The ranges of partitions that Dagster shows as materialized, and those of unfinished runs."""

    finished: list[Range]
    unfinished: list[Range]


def _shown(instance: DagsterInstance, account: Account, assets: Sequence[str]) -> dict[str, _Shown]:
    """The ranges that Dagster shows, by asset."""
    # Dagster's name says "for test", but its loaders are those of the UI: they read the records of all assets at once.
    context = LoadingContextForTest(instance)
    AssetRecord.prepare(context, [_key(account, asset) for asset in assets])
    shown = {}
    for asset in assets:
        definition = asset_windows(account, asset).definition
        cached = get_and_update_asset_status_cache_value(
            instance, _key(account, asset), definition, loading_context=context
        )
        if cached is None:
            shown[asset] = _Shown([], [])
            continue
        materialized = cached.deserialize_materialized_partition_subsets(definition)
        failed = cached.deserialize_failed_partition_subsets(definition)
        unfinished = cached.deserialize_in_progress_partition_subsets(definition)
        shown[asset] = _Shown(_ranges(materialized - failed), _ranges(unfinished))
    return shown


def _align(
    instance: DagsterInstance,
    account: Account,
    engine: sa.Engine,
    asset: str,
    shown: _Shown,
    synced: Sequence[Range],
    now: datetime,
    most: int | None,
) -> Corrections:
    windows = asset_windows(account, asset).between(account.start_date, account.today(now), now)
    finished, unfinished, in_ledger = (
        _inside(windows, ranges) for ranges in (shown.finished, shown.unfinished, synced)
    )
    missing = [window for window in windows if window in in_ledger - finished - unfinished][:most]
    excess = [window.key for window in windows if window in finished - in_ledger - unfinished]
    key = _key(account, asset)
    if excess:
        try:
            instance.wipe_asset_partitions(key, excess)
        except NotImplementedError:
            # Dagster's own storages wipe whole assets only. All synced windows are then reported again.
            instance.wipe_assets([key])
            missing = [window for window in windows if window in in_ledger]
    if missing:
        with engine.connect() as connection:
            report_synced(instance, key, Ledger(account.slug, asset).synced(connection, missing))
    return Corrections(min(len(in_ledger - finished - unfinished), len(missing)), len(excess))


def report_synced(instance: DagsterInstance, key: dg.AssetKey, windows: Sequence[SyncedWindow]) -> None:
    """Report windows as materialized outside of any run."""
    entries = [
        EventLogEntry(  # type: ignore[no-untyped-call]
            error_info=None,
            level=logging.INFO,
            user_message="",
            run_id=RUNLESS_RUN_ID,
            timestamp=time.time(),
            job_name=RUNLESS_JOB_NAME,
            dagster_event=DagsterEvent(
                event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
                job_name=RUNLESS_JOB_NAME,
                event_specific_data=StepMaterializationData(
                    dg.AssetMaterialization(
                        key, description=FROM_LEDGER, partition=synced.window.key, metadata=window_metadata(synced)
                    )
                ),
            ),
        )
        for synced in windows
    ]
    for first in range(0, len(entries), EVENTS_AT_ONCE):
        instance.event_log_storage.store_event_batch(entries[first : first + EVENTS_AT_ONCE])


def _key(account: Account, asset: str) -> dg.AssetKey:
    return dg.AssetKey(account.asset_key(asset))


def _ranges(subset: Any) -> list[Range]:
    """The ranges of a subset of time windows. The subset's class is in a different module in each Dagster release."""
    return [(window.start.astimezone(UTC), window.end.astimezone(UTC)) for window in subset.included_time_windows]


def _inside(windows: Sequence[Window], ranges: Sequence[Range]) -> set[Window]:
    """The windows whose start is in one of these ordered ranges."""
    starts = [start for start, _ in ranges]
    found = set()
    for window in windows:
        place = bisect_right(starts, window.start) - 1
        if place >= 0 and window.start < ranges[place][1]:
            found.add(window)
    return found
