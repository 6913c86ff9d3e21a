"""Dagster's Postgres storages, with our session settings, and with sessions that may end while they are idle.

The settings matter because Dagster stores the session's `CURRENT_TIMESTAMP` without a time zone, and reads floats as
text. If the server, a proxy or a firewall ends an idle session, these storages open another one. Dagster's own storages
would fail the run.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import sqlalchemy as sa
from dagster._core.storage.event_log.schema import AssetKeyTable

from klaviyo_pipeline.config.extras import naming_extra
from klaviyo_pipeline.dagster_internals.steady_engine import steady_engine
from klaviyo_pipeline.postgres.server.sessions import ping_when_in_doubt

with naming_extra("Dagster's storage in Postgres"):
    from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage
    from dagster_postgres.utils import set_pg_statement_timeout


def kept_session(url: str) -> sa.Engine:
    """An engine that keeps one session open between uses, and opens another one only while the first is in use.

    By default, Dagster opens a session for each event of a run, which takes a fifth of a step's processor time.
    """
    engine = steady_engine(url, pool_size=1, max_overflow=-1)
    ping_when_in_doubt(engine)
    return engine


class SteadySessions:
    """A mixin that replaces the engine of Dagster's Postgres storages. All storages of a process share one engine."""

    _engine: sa.Engine
    postgres_url: str

    def __init__(self, engine: sa.Engine, *, create_tables: bool) -> None:
        url = engine.url.render_as_string(hide_password=False)
        super().__init__(url, should_autocreate_tables=create_tables)  # type: ignore[call-arg]  # the storage's own
        self._engine = engine

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """Use a separate engine, with a timeout for each statement, as Dagster's own storages do in the web server."""
        self._engine = steady_engine(
            self.postgres_url, pool_size=1, pool_recycle=pool_recycle, max_overflow=max_overflow
        )
        ping_when_in_doubt(self._engine)

        def limit(driver: Any, _: object) -> None:
            set_pg_statement_timeout(driver, statement_timeout)

        sa.event.listen(self._engine, "connect", limit)

    def dispose(self) -> None:
        super().dispose()  # type: ignore[misc]  # the storage's own
        self._engine.dispose()


class SteadyRunStorage(SteadySessions, PostgresRunStorage):
    """Dagster's runs. This class looks up the columns of the table once. Dagster itself does so in each run."""

    @cached_property
    def _has_times(self) -> bool:
        return super().has_run_stats_index_cols()

    @cached_property
    def _has_backfill_id(self) -> bool:
        return super().has_backfill_id_column()

    def has_run_stats_index_cols(self) -> bool:
        return self._has_times

    def has_backfill_id_column(self) -> bool:
        return self._has_backfill_id


class SteadyScheduleStorage(SteadySessions, PostgresScheduleStorage):
    """Dagster's schedules and sensors."""


class SteadyEventLogStorage(SteadySessions, PostgresEventLogStorage):
    """Dagster's event log. It reads only once which tables exist, and which columns the table of assets has.

    Dagster reads these columns several times for each asset.
    """

    @cached_property
    def _existing(self) -> set[str]:
        return set()

    def has_table(self, table_name: str) -> bool:
        if table_name not in self._existing and super().has_table(table_name):
            self._existing.add(table_name)
        return table_name in self._existing

    @cached_property
    def _asset_columns(self) -> set[str]:
        with self.index_connection() as connection:
            return {column["name"] for column in sa.inspect(connection).get_columns(AssetKeyTable.name)}

    def has_asset_key_col(self, column_name: str) -> bool:
        return column_name in self._asset_columns
