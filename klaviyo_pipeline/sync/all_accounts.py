"""A sync of many accounts, side by side: what delays or fails one is no matter of the others.

Each account has a thread that plans and waits, and its share of the worker processes. A thread runs no asset.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from klaviyo_pipeline.config.accounts import errors_in_terms_of
from klaviyo_pipeline.config.settings import SQL_DIR, Account
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import api_key, stop_sessions
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.engine import clear_errors, reason
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.sync.account_sync import Sync
from klaviyo_pipeline.sync.asset_runs import AssetResult, ProgressCallback
from klaviyo_pipeline.sync.stale_runs import prepare_instance

WORKERS = 8
"""Processes of all accounts together, of some 80 MB each; so many accounts are synced at once."""


@dataclass
class SyncedAccount:
    """What a sync of one account came to. `error` is one line: what kept it from beginning."""

    account: Account
    results: list[AssetResult] = field(default_factory=list)
    error: str | None = None


def sync_accounts(
    requested: Sequence[tuple[Account, SyncRequest]], on_progress: ProgressCallback
) -> list[SyncedAccount]:
    """Migrate and sync each account; one result for each, in the order given. Lines told begin with the slug."""
    if not requested:
        return []
    prepare_instance([account for account, _ in requested])
    at_once = min(len(requested), WORKERS)
    with ThreadPoolExecutor(at_once, thread_name_prefix="account") as pool:
        begun = [
            pool.submit(_sync, account, request, WORKERS // at_once, on_progress) for account, request in requested
        ]
        try:
            return [one.result() for one in begun]
        except BaseException:
            # The threads end by themselves once they see that they are told to stop; those that wait never begin.
            pool.shutdown(wait=False, cancel_futures=True)
            stop_sessions()
            raise


def _sync(account: Account, request: SyncRequest, workers: int, on_progress: ProgressCallback) -> SyncedAccount:
    warehouse = Warehouse.of([account])

    def report_for_account(line: str) -> None:
        on_progress(f"{account.slug}: {line}")

    try:
        with errors_in_terms_of(account):
            api_key(account.api_key_variable)
            url = warehouse.url(account.slug)
            with clear_errors(url):
                migrate(url, account.slug, SQL_DIR)
            return SyncedAccount(account, Sync(account, warehouse, report_for_account, workers).sync(request))
    except Exception as error:
        report_for_account(f"failed: {reason(error)}")
        return SyncedAccount(account, error=reason(error))
