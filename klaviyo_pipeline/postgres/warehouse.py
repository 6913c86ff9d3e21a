"""The warehouse as a Dagster resource."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.postgres.engine import clear_errors, create_engine, warehouse_url


class Warehouse(dg.ConfigurableResource[None]):
    """The Postgres that holds the tables: a URL from the environment, or else the embedded server."""

    database_url_variable: str = "KLAVIYO_DATABASE_URL"

    def url(self) -> str:
        """The libpq URL; starts the embedded server where none is set."""
        return warehouse_url(os.environ.get(self.database_url_variable))

    @contextmanager
    def engine(self) -> Iterator[sa.Engine]:
        """An engine for one run."""
        url = self.url()
        engine = create_engine(url)
        try:
            with clear_errors(url):
                yield engine
        finally:
            engine.dispose()
