"""How much room an account's schema and Dagster's storage take on disk."""

from __future__ import annotations

import psycopg
import sqlalchemy as sa

from klaviyo_pipeline.config.settings import SettingsError
from klaviyo_pipeline.dagster_internals.steady_storage import steady_engine
from klaviyo_pipeline.dagster_internals.storage import found_storage_url
from klaviyo_pipeline.dagster_internals.storage_tables import DAGSTER_TABLES
from klaviyo_pipeline.postgres.table_sizes import table_bytes


def dagster_bytes() -> dict[str, int]:
    """Bytes on disk of each of Dagster's tables; empty before the first run, and out of reach."""
    try:
        url = found_storage_url()
        if url is None:
            return {}
        engine = steady_engine(url)
        try:
            with engine.connect() as connection:
                return table_bytes(connection, None, DAGSTER_TABLES)
        finally:
            engine.dispose()
    except (SettingsError, sa.exc.OperationalError, psycopg.OperationalError):
        return {}
