"""Builds the code location: the only module that imports all the others of this package."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

import dagster as dg

from klaviyo_pipeline.catalog import CENSUSES, ENTITIES, METRICS, REPORTS, as_chosen, of_account, switched_on
from klaviyo_pipeline.config.accounts import in_terms_of, load_accounts
from klaviyo_pipeline.config.settings import Account, SettingsError
from klaviyo_pipeline.dagster_internals.asset_source import source_of
from klaviyo_pipeline.dagster_internals.gc_tuning import gc_paused
from klaviyo_pipeline.dagster_internals.job_types import AccountJob
from klaviyo_pipeline.dagster_internals.lazy_repository import AccountsRepository
from klaviyo_pipeline.orchestration.assets.asset_metadata import described
from klaviyo_pipeline.orchestration.assets.census_assets import census_asset
from klaviyo_pipeline.orchestration.assets.entity_assets import entity_asset
from klaviyo_pipeline.orchestration.assets.metrics_assets import metrics_asset
from klaviyo_pipeline.orchestration.assets.performance_report import performance_report_asset
from klaviyo_pipeline.orchestration.assets.report_assets import report_asset
from klaviyo_pipeline.orchestration.checks.build_checks import account_checks, blocking_checks
from klaviyo_pipeline.orchestration.jobs import account_jobs
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource
from klaviyo_pipeline.orchestration.schedules import account_schedules
from klaviyo_pipeline.orchestration.sensors import account_sensors, failed_runs
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.postgres.write.io_manager import PostgresIOManager

log = logging.getLogger(__name__)


def account_assets(account: Account) -> list[dg.AssetsDefinition]:
    """The assets of one account."""
    assets = [
        *(entity_asset(account, as_chosen(listing, account)) for listing in of_account(ENTITIES, account).values()),
        *(census_asset(account, as_chosen(listing, account)) for listing in of_account(CENSUSES, account).values()),
        *(report_asset(account, spec) for spec in of_account(REPORTS, account).values()),
        *(metrics_asset(account, table) for table in of_account(METRICS, account).values()),
        *([performance_report_asset(account)] if of_account(METRICS, account) else []),
    ]
    return [asset.map_asset_specs(partial(described, account=account, source=source_of(asset))) for asset in assets]


@contextmanager
def _many_definitions() -> Iterator[None]:
    with warnings.catch_warnings(), gc_paused():
        # Single-run backfills are beta in Dagster. They sync a year in one run, so they are used on purpose.
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield


def build_defs(accounts: Sequence[Account], warehouse: Warehouse | None = None) -> dg.Definitions:
    """The code location of these accounts: assets, checks, jobs, schedules, sensors, resources. Opens no connection."""
    warehouse = warehouse or Warehouse.of(accounts)
    parts = [_part(account, single_account=len(accounts) == 1) for account in accounts]
    return _definitions(parts, warehouse, [failed_runs(accounts)])


def sync_defs(account: Account, warehouse: Warehouse) -> dg.Definitions:
    """What `sync` runs: one account's assets and the blocking checks. The other checks run on a schedule."""
    with _many_definitions():
        return dg.Definitions(
            assets=account_assets(account),
            asset_checks=blocking_checks(account),
            resources=_resources(warehouse),
            executor=dg.in_process_executor,
        )


@dataclass(frozen=True)
class _Part:
    """The definitions of one account."""

    assets: Sequence[dg.AssetsDefinition]
    checks: Sequence[dg.AssetChecksDefinition]
    jobs: Sequence[AccountJob]
    schedules: Sequence[dg.ScheduleDefinition]
    sensors: Sequence[dg.SensorDefinition]


def _part(account: Account, *, single_account: bool) -> _Part:
    with _many_definitions():
        jobs = account_jobs(account, single_account=single_account)
        return _Part(
            account_assets(account),
            account_checks(account),
            jobs,
            account_schedules(account, jobs),
            account_sensors(account, jobs),
        )


def _definitions(
    parts: Sequence[_Part], warehouse: Warehouse, more_sensors: Sequence[dg.SensorDefinition] = ()
) -> dg.Definitions:
    with _many_definitions():
        return dg.Definitions(
            assets=[asset for part in parts for asset in part.assets],
            asset_checks=[check for part in parts for check in part.checks],
            jobs=[job for part in parts for job in part.jobs],
            schedules=[schedule for part in parts for schedule in part.schedules],
            sensors=[*(sensor for part in parts for sensor in part.sensors), *more_sensors],
            resources=_resources(warehouse),
            # Most runs have a single asset, and a run in one process starts ten times faster.
            executor=dg.in_process_executor,
        )


def _resources(warehouse: Warehouse) -> dict[str, object]:
    return {
        "klaviyo": KlaviyoResource(),
        "warehouse": warehouse,
        "postgres": PostgresIOManager(warehouse=warehouse),
    }


def accounts_repository(accounts: Sequence[Account], warehouse: Warehouse | None = None) -> AccountsRepository:
    """The same as `build_defs`, for many accounts: each account's definitions are built when Dagster requests them."""
    warehouse = warehouse or Warehouse.of(accounts)

    part_of = cache(partial(_part, single_account=len(accounts) == 1))

    def whole() -> dg.Definitions:
        parts = [part_of(account) for account in accounts]
        spanning = [_Part(part.assets, part.checks, (), (), ()) for part in parts]
        return _definitions(spanning, warehouse, [failed_runs(accounts)])

    return AccountsRepository(accounts, lambda account: _definitions([part_of(account)], warehouse), whole)


def _has_known_assets(account: Account) -> bool:
    """Whether the account's `assets` can be used. If not, the reason is logged."""
    try:
        switched_on(account.assets)
    except SettingsError as error:
        log.error(in_terms_of(account, f"account {account.slug}: {error}"))
        return False
    return True


def installation_defs() -> dg.Definitions | dg.RepositoryDefinition:
    """The code location of the accounts of this installation. An invalid entry is logged and left out.

    With several accounts, definitions are built when Dagster requests them.
    """
    found = load_accounts()
    for line in found.errors:
        log.error(line)
    accounts = [settings.account for settings in found.every]
    if found.file is not None:
        accounts = [account for account in accounts if _has_known_assets(account)] or accounts
    if len(accounts) == 1:
        return build_defs(accounts)
    return accounts_repository(accounts).definition()
