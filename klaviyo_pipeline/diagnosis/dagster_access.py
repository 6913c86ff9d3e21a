"""Whether Dagster's instance can be opened, and where it keeps its runs."""

from __future__ import annotations

import os

import sqlalchemy as sa
from dagster import DagsterInstance

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.dagster_internals.steady_storage import steady_engine
from klaviyo_pipeline.dagster_internals.storage import (
    OWN_URL,
    WAREHOUSE_URL,
    found_storage_url,
    home,
    use_project_instance,
)
from klaviyo_pipeline.diagnosis.findings import Finding, failed, ok, warning
from klaviyo_pipeline.postgres.engine import create_engine

CHECK = "Dagster instance"

_MAY_MAKE = sa.text("""
SELECT rolcreatedb OR rolsuper OR has_database_privilege(current_database(), 'CREATE')
FROM pg_roles
WHERE rolname = current_user
""")


def check_dagster() -> list[Finding]:
    """Open the instance, unless that would be what makes it. Raises whatever keeps it from being opened."""
    if home() != PROJECT_ROOT:
        return [ok(CHECK, _opened(f"DAGSTER_HOME={home()}"))]
    url = found_storage_url()
    if url is None:
        return [_to_be_made()]
    where = _place(url)
    if _sessions_are_shared(url):
        return [
            warning(
                CHECK,
                f"{where} is a pooler in transaction mode: what the web server sets for its session, such as its "
                "statement_timeout, befalls the daemon and the runs",
                f"set {OWN_URL} to the server itself",
            )
        ]
    if not _has_tables(url):
        return [ok(CHECK, f"empty yet, at {where}; the first run makes its tables")]
    return [ok(CHECK, _opened(where))]


def _to_be_made() -> Finding:
    """The embedded server lets us make anything; another one may not."""
    warehouse = os.environ.get(WAREHOUSE_URL, "").strip()
    if warehouse and not _may_make(warehouse):
        return failed(
            CHECK,
            "none yet, and the role may create neither a database nor a schema for it",
            f"set {OWN_URL} to a database where it may",
        )
    return ok(CHECK, "none yet; the first run makes its database")


def _may_make(warehouse: str) -> bool:
    engine = create_engine(warehouse)
    try:
        with engine.connect() as connection:
            return bool(connection.execute(_MAY_MAKE).scalar())
    finally:
        engine.dispose()


def _opened(where: str) -> str:
    use_project_instance()
    with DagsterInstance.get() as instance:
        kind = type(instance.run_storage).__name__
        return f"{kind} at {where}, {instance.get_runs_count()} runs"


def _has_tables(url: str) -> bool:
    engine = steady_engine(url)
    try:
        with engine.connect() as connection:
            return sa.inspect(connection).has_table("runs")
    finally:
        engine.dispose()


def _sessions_are_shared(url: str) -> bool:
    """Whether two connections that are both open are one session of the server; one that is busy may hide it."""
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
