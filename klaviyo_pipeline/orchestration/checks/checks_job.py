"""The job that runs every check of an account that reads only Postgres, in one step.

A separate step for each asset would cost more than the queries: Dagster records the plan, start and end of every step.
"""

from collections.abc import Iterator, Mapping

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.config.accounts import in_terms_of
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.check_events import CheckEvent, check_targets, recorded
from klaviyo_pipeline.orchestration.checks.build_checks import (
    check_context,
    database_checks,
    record_lost_windows,
    severity_of,
)
from klaviyo_pipeline.orchestration.checks.check import Check, CheckOutcome
from klaviyo_pipeline.orchestration.resources.account_resources import access_key, access_to
from klaviyo_pipeline.postgres.engine import reason


class ChecksBroken(RuntimeError):
    """Some checks could not run. The results of the other checks are recorded."""


def checks_job(account: Account, tags: Mapping[str, str], executor: dg.ExecutorDefinition | None) -> dg.JobDefinition:
    """The job `<slug>_checks`. Without an `executor`, it uses the executor of the definitions that contain it."""

    @dg.op(
        name=f"{account.slug}__checks",
        description="Runs every check that reads only Postgres.",
        out=dg.Out(dg.Nothing),
        required_resource_keys={access_key(account)},
    )
    def examined(context: dg.OpExecutionContext) -> Iterator[CheckEvent | dg.Output[None]]:
        warehouse = access_to(account, context.resources).warehouse
        broken: list[str] = []
        targets = check_targets(context.instance, (_key(account, asset) for asset in database_checks(account)))
        with warehouse.engine(account.slug) as engine:
            evaluations = [
                dg.AssetCheckEvaluation(
                    asset_key=_key(account, asset),
                    check_name=check.name,
                    passed=outcome.outcome == "passed",
                    severity=severity_of(outcome),
                    description=in_terms_of(account, outcome.found),
                    metadata=outcome.metadata,
                    blocking=check.blocking,
                    target_materialization_data=targets.get(_key(account, asset)),
                )
                for asset, check, outcome in _examine(context.instance, engine, account, broken)
            ]
        yield from recorded(context, evaluations)
        if broken:
            raise ChecksBroken("; ".join(broken))
        yield dg.Output(None)

    @dg.job(
        name=f"{account.slug}_checks",
        description="Runs every check that reads only Postgres: whether the data is complete, plausible and fresh.",
        tags=tags,
        executor_def=executor,
    )
    def job() -> None:
        examined()

    return job


def _examine(
    instance: dg.DagsterInstance, engine: sa.Engine, account: Account, broken: list[str]
) -> Iterator[tuple[str, Check, CheckOutcome]]:
    """The outcome of each check. All checks read one snapshot of the database, unless a check cannot run.

    An error in a check ends the snapshot and the checks of its asset, and adds a line to `broken`. The next asset
    begins a new snapshot.
    """
    waiting = list(database_checks(account).items())
    while waiting:
        with check_context(engine, account, *(asset for asset, _ in waiting)) as ctx:
            while waiting:
                asset, checks = waiting.pop(0)
                try:
                    for check in checks:
                        outcome = check.examine(ctx.of(asset))
                        if outcome.lost:
                            record_lost_windows(instance, engine, ctx.of(asset), outcome)
                        yield asset, check, outcome
                except Exception as error:
                    broken.append(f"{asset}: {reason(error)}")
                    break


def _key(account: Account, asset: str) -> dg.AssetKey:
    return dg.AssetKey(account.asset_key(asset))
