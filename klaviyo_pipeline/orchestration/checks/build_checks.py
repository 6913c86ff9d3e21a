"""Builds Dagster's asset checks of one account.

For each asset, the checks that read only Postgres form one step. It runs after the asset in every run that Dagster
launches. `klaviyo-pipeline sync` runs only the blocking checks. `checks_job` runs the checks of all assets in a single
step. Each check that calls Klaviyo's API is a separate step, and a separate job runs these steps. In a run that
materializes assets, such a check yields no result, so that a backfill never spends report quota on checks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.catalog import (
    BREAKDOWNS,
    CENSUSES,
    CONVERSIONS_DAILY,
    ENTITIES,
    FLOW_METRICS,
    FORM_METRICS,
    LISTED_IN_FULL,
    METRICS,
    REPORTS,
    of_account,
    switched_on,
)
from klaviyo_pipeline.config.accounts import in_terms_of
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.partition_states import align_partitions
from klaviyo_pipeline.dagster_internals.signatures import cache_signature
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
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
from klaviyo_pipeline.orchestration.resources.account_resources import access_key, access_to
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.postgres.engine import in_transaction, snapshot
from klaviyo_pipeline.postgres.ledger import Ledger


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
    for listing in (listing_at(account.revision, one) for one in of_account(ENTITIES, account).values()):
        found[listing.entity] = (
            *entity_checks(listing),
            *drift_checks(listing),
            *ledger_checks(hourly=hourly),
            entity_count_check(),
            *((UNSENT_CHECK,) if listing is CAMPAIGNS else ()),
            CLOCK_CHECK,
        )
    for name, listing in of_account(CENSUSES, account).items():
        if listing.entity in ENTITIES:
            found[name] = census_checks(listing)
    for name, listing in of_account(LISTED_IN_FULL, account).items():
        found[name] = (*entity_checks(listing), *drift_checks(listing), *census_checks(listing))
    for spec in of_account(REPORTS, account).values():
        found[spec.name] = (
            *report_checks(spec),
            *report_drift_checks(spec.report),
            *period_checks(spec),
            *ledger_checks(hourly=False),
            report_count_check(),
            CLOCK_CHECK,
        )
    for table in of_account(METRICS, account).values():
        found[table.name] = (
            *metrics_checks(table),
            *(QUIET_CHECKS if table in (FLOW_METRICS, FORM_METRICS) else ()),
            *ledger_checks(hourly=False),
            metrics_count_check(table),
            CLOCK_CHECK,
        )
    if CONVERSIONS_DAILY in switched_on(account.assets):
        found[CONVERSIONS_DAILY] = (
            *conversion_checks.CONVERSION_CHECKS,
            *ledger_checks(hourly=False),
            report_count_check(),
            CLOCK_CHECK,
        )
    return found


def api_checks(account: Account) -> list[ApiCheck]:
    """The checks that call Klaviyo's API."""
    return [
        *(
            ApiCheck(
                listing.entity,
                listing_checks.NAME,
                listing_checks.DESCRIPTION,
                partial(listing_checks.listed_objects_exist, listing=listing),
            )
            for listing in of_account(ENTITIES, account).values()
        ),
        *(
            ApiCheck(
                spec.name,
                reconciliation_checks.NAME,
                reconciliation_checks.DESCRIPTION,
                partial(reconciliation_checks.daily_sums_match_total, spec=spec),
            )
            for name, spec in of_account(REPORTS, account).items()
            # Not the breakdowns: each would cost another request of the daily quota.
            if name not in BREAKDOWNS and spec.period == "day"
        ),
        *(
            ApiCheck(name, conversion_checks.NAME, conversion_checks.DESCRIPTION, conversion_checks.groups_match_total)
            for name in (CONVERSIONS_DAILY,)
            if name in switched_on(account.assets)
        ),
    ]


def api_check_keys(account: Account) -> list[dg.AssetCheckKey]:
    """The keys of the checks that call Klaviyo's API."""
    return [_key(account, check.asset, check.name) for check in api_checks(account)]


def _key(account: Account, asset: str, name: str) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(dg.AssetKey(account.asset_key(asset)), name)


def account_checks(account: Account) -> list[dg.AssetChecksDefinition]:
    """Every check of one account."""
    steps = [_database_step(account, asset, checks) for asset, checks in database_checks(account).items()]
    return steps + [_api_step(account, check) for check in api_checks(account)]


def blocking_checks(account: Account) -> list[dg.AssetChecksDefinition]:
    """The checks that keep downstream assets from running if they end in an error."""
    blocking = {
        asset: [check for check in checks if check.blocking] for asset, checks in database_checks(account).items()
    }
    return [_database_step(account, asset, checks) for asset, checks in blocking.items() if checks]


@contextmanager
def check_context(engine: sa.Engine, account: Account, *assets: str) -> Iterator[CheckContext]:
    """The context of the first of these assets, with one snapshot of the database in a read-only transaction."""
    with snapshot(engine) as connection:
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
        yield CheckContext(connection, account, assets[0], now, assets)


def _database_step(account: Account, asset: str, checks: Sequence[Check]) -> dg.AssetChecksDefinition:
    key = dg.AssetKey(account.asset_key(asset))
    # Not `check`: Dagster before 1.12 would take a local variable of this function for its own module of that name.
    specs = [
        dg.AssetCheckSpec(one.name, asset=key, description=one.description, blocking=one.blocking) for one in checks
    ]

    @dg.multi_asset_check(
        name=f"{account.slug}__{asset}_checks",
        specs=specs,
        can_subset=True,
        required_resource_keys={access_key(account)},
    )
    @cache_signature
    def examined(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        warehouse = access_to(account, context.op_execution_context.resources).warehouse
        selected = {key.name for key in context.op_execution_context.selected_asset_check_keys}
        with warehouse.engine(account.slug) as engine, check_context(engine, account, asset) as ctx:
            for check in checks:
                if check.name in selected:
                    found = check.examine(ctx)
                    if found.lost:
                        record_lost_windows(context.instance, engine, ctx, found)
                    yield _result(account, key, check.name, found)

    return examined


def record_lost_windows(
    instance: dg.DagsterInstance, engine: sa.Engine, ctx: CheckContext, found: CheckOutcome
) -> None:
    """Record the outcome's `lost` windows as failed in the ledger, and correct their partitions in Dagster."""
    ledger = Ledger(ctx.account.slug, ctx.asset)
    in_transaction(
        engine, lambda connection: ledger.record_lost(connection, found.lost, found.found, asked_before=ctx.now)
    )
    align_partitions(instance, ctx.account, engine, [ctx.asset])


def _api_step(account: Account, one: ApiCheck) -> dg.AssetChecksDefinition:
    key = dg.AssetKey(account.asset_key(one.asset))
    run_by = f"`klaviyo-pipeline check --api` and the job {account.slug}_reconcile"
    description = in_terms_of(account, f"{one.description} A sync does not run this check: {run_by} do.")
    spec = dg.AssetCheckSpec(one.name, asset=key, description=description)

    @dg.multi_asset_check(
        name=f"{account.slug}__{one.asset}_{one.name}",
        specs=[spec],
        # This makes the output optional, so that a run that materializes assets can skip the check.
        can_subset=True,
        pool=f"{account.slug}_api",
        required_resource_keys={access_key(account)},
    )
    @cache_signature
    def requested(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        if list(context.job_def.asset_layer.executable_asset_keys):
            context.log.debug(f"API check skipped in a run that materializes assets: run job {account.slug}_reconcile")
            return
        access = access_to(account, context.op_execution_context.resources)
        session_of_check = access.klaviyo.session(account, access.warehouse)
        with session_of_check as session, check_context(session.engine, account, one.asset) as ctx:
            yield _result(account, key, one.name, one.examine(ctx, session), session.count.requests)

    return requested


def _result(
    account: Account, key: dg.AssetKey, name: str, outcome_of_check: CheckOutcome, requests: int | None = None
) -> dg.AssetCheckResult:
    requested = {} if requests is None else {"api_requests": requests}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=outcome_of_check.outcome == "passed",
        severity=severity_of(outcome_of_check),
        description=in_terms_of(account, outcome_of_check.found),
        metadata={**outcome_of_check.metadata, **requested},
    )


def severity_of(outcome_of_check: CheckOutcome) -> dg.AssetCheckSeverity:
    """Dagster's severity of an outcome."""
    return dg.AssetCheckSeverity.WARN if outcome_of_check.outcome == "warning" else dg.AssetCheckSeverity.ERROR
