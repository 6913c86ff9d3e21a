"""Dagster's storages over sessions that are set as ours are and that may end while they are idle.

Dagster stores times without a zone by the session's `CURRENT_TIMESTAMP`, and reads floats as text. Where it keeps
sessions, it takes one that the server, a proxy or a firewall has ended for a failure of the run.
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
"""Not how backslashes are read: psycopg2 finds that out when it connects, and quotes accordingly from then on."""


class SteadySessions:
    """A mixin for a Postgres storage of Dagster's: engines of our own in place of its own."""

    _engine: sa.Engine
    postgres_url: str

    def __init__(self, postgres_url: str) -> None:
        super().__init__(postgres_url)  # type: ignore[call-arg]  # the storage's own
        self._engine = steady_engine(postgres_url, poolclass=sa.NullPool)

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """Keep a session open, as Dagster does, but ask it for a sign of life before it is used again."""
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
