"""The settings of each session, whatever the defaults of the server, the database, the role or the environment.

Session settings change what is stored: with another encoding, letters differ; with another time zone, local times
differ. This module sets the parameters that Postgres reports to the client (encoding, date and interval style, time
zone, the meaning of backslashes), once per connection and only if they differ. A pooler in transaction mode keeps these
parameters for each of its clients. The code relies on no other session setting: queries name the schema, numbers are
`numeric`, and each transaction sets its own isolation level.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable
from typing import Any

import psycopg
import sqlalchemy as sa

CONNECT_TIMEOUT_SECONDS = 10
ENCODING = "UTF8"

SETTINGS = {
    "client_encoding": ENCODING,
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
}
"""The value of each parameter. The names are spelled as Postgres reports them, because libpq compares them exactly."""


class UnfitDatabase(RuntimeError):
    """The database is not UTF-8. The message is one line that names the database and the remedy."""


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection in autocommit without prepared statements. Raises `UnfitDatabase` and psycopg's `OperationalError`.

    A pooler in transaction mode may run each transaction in another session, which would lack prepared statements.
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


_NO_SESSION = re.compile(r"too many (clients|connections)|remaining connection slots")
_NOT_UP = re.compile(r"starting up|shutting down|recovery|closed the connection|terminating connection")
_NOT_OURS = re.compile(r"authentication failed|no password|does not exist|pg_hba\.conf|permission denied")


def connection_remedy(message: str, variable: str) -> str:
    """What to do when connecting failed with this message. `variable` is the setting with the URL.

    libpq returns no code for the cause, so the English words of the message decide. If the server's messages are in
    another language, the general remedy is returned.
    """
    if _NO_SESSION.search(message):
        return "End other sessions, or have an administrator allow more, then run again."
    if _NOT_UP.search(message):
        return "Run again when the server is up."
    if _NOT_OURS.search(message):
        return f"Check user, password and database in {variable}, and the rights of that user."
    return f"Check that the server is up and that {variable} is right."


def check_encoding(encoding: str | None, database: str) -> None:
    """Raise `UnfitDatabase` unless the database's encoding, as the server reports it, is UTF-8."""
    if encoding != ENCODING:
        raise UnfitDatabase(
            f"Database {database!r} has the encoding {encoding}, which cannot store every character. Create one "
            f"with CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8', and point the URL to it."
        )


def differing(reported: Callable[[str], str | None]) -> str:
    """The SQL that sets the parameters whose reported value differs; empty if no value differs."""
    return "; ".join(f"SET {name} TO '{value}'" for name, value in SETTINGS.items() if reported(name) != value)


IDLE_SECONDS = 5.0
"""A session that was idle for longer is always pinged before it is used: a firewall may have dropped it."""


def ping_when_in_doubt(engine: sa.Engine) -> None:
    """Replace sessions that have ended while they were in the engine's pool.

    When a server ends a session, it sends a message, which makes the socket readable. The check of the socket needs no
    round trip, but SQLAlchemy's `pool_pre_ping` would need one for each use of a session.
    """

    def checked_in(driver: Any, record: sa.pool.ConnectionPoolEntry) -> None:
        record.info[CHECKED_IN_AT] = time.monotonic()

    def checked_out(driver: Any, record: sa.pool.ConnectionPoolEntry, _: object) -> None:
        since = record.info.get(CHECKED_IN_AT)
        if since is None or (time.monotonic() - since < IDLE_SECONDS and not _is_readable(driver)):
            return
        try:
            engine.dialect.do_ping(driver)
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.DisconnectionError(str(error)) from error

    sa.event.listen(engine, "checkin", checked_in)
    sa.event.listen(engine, "checkout", checked_out)


def _is_readable(driver: Any) -> bool:
    """Whether the server has sent something, or has closed the socket."""
    if driver.closed:
        return True
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return bool(poll.poll(0))


CHECKED_IN_AT = "checked_in_at"
