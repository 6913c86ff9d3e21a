"""Imports the modules that runs need into a process, before other processes are forked from it.

Dagster, httpx and the database drivers import half of their modules only when they are first used. Therefore `rehearse`
also executes a run of an empty asset in memory, and creates an HTTP client that sends nothing.
"""

import contextlib
from importlib import import_module


def rehearse() -> None:
    """Import every module that a run needs, also those that libraries import only when they are used."""
    import dagster as dg
    import httpx

    from klaviyo_pipeline.config.settings import Account
    from klaviyo_pipeline.klaviyo.sender import tls_context
    from klaviyo_pipeline.orchestration.build import sync_defs
    from klaviyo_pipeline.orchestration.jobs import SILENT
    from klaviyo_pipeline.postgres.warehouse import Warehouse

    import_module("psycopg2.extras")  # Dagster's driver

    @dg.asset
    def nothing() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        definitions = dg.Definitions(assets=[nothing], executor=dg.in_process_executor)
        job = definitions.resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=instance, run_config=SILENT)
    sync_defs(Account(), Warehouse()).resolve_implicit_global_asset_job_def()
    # If the environment names a file of certificates that does not exist, the first request reports the error.
    with contextlib.suppress(OSError):
        httpx.Client(verify=tls_context(True)).close()
