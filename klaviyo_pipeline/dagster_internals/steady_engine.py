"""An engine for Dagster's storage, with the session settings of this project. This module does not import Dagster."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.postgres.server.sessions import ENCODING, SETTINGS, check_encoding

_SETTINGS = {
    "DateStyle": SETTINGS["DateStyle"],
    "TimeZone": SETTINGS["TimeZone"],
    "default_transaction_isolation": "read committed",
    "extra_float_digits": "1",
}
"""`standard_conforming_strings` is not set, because psycopg2 reads it when it connects, and quotes accordingly."""


def steady_engine(url: str, **pool: Any) -> sa.Engine:
    """A psycopg2 engine in autocommit. If the database is not UTF-8, connecting raises `UnfitDatabase`."""
    engine = sa.create_engine(
        url, isolation_level="AUTOCOMMIT", connect_args={"client_encoding": ENCODING, "connect_timeout": 10}, **pool
    )
    sa.event.listen(engine, "connect", _prepared)
    return engine


def _prepared(driver: Any, _: object) -> None:
    check_encoding(driver.get_parameter_status("server_encoding"), driver.info.dbname)
    with driver.cursor() as cursor:
        cursor.execute("; ".join(f"SET {name} TO '{value}'" for name, value in _SETTINGS.items()))
