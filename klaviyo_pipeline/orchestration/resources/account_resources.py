"""The resources of one account, which its assets, checks, jobs and sensors use.

Each key ends with the account's slug, so that definitions of several accounts and of other projects can be merged. The
resources are plain objects, so that the UI displays neither an API key nor a URL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import dagster as dg

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.postgres.write.io_manager import TableIOManager

Execute = Callable[[dg.AssetExecutionContext, Callable[[], Any]], Any]
"""A function that runs an asset: it calls its second argument, which does the asset's work, and returns the result."""


def run_asset(context: dg.AssetExecutionContext, compute: Callable[[], Any]) -> Any:
    """Runs an asset without additional code: the default `Execute`."""
    return compute()


@dataclass(frozen=True, eq=False)
class AccountAccess:
    """The account's API, its warehouse, and the function that runs its assets."""

    klaviyo: KlaviyoResource
    warehouse: Warehouse
    execute: Execute = run_asset


def access_key(account: Account) -> str:
    """The resource key of the account's `AccountAccess`."""
    return f"klaviyo_account__{account.slug}"


def tables_key(account: Account) -> str:
    """The resource key of the account's IO manager."""
    return f"klaviyo_tables__{account.slug}"


def account_resources(account: Account, warehouse: Warehouse, execute: Execute = run_asset) -> dict[str, object]:
    """The resources of one account by key."""
    return {
        access_key(account): AccountAccess(KlaviyoResource(), warehouse, execute),
        tables_key(account): TableIOManager(warehouse),
    }


def access_to(account: Account, resources: object) -> AccountAccess:
    """The account's `AccountAccess` from the `resources` of a context."""
    return cast("AccountAccess", getattr(resources, access_key(account)))
