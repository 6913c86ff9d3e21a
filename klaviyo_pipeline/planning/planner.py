"""The windows that a sync requests: those that the ledger lacks, and the trailing ones that may still change."""

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
METRICS_TAG = "klaviyo/conversion_metrics"
"""Tag of a run that requests a report only with some of the account's conversion metrics: their ids, with commas."""

JOINED_GAPS: Mapping[Unit, int] = {"hour": 168, "day": 7, "week": 8, "month": 6}
"""A gap of up to this many windows between missing ones is requested again: one request instead of two."""


@dataclass(frozen=True)
class SyncRequest:
    """A requested sync: assets by name, the first and last day in the account's zone, and the options.

    `force` also requests windows that are done.
    """

    assets: Sequence[str]
    first: date
    last: date
    force: bool = False
    accept_deletes: bool = False
    named: bool = False
    """Whether the user named the assets; a named census always runs."""

    @cached_property
    def stages(self) -> list[list[list[str]]]:
        """The assets in order: the stages run one after the other, the groups of a stage concurrently, the assets of a
        group one after the other."""
        # A group is a process: assets whose requests share a rate limit gain nothing from separate processes.
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
        # After the censuses, which store new tags by id only: the listing of tags then adds their names.
        others = [asset for asset in self.assets if asset == TAGS.entity]
        others += [asset for asset in self.assets if asset in LISTED_IN_FULL and asset not in with_parent]
        return [[group for group in groups if group] for groups in (entities, [*reports, conversions, others])]


@dataclass(frozen=True)
class PlannedRun:
    """The contiguous windows of one run, and the conversion metrics that it requests them with.

    No metrics stand for all metrics of the account, and for an asset without any.
    """

    windows: Sequence[Window]
    metric_ids: Sequence[str] = ()

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the Dagster run."""
        return range_tags(self.windows) | ({METRICS_TAG: ",".join(self.metric_ids)} if self.metric_ids else {})


@dataclass(frozen=True)
class Planner:
    """Plans one account's sync from its ledger at `now` (UTC, the database's clock)."""

    account: Account
    now: datetime

    def runs(
        self, connection: sa.Connection, asset: str, request: SyncRequest, metric_ids: Sequence[str] = ()
    ) -> list[PlannedRun]:
        """The runs of this partitioned asset. Metrics that need the same windows share a run."""
        return _by_range(
            metric_ids,
            {one: self.windows(connection, asset, request, conversion_metric_id=one) for one in metric_ids or (None,)},
        )

    def windows(
        self, connection: sa.Connection, asset: str, request: SyncRequest, *, conversion_metric_id: str | None = None
    ) -> list[list[Window]]:
        """The contiguous ranges of windows that this partitioned asset requests, one run each."""
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
        """Runs for the ended windows that are not done: never requested, failed, or requested too early."""
        every = self._ended(self._plan(asset).unit)

        def ranges(wanted: Sequence[Window]) -> list[list[Window]]:
            return contiguous_ranges(every, wanted, join_gaps=self._joined_gap(asset))

        if asset in METRICS:
            return [PlannedRun(windows) for windows in ranges(self._stale_metrics(connection, asset, every))]
        metric_ids = self.account.conversion_metrics if has_conversion_metric(asset) else ()
        found: dict[str | None, list[list[Window]]] = {}
        for place, metric_id in enumerate(metric_ids or (None,)):
            # The first metric may have been found in the account, so it is not compared.
            further = metric_id if place else None
            done = Ledger(self.account.slug, asset).done(connection, conversion_metric_id=further)
            found[metric_id] = ranges([window for window in every if window.start not in done])
        return _by_range(metric_ids, found)

    def census_is_due(self, connection: sa.Connection, asset: str, request: SyncRequest) -> bool:
        """Whether this census (or listing of tags) runs: it was named or forced, or the last complete one is too old.

        A census that was read at another revision does not count: one sync moves the account to this revision.
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
        """Every window of this length that has ended; computed once."""
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
        """Windows whose metrics were not computed yet, or before the latest report."""
        if not every:
            return []
        stale = Metrics(self.account.slug, METRICS[asset]).stale(connection, every[0].start, every[-1].start)
        return [window for window in every if window.start in stale]


def _by_range(metric_ids: Sequence[str], ranges: Mapping[str | None, Sequence[Sequence[Window]]]) -> list[PlannedRun]:
    """A run for each different range of windows, with the metrics that need it."""
    by_range: dict[tuple[Window, ...], list[str]] = {}
    for metric_id, of_metric in ranges.items():
        for windows in of_metric:
            by_range.setdefault(tuple(windows), []).extend([] if metric_id is None else [metric_id])
    return [
        PlannedRun(windows, () if len(named) == len(metric_ids) else tuple(named))
        for windows, named in by_range.items()
    ]
