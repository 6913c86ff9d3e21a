"""Reads the size on disk of Dagster's tables."""

from __future__ import annotations

import psycopg
import sqlalchemy as sa

from klaviyo_pipeline.config.settings import SettingsError
from klaviyo_pipeline.dagster_internals.steady_engine import steady_engine
from klaviyo_pipeline.dagster_internals.storage_tables import DAGSTER_TABLES
from klaviyo_pipeline.dagster_internals.storage_url import found_storage_url
from klaviyo_pipeline.postgres.table_sizes import table_bytes


def dagster_bytes() -> dict[str, int]:
    """The bytes on disk of each of Dagster's tables.

    Empty if the tables do not exist yet or the storage cannot be reached.
    """
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
