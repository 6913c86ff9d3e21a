"""Connections to the warehouse.

Users set a libpq URL (`postgresql://…`); the driver is always psycopg 3. A pooler in transaction mode may run each
transaction in another session. The code therefore uses no prepared statements and no session locks, and relies only on
session settings that such a pooler keeps for each client (see `server/sessions.py`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson
import psycopg
import sqlalchemy as sa
from psycopg.types.json import set_json_dumps

from klaviyo_pipeline.klaviyo.errors import KlaviyoError
from klaviyo_pipeline.postgres.schema.tables import NotMigrated
from klaviyo_pipeline.postgres.server.embedded import project_server
from klaviyo_pipeline.postgres.server.sessions import (
    CONNECT_TIMEOUT_SECONDS,
    ENCODING,
    connection_remedy,
    ping_when_in_doubt,
    prepare,
)

POOL_SIZE = 3
"""The most sessions that a process opens for one URL: one to write, the others to reserve request slots and to read."""

PERMANENT = "Running again fails in the same way until the cause is fixed."

RETRY_PAUSES = (0.5, 2.0, 5.0)
"""The pauses before attempts 2, 3 and 4, in seconds. In this time, a server can restart."""

# After these SQLSTATEs, a second attempt at the transaction may succeed: the server was shut down, crashed or is
# starting up; the transaction could not be serialized; or it was the victim of a deadlock.
TRANSIENT_STATES = frozenset({"57P01", "57P02", "57P03", "40001", "40P01"})
CONNECTION_CLASS = "08"
"""The first two digits of the SQLSTATE of connection errors. They are transient too."""

RESOURCES_CLASS = "53"
"""The first two digits of the SQLSTATE of errors such as a full disk. Postgres's hint says what to do about them."""

Result = TypeVar("Result")


class DatabaseUnreachable(RuntimeError):
    """The warehouse cannot be reached or refuses the role. The message is one line, without the password."""


NOT_MIGRATED = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)


class RightsMissing(RuntimeError):
    """The role lacks a right on a table or schema, or cannot write at all.

    The message is one line. It names the command that reports the reason and the remedy.
    """


def json_text(value: object) -> bytes:
    """Encode a value as JSON for a jsonb column.

    orjson keeps Decimals exact, but refuses integers of more than 64 bits. A value with such an integer is encoded by
    Python's `json`, with Decimals as floats.
    """
    try:
        return orjson.dumps(value, default=_exact)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=float).encode()


def _exact(value: object) -> orjson.Fragment:
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} cannot be stored as JSON")
    return orjson.Fragment(str(value))


set_json_dumps(json_text)


def warehouse_url(database_url: str | None) -> str:
    """The warehouse's libpq URL: the given one, or that of the embedded server, which this call starts."""
    if database_url:
        return database_url
    return project_server().start()


def create_engine(url: str) -> sa.Engine:
    """Return a psycopg 3 engine for a libpq URL. Connecting raises `UnfitDatabase` if the database is not UTF-8."""
    engine = sa.create_engine(
        sa.engine.make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={
            "prepare_threshold": None,
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "klaviyo_pipeline",
            "client_encoding": ENCODING,
        },
        # The write path relies on this level. Each BEGIN sets it, because the database or the role may have another
        # default.
        isolation_level="READ COMMITTED",
        pool_size=POOL_SIZE,
        max_overflow=0,
        json_serializer=lambda value: json_text(value).decode(),
    )
    # `insert` puts the listener before SQLAlchemy's own listeners, which query the new session.
    sa.event.listen(engine, "connect", _prepared, insert=True)
    ping_when_in_doubt(engine)
    return engine


DEFAULT_ISOLATION = "default_isolation"
"""The key in `Connection.info` of the session's default isolation level, which applies to statements in autocommit."""


def _prepared(driver: psycopg.Connection[Any], record: sa.pool.ConnectionPoolEntry) -> None:
    driver.autocommit = True
    prepare(driver)
    [record.info[DEFAULT_ISOLATION]] = driver.execute("SHOW default_transaction_isolation").fetchall()[0]
    driver.autocommit = False


_shared: dict[str, tuple[sa.Engine, int]] = {}
_shared_lock = threading.Lock()


@contextmanager
def shared_engine(url: str) -> Iterator[sa.Engine]:
    """Yield the process's engine for this URL. Blocks that are open at the same time share it; the last disposes of it.

    A run opens an engine in several nested places. With a separate engine in each, it would open too many sessions.
    """
    with _shared_lock:
        engine, users = _shared.get(url) or (create_engine(url), 0)
        _shared[url] = engine, users + 1
    try:
        yield engine
    finally:
        with _shared_lock:
            engine, users = _shared.pop(url)
            if users > 1:
                _shared[url] = engine, users - 1
        if users == 1:
            engine.dispose()


@contextmanager
def clear_errors(url: str) -> Iterator[None]:
    """Translate errors about the connection, missing tables and missing rights into errors with a one-line message."""
    try:
        yield
    except (sa.exc.OperationalError, psycopg.OperationalError) as error:
        cause = error.orig if isinstance(error, sa.exc.OperationalError) else error
        if not isinstance(cause, psycopg.OperationalError) or getattr(cause, "sqlstate", None):
            raise
        raise DatabaseUnreachable(_unreachable(url, str(cause))) from None
    except sa.exc.ProgrammingError as error:
        if isinstance(error.orig, NOT_MIGRATED):
            raise NotMigrated(
                f"{error.orig.diag.message_primary}: the schema is not migrated; run `klaviyo-pipeline migrate`."
            ) from error
        if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise RightsMissing(
                f"Postgres: {error.orig.diag.message_primary}. `klaviyo-pipeline doctor` names the owner and the grant."
            ) from error
        raise
    except (sa.exc.InternalError, psycopg.errors.ReadOnlySqlTransaction) as error:
        read_only = error.orig if isinstance(error, sa.exc.InternalError) else error
        if not isinstance(read_only, psycopg.errors.ReadOnlySqlTransaction):
            raise
        raise RightsMissing(
            f"Postgres: {read_only.diag.message_primary}. `klaviyo-pipeline doctor` says why, and what to do."
        ) from error


def database_now(connection: sa.Connection) -> datetime:
    """The current time by the database's clock, in UTC. Unlike `now()`, it advances within a transaction."""
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return now


@contextmanager
def snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection in a read-only transaction that sees one snapshot of the database."""
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**options) as connection:
        yield connection


def in_transaction(engine: sa.Engine, work: Callable[[sa.Connection], Result]) -> Result:
    """Run `work` in one transaction and return its result; retry after a transient error of the database.

    A restarted server, a lost connection and a deadlock are transient: Postgres rolls the whole transaction back.
    `work` must be safe to repeat, even after a commit whose confirmation was lost. Any other error, such as a full
    disk or a statement timeout, is raised at once.
    """
    return _with_retries(engine.begin, work)


def in_statements(engine: sa.Engine, work: Callable[[sa.Connection], Result]) -> Result:
    """Like `in_transaction`, but each statement is its own transaction: this saves two round trips.

    If the session's default isolation level is not READ COMMITTED, all statements run in one transaction instead.
    """
    return _with_retries(lambda: _in_autocommit(engine), work)


@contextmanager
def _in_autocommit(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        if connection.info[DEFAULT_ISOLATION] == "read committed":
            yield connection.execution_options(isolation_level="AUTOCOMMIT")
        else:
            with connection.begin():
                yield connection


def _with_retries(
    begin: Callable[[], AbstractContextManager[sa.Connection]], work: Callable[[sa.Connection], Result]
) -> Result:
    for pause in RETRY_PAUSES:
        try:
            with begin() as connection:
                return work(connection)
        except (sa.exc.DBAPIError, psycopg.Error) as error:  # COPY raises psycopg's own errors
            if not _is_transient(error):
                raise
            time.sleep(pause)
    with begin() as connection:
        return work(connection)


def _is_transient(error: sa.exc.DBAPIError | psycopg.Error) -> bool:
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    state = getattr(cause, "sqlstate", None)
    if state is None:
        lost = isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
        return lost or isinstance(cause, psycopg.OperationalError)
    return state in TRANSIENT_STATES or state.startswith(CONNECTION_CLASS)


def reason(error: BaseException) -> str:
    """The message of an error's root cause, on one line, without the statement that failed.

    An error about resources, such as a full disk, is followed by Postgres's hint, and a permanent error from Klaviyo by
    the note that running again does not help.
    """
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, sa.exc.DBAPIError):
        cause = cause.__cause__
    if isinstance(cause, sa.exc.DBAPIError) and cause.orig is not None:
        cause = cause.orig
    line = first_line(str(cause)) or type(cause).__name__
    if (
        isinstance(cause, psycopg.Error)
        and (cause.sqlstate or "").startswith(RESOURCES_CLASS)
        and cause.diag.message_hint
    ):
        line = f"{line.rstrip('.')}. {cause.diag.message_hint}"
    return f"{line} {PERMANENT}" if isinstance(cause, KlaviyoError) and cause.permanent else line


def first_line(text: str) -> str:
    """The first line of `text` that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _unreachable(url: str, message: str) -> str:
    parts = urlsplit(url)
    where = f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"
    first = (first_line(message) or "no reason given").rstrip(".")
    remedy = connection_remedy(first, "KLAVIYO_DATABASE_URL")
    if parts.password:
        first = first.replace(parts.password, "***")
    return f"cannot connect to Postgres at {where}: {first}. {remedy}"
