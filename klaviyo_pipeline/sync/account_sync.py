"""Syncs one account: stage by stage, with the groups of assets of a stage concurrently."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from dagster import DagsterInstance

from klaviyo_pipeline.catalog import CONVERSIONS_DAILY, FLOW_REPORT, REPORTS, has_conversion_metric
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.errors import KlaviyoError
from klaviyo_pipeline.orchestration.assets.metric_loads import chosen_metric, refused_metrics
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource, Session
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.account_binding import remember_conversion_metric
from klaviyo_pipeline.postgres.engine import in_transaction, reason
from klaviyo_pipeline.postgres.first_metric import make_first
from klaviyo_pipeline.postgres.refusals import forget_refusals
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.sync.asset_runs import AssetResult, ProgressCallback
from klaviyo_pipeline.sync.instance_state import align_with_ledger, prepare_instance
from klaviyo_pipeline.sync.refused_syncs import REFUSALS, record_refusal
from klaviyo_pipeline.sync.workers import Workers


@dataclass(frozen=True)
class Sync:
    """One sync of one account. It uses the same assets and the same Dagster instance as the UI."""

    account: Account
    warehouse: Warehouse
    on_progress: ProgressCallback
    workers: int | None = None
    """The most worker processes at once; None allows one for each group of a stage."""

    def run(self, instance: DagsterInstance, request: SyncRequest) -> list[AssetResult]:
        """Sync the requested assets. Return one result for each asset, in the order of the request.

        Raises an error that concerns all assets, such as a wrong key, the key of another account, or an unreachable
        database. An error of a single asset is part of its result.
        """
        prepare_instance(instance, [self.account])
        results = self.sync(instance, request)
        # A failed run, or a run of metrics, aligns its own partitions when it ends, even if the sync is interrupted.
        # This comparison also finds changes that no run made, such as a restored database.
        align_with_ledger(instance, self.account, self.warehouse, self.on_progress)
        return results

    def sync(self, instance: DagsterInstance, request: SyncRequest) -> list[AssetResult]:
        """Sync the requested assets as `run` does, without preparing the instance and comparing its partitions.

        The caller does both.
        """
        try:
            return self._sync(instance, request)
        except REFUSALS as error:
            self._record_refusal(request, error)
            raise

    def _record_refusal(self, request: SyncRequest, error: Exception) -> None:
        try:
            record_refusal(self.account, self.warehouse, request, error)
        except Exception as second:  # This error is only reported, because the first one is raised.
            self.on_progress(f"warning: the failure was not recorded: {reason(second)}")

    def _sync(self, instance: DagsterInstance, request: SyncRequest) -> list[AssetResult]:
        with KlaviyoResource().session(self.account, self.warehouse) as session:
            identity = session.identity
            if not session.zone_is_right:
                self.on_progress(f"warning: {session.zone_remedy}")
            if session.other_schemas:
                self.on_progress(f"warning: {session.duplicate_notice}")
            metrics = self._conversion_metrics(session, request)
        results: list[AssetResult] = []
        with Workers(instance, self.account, identity, request, metrics, self.on_progress, self.workers) as workers:
            for groups in request.stages:
                results += workers.run(groups)
        by_asset = {result.asset: result for result in results}
        return [by_asset[asset] for asset in request.assets]

    def _conversion_metrics(self, session: Session, request: SyncRequest) -> dict[str, Sequence[str]]:
        """The conversion metrics of each requested asset that needs them.

        Also makes the first of an asset's metrics its first one in the ledger. Returns nothing if the account's metric
        cannot be found: the run of the report then fails with the reason.
        """
        requested = [spec for name, spec in REPORTS.items() if name in request.assets]
        requested = [spec for spec in requested if spec.report.needs_conversion_metric and session.zone_is_right]
        if requested and request.force:
            reports = [spec.report.name for spec in requested]
            in_transaction(session.engine, lambda connection: forget_refusals(connection, self.account.slug, reports))
        if self.account.conversion_metrics and session.zone_is_right:
            named = [asset for asset in request.assets if has_conversion_metric(asset)]
            for asset in named:
                self._make_first(session, asset, self.account.conversion_metrics[0])
            return dict.fromkeys(named, self.account.conversion_metrics)
        try:
            metrics: dict[str, Sequence[str]] = {spec.name: (chosen_metric(session, spec).id,) for spec in requested}
            if CONVERSIONS_DAILY in request.assets and session.zone_is_right:
                metrics[CONVERSIONS_DAILY] = metrics.get(FLOW_REPORT.name) or (chosen_metric(session, FLOW_REPORT).id,)
        except KlaviyoError:
            return {}
        for asset, (metric_id,) in metrics.items():
            self._make_first(session, asset, metric_id)
        return metrics

    def _make_first(self, session: Session, asset: str, metric_id: str) -> None:
        """Make this metric the report's first one, if the ledger has windows of it as a further metric.

        A metric without windows in the ledger becomes the first one when its first answer is stored.
        """
        refused = not self.account.conversion_metrics and refused_metrics(session, REPORTS.get(asset, FLOW_REPORT))

        def make(connection: sa.Connection) -> None:
            if make_first(connection, self.account.slug, asset, metric_id, if_known=True) and not refused:
                remember_conversion_metric(connection, self.account.slug, metric_id)

        in_transaction(session.engine, make)
