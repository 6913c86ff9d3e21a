"""One sync of one account: which assets wait for which, and which go side by side."""

from dataclasses import dataclass

from klaviyo_pipeline.catalog import REPORTS
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.errors import KlaviyoError
from klaviyo_pipeline.orchestration.assets.report_assets import chosen_metric
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource, Session
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.refusals import forget_refusals
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.sync.asset_runs import AssetResult, ProgressCallback
from klaviyo_pipeline.sync.stale_runs import prepare_instance
from klaviyo_pipeline.sync.workers import run_concurrently


@dataclass(frozen=True)
class Sync:
    """One sync of one account, through the assets and the instance that the UI has too."""

    account: Account
    warehouse: Warehouse
    on_progress: ProgressCallback
    workers: int | None = None
    """How many processes work at once, none of them this one; by default as many as there is to do side by side."""

    def run(self, request: SyncRequest) -> list[AssetResult]:
        """Sync what was asked for; one result for each asset, in the order of the request.

        Raises what makes every asset fail alike: a wrong key, another account's key, an unreachable database.
        """
        prepare_instance([self.account])
        return self.sync(request)

    def sync(self, request: SyncRequest) -> list[AssetResult]:
        """`run`, on an instance that is prepared for the account."""
        with KlaviyoResource().session(self.account, self.warehouse) as session:
            identity = session.identity
            if not session.zone_is_right:
                self.on_progress(f"warning: {session.zone_remedy}")
            if session.other_schemas:
                self.on_progress(f"warning: {session.duplicate_notice}")
            metrics = self._conversion_metrics(session, request)
        results: list[AssetResult] = []
        for groups in request.stages:
            results += run_concurrently(
                self.account, identity, groups, request, metrics, self.on_progress, self.workers
            )
        by_asset = {result.asset: result for result in results}
        return [by_asset[asset] for asset in request.assets]

    def _conversion_metrics(self, session: Session, request: SyncRequest) -> dict[str, str]:
        """The metric that each report's windows count as asked with; none where its own run will tell why not."""
        requested = [spec for name, spec in REPORTS.items() if name in request.assets]
        requested = [spec for spec in requested if spec.report.needs_conversion_metric and session.zone_is_right]
        if requested and request.force:
            with session.engine.begin() as connection:
                forget_refusals(connection, self.account.slug, [spec.report.name for spec in requested])
        try:
            return {spec.name: chosen_metric(session, spec).id for spec in requested}
        except KlaviyoError:
            return {}
