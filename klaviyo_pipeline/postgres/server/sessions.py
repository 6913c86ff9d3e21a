"""What each session of ours is set to, whatever the server, the database, the role or the environment says.

A setting of a session changes what is stored: in another encoding letters become others, in another time zone a
moment becomes another local time. What Postgres reports to the client by itself (encoding, date and interval style,
time zone, how backslashes are read) is set here, once per connection and only where it differs: a pooler in
transaction mode keeps these for each of its clients. Nothing else of a session is relied on: queries name the schema,
figures are `numeric`, and a transaction states its own isolation level.
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
"""By Postgres's own spelling of the name, under which it reports the value."""


class UnfitDatabase(RuntimeError):
    """The database cannot hold every letter; one line that names it and the remedy."""


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection in autocommit that prepares no statement. Raises `UnfitDatabase`, and psycopg's `OperationalError`.

    A pooler in transaction mode hands each transaction to another session: nothing may be prepared.
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
    """Set what differs. The connection is in autocommit. Raises `UnfitDatabase`."""
    check_encoding(connection.info.parameter_status("server_encoding"), connection.info.dbname)
    statements = differing(connection.info.parameter_status)
    if statements:
        connection.execute(statements.encode())


def check_encoding(encoding: str | None, database: str) -> None:
    """Raise `UnfitDatabase` unless the database's encoding, as the server reports it, is UTF-8."""
    if encoding != ENCODING:
        raise UnfitDatabase(
            f"Database {database!r} has the encoding {encoding}, which cannot hold every letter of a name. Create one "
            f"with CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8', and point the URL to it."
        )


def differing(reported: Callable[[str], str | None]) -> str:
    """The statements that set what the server reports otherwise; empty where nothing differs."""
    return "; ".join(f"SET {name} TO '{value}'" for name, value in SETTINGS.items() if reported(name) != value)
