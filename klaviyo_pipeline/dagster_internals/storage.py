"""Dagster's own storage: runs and events in Postgres, files in `.klaviyo/dagster`.

`dagster.yaml` names the three classes below without any configuration. They determine their location themselves,
whatever the working directory. Dagster creates them in every process only from their names, so no URL and no password
is displayed in the UI or passed from one process to another.

Dagster's tables are never in the schema of an account. Dagster cannot use the warehouse's URL if it leads to a pooler
in transaction mode. Then set `KLAVIYO_DAGSTER_DATABASE_URL` to the URL of the server itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, LiteralString, Self
from urllib.parse import quote, urlsplit

import psycopg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import URL

from klaviyo_pipeline.config.settings import PROJECT_ROOT, STATE_DIR, SettingsError, load_dotenv_file
from klaviyo_pipeline.dagster_internals.event_log import BatchedEventLogStorage
from klaviyo_pipeline.dagster_internals.steady_storage import SteadyRunStorage, SteadyScheduleStorage
from klaviyo_pipeline.postgres.server.embedded import ensure_database, project_server
from klaviyo_pipeline.postgres.server.sessions import connect

OWN_URL = "KLAVIYO_DAGSTER_DATABASE_URL"
WAREHOUSE_URL = "KLAVIYO_DATABASE_URL"
# No account may have this slug, so that no account's tables can be in Dagster's schema.
DATABASE = SCHEMA = "dagster"
DATABASE_SUFFIX = "_dagster"
NAME_BYTES = 63
# A run over a year has events for each of its windows. They are stored in batches of this size.
EVENT_BATCH_SIZE = "1000"

HAS_DATABASE: LiteralString = "SELECT 1 FROM pg_database WHERE datname = %s"
# A schema of that name may belong to another Dagster. Ours is owned by our role, or by a role granted to it. For a
# superuser every role counts as granted, so it must be the owner itself.
HAS_OWN_SCHEMA: LiteralString = """
SELECT 1
FROM pg_namespace
JOIN pg_roles ON rolname = current_user
WHERE nspname = %s AND (nspowner = pg_roles.oid OR (pg_has_role(nspowner, 'USAGE') AND NOT rolsuper))
"""
OWNER_OF_CLOSED_DATABASE: LiteralString = """
SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s AND NOT has_database_privilege(oid, 'CONNECT')
"""
MAY_CREATE_DATABASES: LiteralString = """
SELECT 1 FROM pg_roles WHERE rolname = current_user AND (rolcreatedb OR rolsuper)
"""
OWNER_OF_SCHEMA: LiteralString = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %s"
OWNER_OF_CLOSED_TABLES: LiteralString = """
SELECT pg_get_userbyid(relowner)
FROM pg_class
WHERE oid = to_regclass(quote_ident(current_schema()) || '.runs')
    AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT'))
"""
IS_FIRST_SCHEMA: LiteralString = "SELECT 1 WHERE current_schema() = %s"


_is_uncaptured: ContextVar[bool] = ContextVar("without_output_capture", default=False)


def home() -> Path:
    """The folder whose `dagster.yaml` is used: `DAGSTER_HOME` if it contains one, else the project's root."""
    chosen = os.environ.get("DAGSTER_HOME", "").strip()
    if chosen and (Path(chosen).expanduser() / "dagster.yaml").is_file():
        return Path(chosen).expanduser().resolve()
    return PROJECT_ROOT


def use_project_instance() -> Path:
    """Set `DAGSTER_HOME` for this process and its children to a folder with the configuration of `home()`.

    For the project's own configuration, that is `.klaviyo/dagster` with a link to it. The web server creates folders
    for telemetry in `DAGSTER_HOME`, even if telemetry is off, and these should not be in the project's root.
    """
    load_dotenv_file()
    folder = home()
    if folder == PROJECT_ROOT:
        folder = _linked_home()
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", EVENT_BATCH_SIZE)
    return folder


def _linked_home() -> Path:
    folder = STATE_DIR / "dagster"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A relative link, so that it stays valid if the project is moved.
        (folder / "dagster.yaml").symlink_to(os.path.relpath(PROJECT_ROOT / "dagster.yaml", folder))
    except FileExistsError:
        pass
    except OSError:
        return PROJECT_ROOT  # a read-only project, or a system without links
    return folder


@contextmanager
def without_output_capture() -> Iterator[None]:
    """Runs of this block print to the terminal, and Dagster does not capture their output.

    Capturing takes four processes a run. The log lines of assets are in the run's log anyway.
    """
    before = _is_uncaptured.set(True)
    try:
        yield
    finally:
        _is_uncaptured.reset(before)


def storage_url() -> str:
    """SQLAlchemy URL (psycopg2, with password) of Dagster's storage. Creates the database or schema if it is missing.

    The first of these that applies:

    - `KLAVIYO_DAGSTER_DATABASE_URL`;
    - a database `<warehouse>_dagster` on the warehouse's server, or a schema `dagster` in the warehouse if the role may
      not create databases;
    - the database `dagster` of the embedded server, which is started.

    Raises `SettingsError` or `EmbeddedPostgresError` with one line.
    """
    load_dotenv_file()
    if own := os.environ.get(OWN_URL, "").strip():
        return _psycopg2_url(own, OWN_URL)
    if warehouse := os.environ.get(WAREHOUSE_URL, "").strip():
        return _beside_the_warehouse(warehouse)
    return _psycopg2_url(ensure_database(project_server().start(), DATABASE), OWN_URL)


def found_storage_url() -> str | None:
    """Like `storage_url()`, but creates nothing: None if the database or schema does not exist yet."""
    load_dotenv_file()
    if own := os.environ.get(OWN_URL, "").strip():
        return _psycopg2_url(own, OWN_URL)
    if warehouse := os.environ.get(WAREHOUSE_URL, "").strip():
        _psycopg2_url(warehouse, WAREHOUSE_URL)
        return _found_beside(warehouse)
    server = project_server()
    return _found_database(server.dsn, DATABASE) if server.running else None


class ProjectStorage(DagsterPostgresStorage):
    """Runs, events and schedules in Postgres, at `storage_url()`."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Dagster's own constructor is skipped: it would open the three storages that these replace.
        super(DagsterPostgresStorage, self).__init__()  # type: ignore[no-untyped-call]
        self._inst_data = inst_data
        self._run_storage = SteadyRunStorage(postgres_url)
        self._event_log_storage = BatchedEventLogStorage(postgres_url)
        self._schedule_storage = SteadyScheduleStorage(postgres_url)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        url = storage_url()
        if own := os.environ.get(OWN_URL, "").strip():
            with _reached(own, OWN_URL) as connection:
                _check_tables(connection)
        return cls(postgres_url=url, inst_data=inst_data)


class ProjectArtifacts(LocalArtifactStorage):
    """Files of runs, in `.klaviyo/dagster`."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls(base_dir=str(STATE_DIR / "dagster"), inst_data=inst_data)


class ProjectComputeLogs(LocalComputeLogManager):
    """The output of steps, in `.klaviyo/dagster/storage`; none in a block of `without_output_capture`."""

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        captured = nullcontext(CapturedLogContext(log_key)) if _is_uncaptured.get() else super().capture_logs(log_key)
        with captured as context:
            yield context

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls(base_dir=str(STATE_DIR / "dagster" / "storage"), inst_data=inst_data)


def _beside_the_warehouse(warehouse: str) -> str:
    _psycopg2_url(warehouse, WAREHOUSE_URL)  # raises for an invalid URL before it is used
    with _reached(warehouse, WAREHOUSE_URL) as connection:
        database = _database_beside(connection, warehouse)
    if database is None:
        _check_pooler(warehouse, SCHEMA)
        return _psycopg2_url(warehouse, WAREHOUSE_URL, schema=SCHEMA)
    _check_pooler(database)
    return _psycopg2_url(database, WAREHOUSE_URL)


def _check_pooler(url: str, schema: str | None = None) -> None:
    """Raise `SettingsError` if the URL leads to a pooler that does not reach Dagster's database or schema.

    A pooler may be configured only for the warehouse's database, reject the parameter that sets the schema, or ignore
    it. If it were ignored, Dagster's tables would be created among the warehouse's.
    """
    url_with_schema = make_conninfo(url, options=f"-csearch_path={schema}") if schema else url
    try:
        with connect(url_with_schema) as connection:
            if schema is None or _exists(connection, IS_FIRST_SCHEMA, schema):
                _check_tables(connection)
                return
            problem = "the pooler drops search_path"
    except psycopg.OperationalError as error:
        problem = " ".join(str(error).split())
    raise SettingsError(
        f"{WAREHOUSE_URL} does not lead to Dagster's own storage ({problem}). If it is the URL of a pooler, set "
        f"{OWN_URL} to the URL of the server itself."
    )


@contextmanager
def _reached(url: str, variable: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection. Raises `SettingsError` with one line, where Dagster would retry for long and log a lot."""
    try:
        connection = connect(url)
    except psycopg.OperationalError as error:
        raise SettingsError(f"{variable}: the server cannot be reached ({' '.join(str(error).split())}).") from None
    with connection:
        yield connection


def _database_beside(connection: psycopg.Connection[Any], warehouse: str) -> str | None:
    """URL of Dagster's own database on the warehouse's server; None if Dagster uses a schema of the warehouse.

    An existing schema is kept in use, even if the role may create databases now. Otherwise earlier runs would be lost.
    """
    name = _name_beside(connection)
    if not _exists(connection, HAS_DATABASE, name) and _exists(connection, HAS_OWN_SCHEMA, SCHEMA):
        return None
    _check_database(connection, name)
    try:
        return ensure_database(warehouse, name)
    except errors.InsufficientPrivilege:
        _create_schema(connection)
        return None


def _found_beside(warehouse: str) -> str | None:
    with connect(warehouse) as connection:
        name = _name_beside(connection)
        _check_database(connection, name)
        if not _exists(connection, HAS_DATABASE, name) and _exists(connection, HAS_OWN_SCHEMA, SCHEMA):
            return _psycopg2_url(warehouse, WAREHOUSE_URL, schema=SCHEMA)
        if not _exists(connection, HAS_DATABASE, name) and not _exists(connection, MAY_CREATE_DATABASES):
            _refuse_foreign(connection)
    return _found_database(warehouse, name)


def _found_database(server: str, name: str) -> str | None:
    with connect(server) as connection:
        if not _exists(connection, HAS_DATABASE, name):
            return None
    return _psycopg2_url(urlsplit(server)._replace(path="/" + quote(name, safe="")).geturl(), WAREHOUSE_URL)


def _name_beside(connection: psycopg.Connection[Any]) -> str:
    room = NAME_BYTES - len(DATABASE_SUFFIX)
    return connection.info.dbname.encode()[:room].decode(errors="ignore") + DATABASE_SUFFIX


def _exists(connection: psycopg.Connection[Any], query: LiteralString, *names: str) -> bool:
    return connection.execute(query, names).fetchone() is not None


def _create_schema(connection: psycopg.Connection[Any]) -> None:
    try:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    except (errors.DuplicateSchema, errors.UniqueViolation):
        if not _exists(connection, HAS_OWN_SCHEMA, SCHEMA):  # else another process of ours has just created it
            _refuse_foreign(connection)
    except errors.InsufficientPrivilege:
        _refuse_foreign(connection)
        raise SettingsError(
            f"The role {connection.info.user} may create neither a database nor a schema for Dagster. "
            f"Set {OWN_URL} to a database in which it may create tables."
        ) from None


def _refuse_foreign(connection: psycopg.Connection[Any]) -> None:
    """Raise `SettingsError` if the schema for Dagster exists and belongs to another role."""
    if owner := _name(connection, OWNER_OF_SCHEMA, SCHEMA):
        raise _not_ours(connection, f"The schema {SCHEMA} in database {connection.info.dbname}", owner)


def _check_database(connection: psycopg.Connection[Any], name: str) -> None:
    if owner := _name(connection, OWNER_OF_CLOSED_DATABASE, name):
        raise _not_ours(connection, f"Dagster's database {name}", owner)


def _check_tables(connection: psycopg.Connection[Any]) -> None:
    """Raise `SettingsError` if Dagster's tables exist and this role lacks rights on them."""
    if owner := _name(connection, OWNER_OF_CLOSED_TABLES):
        raise _not_ours(connection, f"Dagster's table runs in database {connection.info.dbname}", owner)


def _not_ours(connection: psycopg.Connection[Any], what: str, owner: str) -> SettingsError:
    return SettingsError(
        f"{what} is owned by role {owner}, and role {connection.info.user} lacks the rights on it. "
        f"Connect as {owner}, or have an administrator run "
        f'GRANT "{owner}" TO "{connection.info.user}", or set {OWN_URL} to another database.'
    )


def _name(connection: psycopg.Connection[Any], query: LiteralString, *parameters: str) -> str | None:
    row = connection.execute(query, parameters).fetchone()
    return row and row[0]


def _psycopg2_url(dsn: str, variable: str, *, schema: str | None = None) -> str:
    """The libpq URL `dsn` as a SQLAlchemy URL for psycopg2. If `schema` is given, it is the search path.

    The URL names the driver, because SQLAlchemy 2.1 uses psycopg 3 for a bare `postgresql://`, which dagster-postgres
    does not support.
    """
    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    except psycopg.Error:
        parts = {"port": "unreadable"}
    # If a password contains an unescaped "/", a part of it is parsed as the port, and the driver's error would show it.
    if not re.fullmatch(r"[0-9,]*", parts.get("port", "")):
        # The URL may contain a password, so the message repeats neither the URL nor the parser's error.
        raise SettingsError(
            f"{variable} must read postgresql://user:password@host:5432/database, with %-escapes in the password."
        )
    if schema is not None:
        parts["options"] = f"{parts.get('options', '')} -csearch_path={schema}".strip()
    url = URL.create(
        "postgresql+psycopg2",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        database=parts.pop("dbname", None),
        # Host and port are parameters, because there may be several hosts, or the folder of a socket.
        query=parts,
    )
    return url.render_as_string(hide_password=False)
