"""Builds the Dagster definitions of accounts from the assets, checks, jobs, schedules, sensors and resources."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import dagster as dg

from klaviyo_pipeline.catalog import (
    CENSUSES,
    CONVERSIONS_DAILY,
    ENTITIES,
    METRICS,
    REPORTS,
    as_chosen,
    of_account,
    switched_on,
)
from klaviyo_pipeline.config.accounts import in_terms_of, load_accounts
from klaviyo_pipeline.config.settings import Account, SettingsError
from klaviyo_pipeline.dagster_internals.asset_source import source_of
from klaviyo_pipeline.dagster_internals.gc_tuning import gc_paused
from klaviyo_pipeline.dagster_internals.job_types import AccountJob
from klaviyo_pipeline.dagster_internals.lazy_repository import AccountsRepository
from klaviyo_pipeline.dagster_internals.run_executor import executor_by_assets
from klaviyo_pipeline.orchestration.assets.asset_metadata import described
from klaviyo_pipeline.orchestration.assets.census_assets import census_asset
from klaviyo_pipeline.orchestration.assets.conversions_asset import conversions_asset
from klaviyo_pipeline.orchestration.assets.entity_assets import entity_asset
from klaviyo_pipeline.orchestration.assets.metrics_assets import metrics_asset
from klaviyo_pipeline.orchestration.assets.performance_report import PERFORMANCE_REPORT, performance_report_asset
from klaviyo_pipeline.orchestration.assets.report_assets import report_asset
from klaviyo_pipeline.orchestration.checks.build_checks import account_checks, blocking_checks
from klaviyo_pipeline.orchestration.jobs import account_jobs, pruning_job
from klaviyo_pipeline.orchestration.resources.account_resources import Execute, account_resources, run_asset
from klaviyo_pipeline.orchestration.resources.account_settings import checked
from klaviyo_pipeline.orchestration.schedules import account_schedules
from klaviyo_pipeline.orchestration.sensors import account_sensors, failed_runs
from klaviyo_pipeline.postgres.warehouse import Warehouse

log = logging.getLogger(__name__)


Translate = Callable[[dg.AssetSpec], dg.AssetSpec]
"""Returns the spec of an asset with changed attributes: key, group, description, tags, owners, metadata or kinds."""


def account_assets(account: Account, translate: Translate | None = None) -> list[dg.AssetsDefinition]:
    """The assets of one account. `translate` changes the spec of each asset."""
    entities, censuses = of_account(ENTITIES, account), of_account(CENSUSES, account)
    made = {
        **{name: entity_asset(account, as_chosen(listing, account)) for name, listing in entities.items()},
        **{name: census_asset(account, as_chosen(listing, account)) for name, listing in censuses.items()},
        **{name: report_asset(account, spec) for name, spec in of_account(REPORTS, account).items()},
        **{name: metrics_asset(account, table) for name, table in of_account(METRICS, account).items()},
    }
    if CONVERSIONS_DAILY in switched_on(account.assets):
        made[CONVERSIONS_DAILY] = conversions_asset(account)
    if of_account(METRICS, account):
        made[PERFORMANCE_REPORT] = performance_report_asset(account)
    assets = []
    for name, asset in made.items():
        asset = asset.map_asset_specs(partial(described, account=account, name=name, source=source_of(asset)))
        assets.append(asset.map_asset_specs(translate) if translate else asset)
    return assets


@contextmanager
def _many_definitions() -> Iterator[None]:
    with warnings.catch_warnings(), gc_paused():
        # Single-run backfills are a beta feature of Dagster. They are used on purpose: one run can sync a year.
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield


def build_defs(
    accounts: Sequence[Account],
    *,
    schedules: bool = True,
    sensors: bool = True,
    checks: bool = True,
    translate: Translate | None = None,
    execute: Execute = run_asset,
) -> dg.Definitions:
    """The definitions of these accounts, for your own code location: merge them with `dg.Definitions.merge`.

    The definitions have no executor. The keys of their resources begin with `klaviyo_account__` or `klaviyo_tables__`
    and end with the account's slug. Building the definitions opens no connection and reads no environment variable;
    only runs and sensors do. `translate` changes the attributes of each asset. `execute` is called to run an asset,
    with the run's context and the function that does the asset's work. Raises `SettingsError` for an invalid setting
    of an account.
    """
    found: list[dg.Definitions] = []
    with _many_definitions():
        for account in accounts:
            ours = replace(checked(account), migrate=bool(account.migrate))
            if translate:
                keys = {
                    spec.key.path[-1]: translate(spec).key.path
                    for asset in account_assets(ours)
                    for spec in asset.specs
                }
                ours = replace(ours, asset_keys=tuple((name, tuple(path)) for name, path in keys.items()))
            jobs = account_jobs(ours, single_account=True, checks=checks, own_executors=False)
            found.append(
                dg.Definitions(
                    assets=account_assets(ours, translate and partial(_same_key, translate=translate)),
                    asset_checks=account_checks(ours) if checks else [],
                    jobs=jobs,
                    schedules=account_schedules(ours, jobs) if schedules else [],
                    sensors=[*account_sensors(ours, jobs), failed_runs([ours], f"{ours.slug}_failed_runs")]
                    if sensors
                    else [],
                    resources=account_resources(ours, Warehouse.of([ours]), execute),
                )
            )
        return dg.Definitions.merge(*found)


def _same_key(spec: dg.AssetSpec, translate: Translate) -> dg.AssetSpec:
    """The translated spec with the key of `spec`, which is already translated: a key must not be translated twice."""
    return translate(spec).replace_attributes(key=spec.key)


def project_defs(accounts: Sequence[Account], warehouse: Warehouse | None = None) -> dg.Definitions:
    """The code location of this project for these accounts. Unlike `build_defs`, it has executors and pruning jobs."""
    warehouse = warehouse or Warehouse.of(accounts)
    parts = [_part(account, single_account=len(accounts) == 1) for account in accounts]
    return _definitions(parts, warehouse, [failed_runs(accounts)])


def sync_defs(account: Account, warehouse: Warehouse) -> dg.Definitions:
    """The definitions that `sync` runs: the assets of one account and their blocking checks.

    The other checks run in the jobs of Dagster and in `klaviyo-pipeline check`.
    """
    with _many_definitions():
        return dg.Definitions(
            assets=account_assets(account),
            asset_checks=blocking_checks(account),
            resources=account_resources(account, warehouse),
            executor=dg.in_process_executor,
        )


@dataclass(frozen=True)
class _Part:
    """The definitions of one account."""

    account: Account
    assets: Sequence[dg.AssetsDefinition]
    checks: Sequence[dg.AssetChecksDefinition]
    jobs: Sequence[AccountJob]
    schedules: Sequence[dg.ScheduleDefinition]
    sensors: Sequence[dg.SensorDefinition]


def _part(account: Account, *, single_account: bool) -> _Part:
    with _many_definitions():
        jobs = [*account_jobs(account, single_account=single_account), pruning_job(account)]
        return _Part(
            account,
            account_assets(account),
            account_checks(account),
            jobs,
            account_schedules(account, jobs),
            account_sensors(account, jobs),
        )


def _definitions(
    parts: Sequence[_Part], warehouse: Warehouse, more_sensors: Sequence[dg.SensorDefinition] = ()
) -> dg.Definitions:
    resources: dict[str, Any] = {}
    for part in parts:
        resources |= account_resources(part.account, warehouse)
    with _many_definitions():
        return dg.Definitions(
            assets=[asset for part in parts for asset in part.assets],
            asset_checks=[check for part in parts for check in part.checks],
            jobs=[job for part in parts for job in part.jobs],
            schedules=[schedule for part in parts for schedule in part.schedules],
            sensors=[*(sensor for part in parts for sensor in part.sensors), *more_sensors],
            resources=resources,
            executor=executor_by_assets,
        )


def accounts_repository(accounts: Sequence[Account]) -> AccountsRepository:
    """The definitions of `project_defs` as a repository. Those of an account are built when Dagster requests them."""
    warehouse = Warehouse.of(accounts)
    part_of = cache(partial(_part, single_account=len(accounts) == 1))

    def whole() -> dg.Definitions:
        parts = [part_of(account) for account in accounts]
        spanning = [replace(part, jobs=(), schedules=(), sensors=()) for part in parts]
        return _definitions(spanning, warehouse, [failed_runs(accounts)])

    return AccountsRepository(accounts, lambda account: _definitions([part_of(account)], warehouse), whole)


def _has_known_assets(account: Account) -> bool:
    """Whether the asset names in the account's setting are valid. If they are not, the reason is logged."""
    try:
        switched_on(account.assets)
    except SettingsError as error:
        log.error(in_terms_of(account, f"account {account.slug}: {error}"))
        return False
    return True


def installation_defs() -> dg.Definitions | dg.RepositoryDefinition:
    """The code location of the accounts of this installation.

    An invalid entry of accounts.yaml is logged and left out. If all entries name unknown assets, none is left out, and
    the code location reports the error. With several accounts, the definitions of an account are
    built when Dagster first requests them.
    """
    found = load_accounts()
    for line in found.errors:
        log.error(line)
    accounts = [settings.account for settings in found.every]
    if found.file is not None:
        accounts = [account for account in accounts if _has_known_assets(account)] or accounts
    if len(accounts) == 1:
        return project_defs(accounts)
    return accounts_repository(accounts).definition()
