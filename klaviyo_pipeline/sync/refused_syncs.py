"""Records why a sync could not start: in a failed run of Dagster, and in the ledger.

Without these records, `status`, the sensors and the alerts would not show the failure.
"""

from __future__ import annotations

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterInstance

from klaviyo_pipeline.catalog import CENSUSES
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.errors import KlaviyoError
from klaviyo_pipeline.maintenance.dead_runs import tags_of_this_process
from klaviyo_pipeline.orchestration.jobs import ACCOUNT_TAG, SILENT
from klaviyo_pipeline.planning.planner import Planner, SyncRequest
from klaviyo_pipeline.postgres.account_binding import AccountRefused
from klaviyo_pipeline.postgres.census_runs import CensusRecord
from klaviyo_pipeline.postgres.engine import database_now, in_transaction, reason
from klaviyo_pipeline.postgres.ledger import Ledger
from klaviyo_pipeline.postgres.warehouse import Warehouse


def record_refusal(account: Account, warehouse: Warehouse, request: SyncRequest, error: Exception) -> None:
    """Record why this sync could not start, in Dagster and in the ledger.

    For an `AccountRefused` error, the schema is not changed, because it may belong to another account.
    """
    with DagsterInstance.get() as instance:
        run_id = _failed_run(instance, account, error)
    if isinstance(error, AccountRefused):
        return

    def record(connection: sa.Connection) -> None:
        now = database_now(connection)
        planner = Planner(account, now)
        for asset in request.assets:
            if asset not in CENSUSES:
                windows = [window for each in planner.windows(connection, asset, request) for window in each]
                Ledger(account.slug, asset).record_failed(
                    connection, windows, run_id=run_id, started_at=now, error=reason(error)
                )
            elif planner.census_is_due(connection, asset, request):
                census = CensusRecord(account.slug, CENSUSES[asset].entity)
                census.failed(connection, began=now, run_id=run_id, error=reason(error))

    with warehouse.engine(account.slug) as engine:
        in_transaction(engine, record)


def _failed_run(instance: DagsterInstance, account: Account, error: Exception) -> str:
    """Execute a run that fails with this error, and return its id."""

    @dg.op(name=f"{account.slug}_open_session")
    def open_session() -> None:
        raise dg.Failure(reason(error)) from error

    @dg.job(name=f"{account.slug}_sync", executor_def=dg.in_process_executor)
    def sync() -> None:
        open_session()

    return sync.execute_in_process(
        instance=instance,
        tags={ACCOUNT_TAG: account.slug, **tags_of_this_process()},
        run_config=SILENT,
        raise_on_error=False,
    ).run_id


REFUSALS = (KlaviyoError, AccountRefused)
"""The errors that prevent a whole sync from starting."""
