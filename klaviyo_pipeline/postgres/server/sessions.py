"""The settings of each session, whatever the defaults of the server, the database, the role or the environment.

Session settings change what is stored: in another encoding, letters are different; in another time zone, local times
are. This module sets the parameters that Postgres reports to the client (encoding, date and interval style, time zone,
the meaning of backslashes), once per connection and only if they differ: a pooler in transaction mode keeps these for
each of its clients. The code relies on no other session setting: queries name the schema, numbers are `numeric`, and a
transaction sets its own isolation level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

CONNECT_TIMEOUT_SECONDS = 10
ENCODING = "UTF8"

SETTINGS = {
    "client_encoding": ENCODING,
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
}
"""By the spelling of the name under which Postgres reports the value."""


class UnfitDatabase(RuntimeError):
    """The database is not UTF-8; one line that names it and the remedy."""


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection in autocommit without prepared statements. Raises `UnfitDatabase` and psycopg's `OperationalError`.

    A pooler in transaction mode may run each transaction in another session, which lacks the prepared statements.
    """
    connection = psycopg.connect(
        url,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        client_encoding=ENCODING,
        application_name="klaviyo_pipeline",
    )
    try:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Set the parameters that differ; the connection must be in autocommit. Raises `UnfitDatabase`."""
    check_encoding(connection.info.parameter_status("server_encoding"), connection.info.dbname)
    statements = differing(connection.info.parameter_status)
    if statements:
        connection.execute(statements.encode())


def check_encoding(encoding: str | None, database: str) -> None:
    """Raise `UnfitDatabase` unless the database's encoding, as the server reports it, is UTF-8."""
    if encoding != ENCODING:
        raise UnfitDatabase(
            f"Database {database!r} has the encoding {encoding}, which cannot store every character. Create one "
            f"with CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8', and point the URL to it."
        )


def differing(reported: Callable[[str], str | None]) -> str:
    """The statements that set the parameters whose reported value differs; empty if none does."""
    return "; ".join(f"SET {name} TO '{value}'" for name, value in SETTINGS.items() if reported(name) != value)
