"""A throw-away migrated schema: migrated once, then copied for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline_tests.postgres.store import SLUG, Store
from klaviyo_pipeline_tests.support import throw_away_database


@pytest.fixture(scope="session")
def store_template(postgres_server: str) -> Iterator[str]:
    """URL of a database to copy, whose schema `SLUG` is migrated."""
    with throw_away_database(postgres_server) as url:
        migrate(url, SLUG, SQL_DIR)
        yield url


@contextmanager
def store_on(server: str, template: str) -> Iterator[Store]:
    """A copy of the migrated database."""
    with throw_away_database(server, template) as url:
        engine = create_engine(url)
        yield Store(url, engine)
        engine.dispose()


@pytest.fixture
def store(postgres_server: str, store_template: str) -> Iterator[Store]:
    """A copy of the migrated database that only this test uses."""
    with store_on(postgres_server, store_template) as store:
        yield store
