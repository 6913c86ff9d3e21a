"""A diagnosis of an installation, and the state of its database."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg

from klaviyo_pipeline.config.settings import SQL_DIR, Account
from klaviyo_pipeline.diagnosis.doctor import examine, system_clock
from klaviyo_pipeline.diagnosis.findings import Finding
from klaviyo_pipeline.postgres.account_binding import bind_schema
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.schema.migrations import migrate

NOBODY = "postgresql://me:hush-hush@127.0.0.1:1/db"

Set = Callable[..., None]


def diagnose(ahead: timedelta = timedelta()) -> dict[str, Finding]:
    """The findings by check, on a machine whose clock is ahead by this much."""
    return {finding.check: finding for finding in examine(os.environ, lambda: system_clock() + ahead)}


def checks_not_ok() -> set[str]:
    """The checks that are not ok, including the skipped ones."""
    return {check for check, finding in diagnose().items() if finding.verdict != "ok"}


def sync_before(database: str, account_id: str = "SHOP01") -> None:
    """Prepare the schema like a sync of this account does."""
    migrate(database, "shop", SQL_DIR)
    engine = create_engine(database)
    account = Account(slug="shop", timezone="America/New_York")
    with engine.begin() as connection:
        bind_schema(
            connection,
            account,
            account_id=account_id,
            timezone=account.timezone,
            currency=None,
            verified_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    engine.dispose()


def query_rows(database: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(query.encode()).fetchall()
