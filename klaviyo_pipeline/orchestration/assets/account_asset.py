"""The decorator of an account's assets: `dg.asset` with the key, the group and the resources of the account."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.orchestration.resources.account_resources import AccountAccess, access_key, access_to, tables_key
from klaviyo_pipeline.postgres.write.io_manager import PARTITION_EXPR, REPLACE_WINDOWS, SCHEMA, TABLE
from klaviyo_pipeline.windows import WindowPlan

BEFORE_CHECKS = {"dagster/priority": "1"}
"""Tags of an asset's step: in a run of several assets, assets start before checks."""

NOTHING_IN_PROGRESS = ~dg.AutomationCondition.in_progress() & ~dg.AutomationCondition.any_deps_in_progress()
"""Neither the asset nor its dependencies are being materialized. All accounts share this one condition."""

Body = Callable[[dg.AssetExecutionContext, AccountAccess], Any]

# Dagster reads the signature of each asset about seventeen times. All assets share this one, because computing it takes
# long with many accounts.
_CONTEXT = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=dg.AssetExecutionContext)
_SIGNATURE = inspect.Signature([_CONTEXT])


def windowed_asset(
    account: Account, name: str, plan: WindowPlan, *, column: str, replaced: bool = True, **options: Any
) -> Callable[[Body], dg.AssetsDefinition]:
    """Like `account_asset`, with the windows of `plan` as partitions. One run syncs a whole range of windows.

    The values of `column` assign the rows of the table to windows. If `replaced`, the rows of a window are replaced as
    a whole.
    """
    return account_asset(
        account,
        name,
        partitions_def=plan.definition,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata={PARTITION_EXPR: column} | ({REPLACE_WINDOWS: True} if replaced else {}),
        **options,
    )


def account_asset(
    account: Account, name: str, *, metadata: Mapping[str, Any] = {}, table: str | None = None, **options: Any
) -> Callable[[Body], dg.AssetsDefinition]:
    """Makes an asset from a function, which gets the run's context and the account's `AccountAccess`.

    `table` is the name of the asset's table in the account's schema. By default it is the asset's name; an empty
    string means that the asset has no table. `options` are those of `dg.asset`.
    """
    table = name if table is None else table
    stored = {SCHEMA: account.slug, TABLE: table, "dagster/table_name": f"{account.slug}.{table}"} if table else {}

    def decorate(body: Body) -> dg.AssetsDefinition:
        def run(context: dg.AssetExecutionContext) -> Any:
            access = access_to(account, context.resources)
            return access.execute(context, lambda: body(context, access))

        vars(run).update(__signature__=_SIGNATURE, __wrapped__=body)
        asset: dg.AssetsDefinition = dg.asset(
            key=account.asset_key(name),
            group_name=account.group or account.slug,
            io_manager_key=tables_key(account),
            required_resource_keys={access_key(account)},
            metadata={**stored, **metadata},
            op_tags=BEFORE_CHECKS,
            **options,
        )(run)
        return asset

    return decorate
