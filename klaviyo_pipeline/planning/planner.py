"""Finds the windows that a sync requests: those that the ledger lacks, and trailing ones, which may still change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

import sqlalchemy as sa

from klaviyo_pipeline.catalog import (
    BREAKDOWNS,
    CENSUSES,
    CONVERSIONS_DAILY,
    ENTITIES,
    LISTED_IN_FULL,
    METRICS,
    REPORTS,
    census_name,
    has_conversion_metric,
)
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.tags import TAGS
from klaviyo_pipeline.postgres.census_runs import CensusRecord
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.metrics_tables import Metrics
from klaviyo_pipeline.windows import Unit, Window, WindowPlan, asset_windows, contiguous_ranges, range_tags

CENSUS_IS_FRESH = timedelta(hours=20)
"""A census runs again if the start of the last complete one is longer ago than this."""
METRICS_TAG = "klaviyo/conversion_metrics"
"""The tag of a run that requests a report with only some of the account's conversion metrics.

Its value is the ids of these metrics, separated by commas.
"""

JOINED_GAPS: Mapping[Unit, int] = {"hour": 168, "day": 7, "week": 8, "month": 6}
"""Up to this many done windows between missing windows are requested again, so that all of them form one range."""


@dataclass(frozen=True)
class SyncRequest:
    """What a sync is to do: the names of its assets, its first and last day in the account's zone, and its options.

    With `force`, windows that are done are requested too.
    """

    assets: Sequence[str]
    first: date
    last: date
    force: bool = False
    accept_deletes: bool = False
    named: bool = False
    """Whether the user named the assets. A census that was named always runs, even if the last one is fresh."""

    @cached_property
    def stages(self) -> list[list[list[str]]]:
        """The stages of the sync, which run one after the other. Each stage is a list of groups of assets.

        The groups of a stage run concurrently, and the assets of a group one after the other.
        """
        # A group runs in one process. Assets whose requests share a rate limit gain nothing from separate processes.
        with_parent = {name: one.parent.entity for name, one in LISTED_IN_FULL.items() if one.parent is not None}
        entities = [
            [asset for asset in self.assets if asset in (name, census_name(one)) or with_parent.get(asset) == name]
            for name, one in ENTITIES.items()
        ]
        reports = [[asset for asset in (table.report, name) if asset in self.assets] for name, table in METRICS.items()]
        reports += [
            [asset for asset in self.assets if asset in BREAKDOWNS and BREAKDOWNS[asset].listing.entity == name]
            for name in ENTITIES
        ]
        conversions = [asset for asset in self.assets if asset == CONVERSIONS_DAILY]
        # `tags` is in the second stage: a census stores only the id of a new tag, and `tags` adds the name.
        others = [asset for asset in self.assets if asset == TAGS.entity]
        others += [asset for asset in self.assets if asset in LISTED_IN_FULL and asset not in with_parent]
        return [[group for group in groups if group] for groups in (entities, [*reports, conversions, others])]


@dataclass(frozen=True)
class PlannedRun:
    """The contiguous windows of one run, and the conversion metrics with which it requests them.

    `metric_ids` is empty if the run uses all metrics of the account, or if the asset has no conversion metric.
    """

    windows: Sequence[Window]
    metric_ids: Sequence[str] = ()

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the Dagster run: its range of windows and, if it uses only some metrics, their ids."""
        return range_tags(self.windows) | ({METRICS_TAG: ",".join(self.metric_ids)} if self.metric_ids else {})


@dataclass(frozen=True)
class Planner:
    """Plans one account's sync from its ledger at `now` (UTC, the database's clock)."""

    account: Account
    now: datetime

    def runs(
        self, connection: sa.Connection, asset: str, request: SyncRequest, metric_ids: Sequence[str] = ()
    ) -> list[PlannedRun]:
        """The runs of an asset with windows. Conversion metrics that need the same windows share a run."""
        return _by_range(
            metric_ids,
            {one: self.windows(connection, asset, request, conversion_metric_id=one) for one in metric_ids or (None,)},
        )

    def windows(
        self, connection: sa.Connection, asset: str, request: SyncRequest, *, conversion_metric_id: str | None = None
    ) -> list[list[Window]]:
        """The contiguous ranges of windows that a sync requests for an asset with windows and a conversion metric."""
        plan = self._plan(asset)
        every = plan.between(request.first, min(request.last, self.account.today(self.now)), self.now)
        if request.force:
            wanted = every
        elif asset in METRICS:
            wanted = self._stale_metrics(connection, asset, every)
        else:
            wanted = self._missing_or_trailing(connection, asset, every, conversion_metric_id)
        return contiguous_ranges(every, wanted, join_gaps=self._joined_gap(asset))

    def missing(self, connection: sa.Connection, asset: str) -> list[PlannedRun]:
        """The runs for an asset's windows that have ended and are not done.

        Such a window was never requested, has failed, or was requested before its end.
        """
        every = self._ended(self._plan(asset).unit)

        def ranges(wanted: Sequence[Window]) -> list[list[Window]]:
            return contiguous_ranges(every, wanted, join_gaps=self._joined_gap(asset))

        if asset in METRICS:
            return [PlannedRun(windows) for windows in ranges(self._stale_metrics(connection, asset, every))]
        metric_ids = self.account.conversion_metrics if has_conversion_metric(asset) else ()
        found: dict[str | None, list[list[Window]]] = {}
        for place, metric_id in enumerate(metric_ids or (None,)):
            # For the first metric, every ledger row under the report's own name counts, whatever its metric was.
            further = metric_id if place else None
            done = Ledger(self.account.slug, asset).done(connection, conversion_metric_id=further)
            found[metric_id] = ranges([window for window in every if window.start not in done])
        return _by_range(metric_ids, found)

    def census_is_due(self, connection: sa.Connection, asset: str, request: SyncRequest) -> bool:
        """Whether this census runs: the request names or forces it, or no complete census is fresh.

        A census at another revision of the API does not count, so the first sync at a new revision reads every object.
        """
        if request.force or request.named:
            return True
        listing = listing_at(self.account.revision, CENSUSES[asset])
        last = CensusRecord(self.account.slug, listing.entity, listing.shape.revision).last_complete(connection)
        return last is None or self.now - last > CENSUS_IS_FRESH

    @cached_property
    def _ended_by_unit(self) -> dict[Unit, list[Window]]:
        return {}

    def _ended(self, unit: Unit) -> list[Window]:
        """Every window of this length that has ended. The windows of each length are computed only once."""
        if unit not in self._ended_by_unit:
            plan, today = WindowPlan(self.account, unit), self.account.today(self.now)
            windows = plan.between(self.account.start_date, today, self.now)
            self._ended_by_unit[unit] = [window for window in windows if window.end <= self.now]
        return self._ended_by_unit[unit]

    def _plan(self, asset: str) -> WindowPlan:
        return asset_windows(self.account, asset)

    def _joined_gap(self, asset: str) -> int:
        return JOINED_GAPS[self._plan(asset).unit]

    def _missing_or_trailing(
        self, connection: sa.Connection, asset: str, every: Sequence[Window], conversion_metric_id: str | None
    ) -> list[Window]:
        done = Ledger(self.account.slug, asset).done(connection, conversion_metric_id=conversion_metric_id)
        days = self.account.lookback_days
        if asset in REPORTS or asset == CONVERSIONS_DAILY:
            days = max(days, self.account.attribution_days)
        trailing = self.now - timedelta(days=days)
        return [window for window in every if window.end > trailing or window.start not in done]

    def _stale_metrics(self, connection: sa.Connection, asset: str, every: Sequence[Window]) -> list[Window]:
        """The windows whose report is synced, but whose metrics are missing or older than the report."""
        if not every:
            return []
        stale = Metrics(self.account.slug, METRICS[asset]).stale(connection, every[0].start, every[-1].start)
        return [window for window in every if window.start in stale]


def _by_range(metric_ids: Sequence[str], ranges: Mapping[str | None, Sequence[Sequence[Window]]]) -> list[PlannedRun]:
    """One run for each distinct range of windows, with all metrics that need this range."""
    by_range: dict[tuple[Window, ...], list[str]] = {}
    for metric_id, of_metric in ranges.items():
        for windows in of_metric:
            by_range.setdefault(tuple(windows), []).extend([] if metric_id is None else [metric_id])
    return [
        PlannedRun(windows, () if len(named) == len(metric_ids) else tuple(named))
        for windows, named in by_range.items()
    ]
