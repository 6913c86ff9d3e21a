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
)
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.tags import TAGS
from klaviyo_pipeline.postgres.census_runs import CensusRecord
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.metrics_tables import Metrics
from klaviyo_pipeline.windows import Unit, Window, WindowPlan, asset_windows, contiguous_ranges

CENSUS_IS_FRESH = timedelta(hours=20)
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
        # A group is a process: assets whose requests share a rate limit gain nothing from one of their own.
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
class Planner:
    """Plans one account's sync from its ledger at `now` (UTC, the database's clock)."""

    account: Account
    now: datetime

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

    def missing(self, connection: sa.Connection, asset: str) -> list[list[Window]]:
        """The ranges of ended windows that are not done: never requested, failed, or requested too early."""
        every = self._ended(self._plan(asset).unit)
        if asset in METRICS:
            wanted = self._stale_metrics(connection, asset, every)
        else:
            done = Ledger(self.account.slug, asset).done(connection)
            wanted = [window for window in every if window.start not in done]
        return contiguous_ranges(every, wanted, join_gaps=self._joined_gap(asset))

    def census_is_due(self, connection: sa.Connection, asset: str, request: SyncRequest) -> bool:
        """Whether this census (or the tags') runs: it was named or forced, or the last complete one is too old.

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
