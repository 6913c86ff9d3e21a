"""Dagster's Postgres storages, with our session settings, and with sessions that may end while they are idle.

The settings matter because Dagster stores the session's `CURRENT_TIMESTAMP` without a time zone, and reads floats as
text. If Dagster keeps a session open, and the server, a proxy or a firewall ends it, the run fails.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage
from dagster_postgres.utils import set_pg_statement_timeout

from klaviyo_pipeline.postgres.server.sessions import ENCODING, SETTINGS, check_encoding

_SETTINGS = {
    "DateStyle": SETTINGS["DateStyle"],
    "TimeZone": SETTINGS["TimeZone"],
    "default_transaction_isolation": "read committed",
    "extra_float_digits": "1",
}
"""`standard_conforming_strings` is not set: psycopg2 reads it when it connects, and quotes accordingly."""


class SteadySessions:
    """A mixin for Dagster's Postgres storages that replaces their engine by one of `steady_engine`."""

    _engine: sa.Engine
    postgres_url: str

    def __init__(self, postgres_url: str) -> None:
        super().__init__(postgres_url)  # type: ignore[call-arg]  # the storage's own
        self._engine = steady_engine(postgres_url, poolclass=sa.NullPool)

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """Keep a session open, as Dagster does, but ping it before it is used again."""
        self._engine = steady_engine(
            self.postgres_url, pool_size=1, pool_recycle=pool_recycle, max_overflow=max_overflow, pool_pre_ping=True
        )

        def limit(driver: Any, _: object) -> None:
            set_pg_statement_timeout(driver, statement_timeout)

        sa.event.listen(self._engine, "connect", limit)


class SteadyRunStorage(SteadySessions, PostgresRunStorage):
    """Dagster's runs."""


class SteadyScheduleStorage(SteadySessions, PostgresScheduleStorage):
    """Dagster's schedules and sensors."""


class SteadyEventLogStorage(SteadySessions, PostgresEventLogStorage):
    """Dagster's event log."""


def steady_engine(url: str, **pool: Any) -> sa.Engine:
    """An engine over psycopg2, in autocommit, for a SQLAlchemy URL. Connecting raises `UnfitDatabase`."""
    engine = sa.create_engine(
        url, isolation_level="AUTOCOMMIT", connect_args={"client_encoding": ENCODING, "connect_timeout": 10}, **pool
    )
    sa.event.listen(engine, "connect", _prepared)
    return engine


def _prepared(driver: Any, _: object) -> None:
    check_encoding(driver.get_parameter_status("server_encoding"), driver.info.dbname)
    with driver.cursor() as cursor:
        cursor.execute("; ".join(f"SET {name} TO '{value}'" for name, value in _SETTINGS.items()))
