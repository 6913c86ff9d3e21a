"""Checks that Dagster's instance can be opened. Corrects its partitions if they differ from the ledger."""

from __future__ import annotations

import os

import sqlalchemy as sa
from dagster import DagsterInstance

from klaviyo_pipeline.config.settings import FILES, Account
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.dagster_internals.partition_states import align_partitions
from klaviyo_pipeline.dagster_internals.steady_engine import steady_engine
from klaviyo_pipeline.dagster_internals.storage import home, use_project_instance
from klaviyo_pipeline.dagster_internals.storage_url import OWN_URL, WAREHOUSE_URL, found_storage_url
from klaviyo_pipeline.diagnosis.findings import Finding, failed, ok, warning
from klaviyo_pipeline.maintenance.dead_runs import free_dead_runs
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.warehouse import Warehouse

CHECK, PARTITIONS = "Dagster instance", "Dagster partitions"
PARTITIONS_REMEDY = "no data is affected; fix the problem in the message, and run `klaviyo-pipeline doctor` again"

_MAY_CREATE = sa.text("""
SELECT rolcreatedb OR rolsuper OR has_database_privilege(current_database(), 'CREATE')
FROM pg_roles
WHERE rolname = current_user
""")


def check_dagster() -> list[Finding]:
    """Open the instance, and report the type and place of its run storage. Raises any error that prevents this.

    The project's own instance is not opened if that would create its storage or tables, or if its URL leads to a
    pooler in transaction mode.
    """
    if home() != FILES:
        return [ok(CHECK, _opened(f"DAGSTER_HOME={home()}"))]
    url = found_storage_url()
    if url is None:
        return [_not_created_yet()]
    where = _place(url)
    if _sessions_are_shared(url):
        return [
            warning(
                CHECK,
                f"{where} is a pooler in transaction mode: session settings of the web server, such as its "
                "statement_timeout, also affect the daemon and the runs",
                f"set {OWN_URL} to the URL of the server itself",
            )
        ]
    if not _has_tables(url):
        return [ok(CHECK, f"no tables yet at {where}; the first run creates them")]
    return [ok(CHECK, _opened(where))]


def own_configuration_remedy() -> str | None:
    """The remedy if an instance with its own dagster.yaml cannot be opened. None for the project's own instance, whose
    errors contain the remedy."""
    if home() == FILES:
        return None
    return f"correct {home()}/dagster.yaml, or unset DAGSTER_HOME to use the project's own configuration"


def check_partitions(account: Account) -> list[Finding]:
    """Mark as failed the runs whose process died, and correct the account's partitions in Dagster from the ledger.

    There is no finding if the project's own instance has no tables yet. Raises any error that prevents the comparison.
    """
    if home() == FILES:
        url = found_storage_url()
        if url is None or not _has_tables(url):
            return []
    use_project_instance()
    with DagsterInstance.get() as instance, Warehouse.of([account]).engine(account.slug) as engine:
        dead = free_dead_runs(instance)
        corrections = align_partitions(instance, account, engine)
    ended = f"; {counted(len(dead), 'run')} of dead processes marked as failed" if dead else ""
    if corrections.total:
        return [ok(PARTITIONS, f"{corrections.text}{ended}")]
    return [ok(PARTITIONS, f"the same as the windows of the ledger{ended}")]


def _not_created_yet() -> Finding:
    """The finding if no storage exists: whether the role may create it. On the embedded server the role always may."""
    warehouse = os.environ.get(WAREHOUSE_URL, "").strip()
    if warehouse and not _may_create(warehouse):
        return failed(
            CHECK,
            "no storage yet, and the role may create neither a database nor a schema for it",
            f"set {OWN_URL} to a database in which the role may create tables",
        )
    return ok(CHECK, "no storage yet; the first run creates it")


def _may_create(warehouse: str) -> bool:
    engine = create_engine(warehouse)
    try:
        with engine.connect() as connection:
            return bool(connection.execute(_MAY_CREATE).scalar())
    finally:
        engine.dispose()


def _opened(where: str) -> str:
    use_project_instance()
    with DagsterInstance.get() as instance:
        kind = type(instance.run_storage).__name__
        return f"{kind} at {where}, {counted(instance.get_runs_count(), 'run')}"


def _has_tables(url: str) -> bool:
    engine = steady_engine(url)
    try:
        with engine.connect() as connection:
            return sa.inspect(connection).has_table("runs")
    finally:
        engine.dispose()


def _sessions_are_shared(url: str) -> bool:
    """Whether two open connections share one server session. A busy pooler may use two, so False proves nothing."""
    engine = steady_engine(url)
    backend = sa.text("SELECT pg_backend_pid()")
    try:
        with engine.connect() as one, engine.connect() as another:
            return bool(one.scalar(backend) == another.scalar(backend))
    finally:
        engine.dispose()


def _place(url: str) -> str:
    parsed = sa.engine.make_url(url)
    host = parsed.query.get("host", parsed.host or "localhost")
    port = parsed.query.get("port", parsed.port or 5432)
    schema = ", schema dagster" if "search_path" in str(parsed.query.get("options", "")) else ""
    return f"{host}:{port}/{parsed.database}{schema}"
