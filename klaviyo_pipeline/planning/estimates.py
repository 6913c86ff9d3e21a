"""Estimates the windows, requests and time of each asset of a sync."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal

import sqlalchemy as sa

from klaviyo_pipeline.catalog import (
    CENSUSES,
    CONVERSIONS_DAILY,
    ENDPOINTS,
    ENTITIES,
    METRICS,
    REPORTS,
    ReportAsset,
    period_of,
)
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.aggregates import DAYS_PER_REQUEST
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.rates import QUERY_METRIC_AGGREGATES
from klaviyo_pipeline.planning.durations import pace
from klaviyo_pipeline.planning.page_counts import Pages
from klaviyo_pipeline.planning.planner import JOINED_GAPS, PlannedRun, Planner, SyncRequest
from klaviyo_pipeline.postgres.census_runs import CensusRecord
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.refusals import refusals
from klaviyo_pipeline.windows import Window, asset_windows, contiguous_ranges

Basis = Literal["exact", "estimate", "at least"]
SIGNS: dict[Basis, str] = {"exact": "", "estimate": "about ", "at least": "at least "}


@dataclass(frozen=True)
class Estimate:
    """The windows, requests and time that one asset needs.

    `windows` is the number of windows of the requested days. `already_there` is the number of these windows that are
    done in the ledger. `to_request` is the number of windows that the sync requests: missing windows, trailing windows,
    and the done windows in small gaps between them. All three are None for a census. `ranges` is the number of runs.
    `endpoint` is None if Klaviyo is not called. `basis` says how precise `requests` is: `exact`, an `estimate` from the
    number of stored rows, or `at least`, if more requests may be necessary. `seconds` is the shortest time that the
    published rates allow.
    """

    asset: str
    windows: int | None
    already_there: int | None
    to_request: int | None
    ranges: int
    endpoint: str | None
    requests: int
    basis: Basis
    seconds: float

    @property
    def requests_text(self) -> str:
        """The number of requests with its precision, such as "about 120"."""
        return f"{SIGNS[self.basis]}{self.requests:,}"


@dataclass(frozen=True)
class Estimator:
    """Estimates one account's sync at `now` (UTC, the database's clock).

    `connection` is None if the schema is not migrated; every window then counts as missing. `conversion_metrics` maps
    an asset to the conversion metrics with which it will be requested, as far as they are known.
    """

    account: Account
    now: datetime
    connection: sa.Connection | None
    conversion_metrics: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def estimates(self, request: SyncRequest) -> list[Estimate]:
        """One estimate for each asset of the request, in the same order."""
        return [self._estimate(asset, request) for asset in request.assets]

    def _estimate(self, asset: str, request: SyncRequest) -> Estimate:
        if asset in CENSUSES:
            due = self.connection is None or self._planner.census_is_due(self.connection, asset, request)
            return self.census(asset, due=due)
        return self.windowed(asset, request, self._runs(asset, self._every(asset, request), request))

    def windowed(self, asset: str, request: SyncRequest, runs: Sequence[PlannedRun]) -> Estimate:
        """The estimate of an asset with windows. `runs` are the runs that sync it."""
        every = self._every(asset, request)
        there = self._done(asset) & {window.start for window in every}
        requests, basis, endpoint = self._cost(asset, runs, there)
        return Estimate(
            asset=asset,
            windows=len(every),
            already_there=len(there),
            to_request=len({window for run in runs for window in run.windows}),
            ranges=len(runs),
            endpoint=endpoint,
            requests=requests,
            basis=basis,
            seconds=self._seconds(endpoint, requests),
        )

    def census(self, asset: str, *, due: bool) -> Estimate:
        """The estimate of a census. If it is not due, it takes no requests."""
        listing = CENSUSES[asset]
        requests = self._pages(listing).of_everything() if due else 0
        basis: Basis = "at least" if due and not self._all_listed_once(listing.entity) else "estimate"
        endpoint = listing.list_endpoint.name
        return Estimate(asset, None, None, None, int(due), endpoint, requests, basis, self._seconds(endpoint, requests))

    def _cost(self, asset: str, runs: Sequence[PlannedRun], there: set[datetime]) -> tuple[int, Basis, str | None]:
        if asset in METRICS:
            return 0, "exact", None
        metric_ids = self.conversion_metrics.get(asset, ())
        if asset in REPORTS:
            spec = REPORTS[asset]
            requests = sum(reports_of(spec, run.windows) * _times(run, metric_ids) for run in runs)
            if requests and (refused := self._may_be_refused(spec)):
                # Each metric whose refusal has expired takes at least one more request if Klaviyo refuses again.
                return requests + refused, "at least", spec.report.endpoint.name
            return requests, "exact", spec.report.endpoint.name
        if asset == CONVERSIONS_DAILY:
            requests = sum(-(-len(run.windows) // DAYS_PER_REQUEST) * _times(run, metric_ids) for run in runs)
            # A response has at most 500 rows, and the number of messages with conversions is not known.
            return requests, "at least" if requests else "exact", QUERY_METRIC_AGGREGATES.name
        ranges = [run.windows for run in runs]
        requests = sum(self._pages(ENTITIES[asset]).of_range(windows, self.now) for windows in ranges)
        # The open window is not considered: it is never done, and one day of changes rarely needs another page.
        requested_before = all(
            window.start in there for windows in ranges for window in windows if window.end <= self.now
        )
        known = not ranges or (bool(there) and requested_before) or self._all_listed_once(asset)
        return requests, "estimate" if known else "at least", ENTITIES[asset].list_endpoint.name

    def _runs(self, asset: str, every: Sequence[Window], request: SyncRequest) -> list[PlannedRun]:
        if self.connection is None:
            nothing_to_sum_up = asset in METRICS and METRICS[asset].report not in request.assets
            return [PlannedRun(every)] if every and not nothing_to_sum_up else []
        if asset in METRICS and METRICS[asset].report in request.assets:
            # A run of the report with the first conversion metric makes the metrics of the run's windows stale.
            report = METRICS[asset].report
            first = self.conversion_metrics.get(report, ())[:1]
            planned = [*self._planned(asset, request), *self._planned(report, request)]
            wanted = [
                window for run in planned if not run.metric_ids or first[0] in run.metric_ids for window in run.windows
            ]
            ranges = contiguous_ranges(every, wanted, join_gaps=JOINED_GAPS[period_of(asset)])
            return [PlannedRun(windows) for windows in ranges]
        return self._planned(asset, request)

    def _planned(self, asset: str, request: SyncRequest) -> list[PlannedRun]:
        assert self.connection is not None
        return self._planner.runs(self.connection, asset, request, self.conversion_metrics.get(asset, ()))

    def _every(self, asset: str, request: SyncRequest) -> list[Window]:
        plan = asset_windows(self.account, asset)
        return plan.between(request.first, min(request.last, self.account.today(self.now)), self.now)

    def _done(self, asset: str) -> set[datetime]:
        if self.connection is None:
            return set()
        ledger = Ledger(self.account.slug, asset)
        metric_ids = self.conversion_metrics.get(asset, ())
        done = [ledger.done(self.connection, conversion_metric_id=one) for one in metric_ids or (None,)]
        return set(done[0]).intersection(*done[1:])

    def _may_be_refused(self, spec: ReportAsset) -> int:
        """For how many of the report's conversion metrics a refusal has expired.

        The sync requests the refused statistics of these metrics again.
        """
        metric_ids = self.conversion_metrics.get(spec.name, ())
        if self.connection is None or not metric_ids:
            return 0
        return sum(
            refusal.report == spec.report.name and refusal.metric_id in metric_ids and not refusal.holds(self.now)
            for refusal in refusals(self.connection, self.account.slug)
        )

    def _all_listed_once(self, entity: str) -> bool:
        """Whether a census of the entity is complete, so that the table has every object."""
        if self.connection is None:
            return False
        return CensusRecord(self.account.slug, entity).last_complete(self.connection) is not None

    def _pages(self, listing: Listing) -> Pages:
        return Pages(self.connection, self.account.slug, listing_at(self.account.revision, listing))

    def _seconds(self, endpoint: str | None, requests: int) -> float:
        return 0.0 if endpoint is None else pace(ENDPOINTS[endpoint], requests, self.account.rate_scale)

    @cached_property
    def _planner(self) -> Planner:
        return Planner(self.account, self.now)


def _times(run: PlannedRun, metric_ids: Sequence[str]) -> int:
    """How often a run requests its windows: once for each of its conversion metrics, or once if there are none."""
    return len(run.metric_ids) or len(metric_ids) or 1


def reports_of(spec: ReportAsset, windows: Sequence[Window]) -> int:
    """How many requests a report takes for these contiguous windows. Days before its first day take none.

    A result that does not fit on one page takes more requests. A page has thousands of groups.
    """
    most = spec.windows_per_request
    spans = [windows[first : first + most] for first in range(0, len(windows), most)]
    first_day = spec.report.first_day
    return sum(1 for span in spans if first_day is None or span[-1].first_day >= first_day)
