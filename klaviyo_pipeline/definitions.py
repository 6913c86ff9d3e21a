"""Everything together: the only module that knows all the others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import dagster as dg

from klaviyo_pipeline.assets.census import census_asset
from klaviyo_pipeline.assets.describing import described
from klaviyo_pipeline.assets.entities import entity_asset
from klaviyo_pipeline.assets.metrics import metrics_asset
from klaviyo_pipeline.assets.performance_report import performance_report_asset
from klaviyo_pipeline.assets.reports import REPORT_ASSETS, report_asset
from klaviyo_pipeline.checks.assembling import account_checks, blocking_checks
from klaviyo_pipeline.jobs import account_jobs
from klaviyo_pipeline.klaviyo.entities import LISTINGS
from klaviyo_pipeline.klaviyo.tags import TAGS
from klaviyo_pipeline.postgres.io_manager import PostgresIOManager
from klaviyo_pipeline.postgres.metrics import METRICS
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.resources import KlaviyoResource
from klaviyo_pipeline.schedules import account_schedules
from klaviyo_pipeline.sensors import account_sensors, failed_runs
from klaviyo_pipeline.settings import Account, load_settings


def account_assets(account: Account) -> list[dg.AssetsDefinition]:
    """The assets of one account."""
    assets = [
        *(entity_asset(account, listing) for listing in LISTINGS.values()),
        *(census_asset(account, listing) for listing in (*LISTINGS.values(), TAGS)),
        *(report_asset(account, spec) for spec in REPORT_ASSETS.values()),
        *(metrics_asset(account, table) for table in METRICS.values()),
        performance_report_asset(account),
    ]
    return list(dg.map_asset_specs(lambda spec: described(spec, account), assets))


def build_defs(accounts: Sequence[Account], warehouse: Warehouse | None = None) -> dg.Definitions:
    """The code location of these accounts: assets, checks, jobs, schedules, sensors, resources. Connects to nothing."""
    warehouse = warehouse or Warehouse()
    with warnings.catch_warnings():
        # Single-run backfills are what makes a year one run; that they are beta is no news to who runs this.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _definitions(accounts, warehouse)


def sync_defs(account: Account, warehouse: Warehouse) -> dg.Definitions:
    """What a sync runs: one account's assets, with the checks that hold something back; the others have a schedule."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.Definitions(
            assets=account_assets(account),
            asset_checks=blocking_checks(account),
            resources=_resources(warehouse),
            executor=dg.in_process_executor,
        )


def _definitions(accounts: Sequence[Account], warehouse: Warehouse) -> dg.Definitions:
    jobs = {account.slug: account_jobs(account) for account in accounts}
    return dg.Definitions(
        assets=dg.with_source_code_references([asset for account in accounts for asset in account_assets(account)]),
        asset_checks=[check for account in accounts for check in account_checks(account)],
        jobs=[job for account in accounts for job in jobs[account.slug]],
        schedules=[schedule for account in accounts for schedule in account_schedules(account, jobs[account.slug])],
        sensors=[
            *(sensor for account in accounts for sensor in account_sensors(account, jobs[account.slug])),
            failed_runs([job for account in accounts for job in jobs[account.slug]]),
        ],
        resources=_resources(warehouse),
        # A run starts in a tenth of the time in one process, and most runs hold a single asset.
        executor=dg.in_process_executor,
    )


def _resources(warehouse: Warehouse) -> dict[str, object]:
    return {
        "klaviyo": KlaviyoResource(),
        "warehouse": warehouse,
        "postgres": PostgresIOManager(warehouse=warehouse),
    }


defs = build_defs([load_settings().account])
