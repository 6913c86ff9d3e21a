"""Syncs several accounts concurrently. An account that is slow or fails does not affect the other accounts.

Each account has a thread, which plans and waits, and a share of the worker processes, which run its assets.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from dagster import DagsterInstance

from klaviyo_pipeline.config.accounts import errors_in_terms_of
from klaviyo_pipeline.config.settings import SQL_DIR, Account
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import api_key, stop_sessions
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.engine import clear_errors, reason
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.sync.account_sync import Sync
from klaviyo_pipeline.sync.asset_runs import AssetResult, ProgressCallback
from klaviyo_pipeline.sync.instance_state import align_with_ledger, prepare_instance

WORKERS = 8
"""The most worker processes at once, and therefore the most accounts. A worker takes about 80 MB of memory."""


@dataclass
class SyncedAccount:
    """The result of one account's sync. `error` is one line that says why the sync did not start or ended early."""

    account: Account
    results: list[AssetResult] = field(default_factory=list)
    error: str | None = None


def sync_accounts(
    requested: Sequence[tuple[Account, SyncRequest]], on_progress: ProgressCallback
) -> list[SyncedAccount]:
    """Migrate and sync each account. Return one result for each account, in the given order.

    Every progress line begins with the slug of its account.
    """
    if not requested:
        return []
    at_once = min(len(requested), WORKERS)
    with (
        DagsterInstance.get() as instance,
        ThreadPoolExecutor(at_once, thread_name_prefix="account") as pool,
    ):
        prepare_instance(instance, [account for account, _ in requested])
        futures = [
            pool.submit(_sync, instance, account, request, WORKERS // at_once, on_progress)
            for account, request in requested
        ]
        try:
            for future in as_completed(futures):
                # Only this thread aligns partitions with the ledger, so that the instance needs a single session.
                _align(instance, future.result(), on_progress)
        except BaseException:
            # Accounts that have not started are cancelled. `stop_sessions` ends the threads of the started ones.
            pool.shutdown(wait=False, cancel_futures=True)
            stop_sessions()
            raise
    return [future.result() for future in futures]


def _sync(
    instance: DagsterInstance, account: Account, request: SyncRequest, workers: int, on_progress: ProgressCallback
) -> SyncedAccount:
    warehouse = Warehouse.of([account])

    report_for_account = _for_account(account, on_progress)
    try:
        with errors_in_terms_of(account):
            api_key(account.api_key_variable)
            url = warehouse.url(account.slug)
            with clear_errors(url):
                migrate(url, account.slug, SQL_DIR)
            return SyncedAccount(account, Sync(account, warehouse, report_for_account, workers).sync(instance, request))
    except Exception as error:
        report_for_account(f"failed: {reason(error)}")
        return SyncedAccount(account, error=reason(error))


def _align(instance: DagsterInstance, synced: SyncedAccount, on_progress: ProgressCallback) -> None:
    if synced.error is None:
        account = synced.account
        align_with_ledger(instance, account, Warehouse.of([account]), _for_account(account, on_progress))


def _for_account(account: Account, on_progress: ProgressCallback) -> ProgressCallback:
    return lambda line: on_progress(f"{account.slug}: {line}")
