"""Builds Dagster's asset checks of one account.

All checks of an asset that read only Postgres form one step, which runs after the asset in every run of the asset.
Each check that calls Klaviyo's API is a step of its own, and all of them are in a job of their own. In a run that
materializes assets it yields no result, so that a sync or a backfill never spends the quota of reports on checks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.catalog import (
    CONVERSIONS_DAILY,
    ENTITIES,
    FLOW_METRICS,
    FORM_METRICS,
    METRICS,
    REPORTS,
    census_name,
)
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.signatures import cache_signature
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS
from klaviyo_pipeline.orchestration.checks import conversion_checks, listing_checks, reconciliation_checks
from klaviyo_pipeline.orchestration.checks.check import Check, CheckContext, CheckOutcome
from klaviyo_pipeline.orchestration.checks.clock_checks import CLOCK_CHECK
from klaviyo_pipeline.orchestration.checks.drift_checks import drift_checks, report_drift_checks
from klaviyo_pipeline.orchestration.checks.entity_checks import census_checks, entity_checks
from klaviyo_pipeline.orchestration.checks.ledger_checks import ledger_checks
from klaviyo_pipeline.orchestration.checks.metrics_checks import metrics_checks
from klaviyo_pipeline.orchestration.checks.period_checks import period_checks
from klaviyo_pipeline.orchestration.checks.quiet_checks import QUIET_CHECKS, UNSENT_CHECK
from klaviyo_pipeline.orchestration.checks.report_checks import report_checks
from klaviyo_pipeline.orchestration.checks.row_count_checks import (
    entity_count_check,
    metrics_count_check,
    report_count_check,
)
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource, Session
from klaviyo_pipeline.postgres.engine import snapshot
from klaviyo_pipeline.postgres.warehouse import Warehouse


@dataclass(frozen=True)
class ApiCheck:
    """A check that calls Klaviyo's API, as data."""

    asset: str
    name: str
    description: str
    examine: Callable[[CheckContext, Session], CheckOutcome]


def database_checks(account: Account) -> dict[str, tuple[Check, ...]]:
    """The checks that read only Postgres, by asset."""
    hourly = account.sync_window == "hourly"
    found: dict[str, tuple[Check, ...]] = {}
    for listing in ENTITIES.values():
        found[listing.entity] = (
            *entity_checks(listing),
            *drift_checks(listing),
            *ledger_checks(hourly=hourly),
            entity_count_check(),
            *((UNSENT_CHECK,) if listing is CAMPAIGNS else ()),
            CLOCK_CHECK,
        )
        found[census_name(listing)] = census_checks(listing)
    for spec in REPORTS.values():
        found[spec.name] = (
            *report_checks(spec),
            *report_drift_checks(spec.report),
            *period_checks(spec),
            *ledger_checks(hourly=False),
            report_count_check(),
            CLOCK_CHECK,
        )
    for table in METRICS.values():
        found[table.name] = (
            *metrics_checks(table),
            *(QUIET_CHECKS if table in (FLOW_METRICS, FORM_METRICS) else ()),
            *ledger_checks(hourly=False),
            metrics_count_check(table),
            CLOCK_CHECK,
        )
    found[CONVERSIONS_DAILY] = (
        *conversion_checks.CONVERSION_CHECKS,
        *ledger_checks(hourly=False),
        report_count_check(),
        CLOCK_CHECK,
    )
    return found


def api_checks() -> list[ApiCheck]:
    """The checks that call Klaviyo's API."""
    return [
        *(
            ApiCheck(
                listing.entity,
                listing_checks.NAME,
                listing_checks.DESCRIPTION,
                partial(listing_checks.listed_objects_exist, listing=listing),
            )
            for listing in ENTITIES.values()
        ),
        *(
            ApiCheck(
                spec.name,
                reconciliation_checks.NAME,
                reconciliation_checks.DESCRIPTION,
                partial(reconciliation_checks.daily_sums_match_total, spec=spec),
            )
            for spec in REPORTS.values()
            if spec.period == "day"
        ),
        ApiCheck(
            CONVERSIONS_DAILY,
            conversion_checks.NAME,
            conversion_checks.DESCRIPTION,
            conversion_checks.groups_match_total,
        ),
    ]


def database_check_keys(account: Account) -> list[dg.AssetCheckKey]:
    """The keys of the checks that read only Postgres."""
    return [_key(account, asset, check.name) for asset, found in database_checks(account).items() for check in found]


def api_check_keys(account: Account) -> list[dg.AssetCheckKey]:
    """The keys of the checks that call Klaviyo's API."""
    return [_key(account, check.asset, check.name) for check in api_checks()]


def _key(account: Account, asset: str, name: str) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(dg.AssetKey([account.slug, asset]), name)


def account_checks(account: Account) -> list[dg.AssetChecksDefinition]:
    """Every check of one account."""
    steps = [_database_step(account, asset, checks) for asset, checks in database_checks(account).items()]
    return steps + [_api_step(account, check) for check in api_checks()]


def blocking_checks(account: Account) -> list[dg.AssetChecksDefinition]:
    """The checks whose failure keeps downstream assets from running."""
    blocking = {
        asset: [check for check in checks if check.blocking] for asset, checks in database_checks(account).items()
    }
    return [_database_step(account, asset, checks) for asset, checks in blocking.items() if checks]


@contextmanager
def check_context(engine: sa.Engine, account: Account, asset: str) -> Iterator[CheckContext]:
    """The context of one asset: one snapshot of the database, in a read-only transaction."""
    with snapshot(engine) as connection:
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
        yield CheckContext(connection, account, asset, now)


def _database_step(account: Account, asset: str, checks: Sequence[Check]) -> dg.AssetChecksDefinition:
    key = dg.AssetKey([account.slug, asset])
    specs = [
        dg.AssetCheckSpec(check.name, asset=key, description=check.description, blocking=check.blocking)
        for check in checks
    ]

    @dg.multi_asset_check(name=f"{account.slug}__{asset}_checks", specs=specs, can_subset=True)
    @cache_signature
    def examined(context: dg.AssetCheckExecutionContext, warehouse: Warehouse) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.op_execution_context.selected_asset_check_keys}
        with warehouse.engine(account.slug) as engine, check_context(engine, account, asset) as ctx:
            for check in checks:
                if check.name in selected:
                    yield _result(key, check.name, check.examine(ctx))

    return examined


def _api_step(account: Account, check: ApiCheck) -> dg.AssetChecksDefinition:
    key = dg.AssetKey([account.slug, check.asset])
    spec = dg.AssetCheckSpec(check.name, asset=key, description=check.description)

    @dg.multi_asset_check(
        name=f"{account.slug}__{check.asset}_{check.name}",
        specs=[spec],
        # This makes the output optional, so that a run that materializes assets can skip the check.
        can_subset=True,
        pool=f"{account.slug}_api",
    )
    @cache_signature
    def requested(
        context: dg.AssetCheckExecutionContext, klaviyo: KlaviyoResource, warehouse: Warehouse
    ) -> Iterator[dg.AssetCheckResult]:
        if context.job_def.asset_layer.selected_asset_keys:
            context.log.debug(f"API check skipped in a run that materializes assets: run job {account.slug}_reconcile")
            return
        with klaviyo.session(account, warehouse) as session, check_context(session.engine, account, check.asset) as ctx:
            yield _result(key, check.name, check.examine(ctx, session), session.count.requests)

    return requested


def _result(
    key: dg.AssetKey, name: str, outcome_of_check: CheckOutcome, requests: int | None = None
) -> dg.AssetCheckResult:
    requested = {} if requests is None else {"api_requests": requests}
    severity = dg.AssetCheckSeverity.WARN if outcome_of_check.outcome == "warning" else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=outcome_of_check.outcome == "passed",
        severity=severity,
        description=outcome_of_check.found,
        metadata={**outcome_of_check.metadata, **requested},
    )
