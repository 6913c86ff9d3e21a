"""A migrated schema to throw away: migrated once, then copied for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline_tests.postgres.store import SLUG, Store


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> Iterator[str]:
    """Name of a database whose schema `SLUG` is migrated."""
    name = f"template_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
        )
        migrate(urlsplit(postgres_server)._replace(path=f"/{name}").geturl(), SLUG, SQL_DIR)
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def store(postgres_server: str, migrated_template: str) -> Iterator[Store]:
    """A copy of the migrated database that only this test uses."""
    name = f"test_{uuid.uuid4().hex}"
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(migrated_template))
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(copy)
        dsn = urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
        engine = create_engine(dsn)
        yield Store(dsn, engine)
        engine.dispose()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
