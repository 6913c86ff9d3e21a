"""Where Dagster keeps its own things: runs and events in Postgres, files under `.klaviyo/dagster`.

`dagster.yaml` names the three classes below without any configuration. They find their places themselves,
whatever the working folder, and Dagster rebuilds them in every process that it starts from nothing but their
names: no URL and no password stand in what the UI shows or in what one process hands to the next.

Dagster's tables never share a schema with an account's. Behind a pooler in transaction mode the warehouse's
URL does not serve Dagster; `KLAVIYO_DAGSTER_DATABASE_URL` then names the server itself.
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
# No account may have this slug, so that no account's tables can meet Dagster's.
DATABASE = SCHEMA = "dagster"
DATABASE_SUFFIX = "_dagster"
NAME_BYTES = 63
# A run over a year writes events for each of its windows: together, not one by one.
EVENT_BATCH_SIZE = "1000"

HAS_DATABASE: LiteralString = "SELECT 1 FROM pg_database WHERE datname = %s"
# A schema of that name may be another Dagster's: only our role's own counts, or that of a role granted to it. To a
# superuser every role counts as granted.
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


_is_seen: ContextVar[bool] = ContextVar("output_is_seen", default=False)


def home() -> Path:
    """The folder whose `dagster.yaml` holds: `DAGSTER_HOME` if it has one, else the project's root."""
    chosen = os.environ.get("DAGSTER_HOME", "").strip()
    if chosen and (Path(chosen).expanduser() / "dagster.yaml").is_file():
        return Path(chosen).expanduser().resolve()
    return PROJECT_ROOT


def use_project_instance() -> Path:
    """Set `DAGSTER_HOME` for this process and its children to where the configuration of `home()` is found.

    For the project's own that is `.klaviyo/dagster`, with a link to it: the web server makes folders for
    telemetry in `DAGSTER_HOME`, even when that is switched off, and the project's root is no place for them.
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
        # Relative, so that a moved project keeps its configuration.
        (folder / "dagster.yaml").symlink_to(os.path.relpath(PROJECT_ROOT / "dagster.yaml", folder))
    except FileExistsError:
        pass
    except OSError:
        return PROJECT_ROOT  # a read-only project, or a system without links
    return folder


@contextmanager
def output_is_seen() -> Iterator[None]:
    """Runs of this block print to the terminal that began them, and their output is not captured besides.

    Capturing costs four processes a run; what the assets say is in the run's own log in any case.
    """
    before = _is_seen.set(True)
    try:
        yield
    finally:
        _is_seen.reset(before)


def storage_url() -> str:
    """SQLAlchemy URL (psycopg2, password included) of Dagster's storage; makes what it names.

    In this order: `KLAVIYO_DAGSTER_DATABASE_URL`; on the warehouse's server a database `<warehouse>_dagster`,
    or a schema `dagster` where the role may not create databases; the database `dagster` of the embedded
    server, which is started. Raises `SettingsError` or `EmbeddedPostgresError` with one line.
    """
    load_dotenv_file()
    if own := os.environ.get(OWN_URL, "").strip():
        return _psycopg2_url(own, OWN_URL)
    if warehouse := os.environ.get(WAREHOUSE_URL, "").strip():
        return _beside_the_warehouse(warehouse)
    return _psycopg2_url(ensure_database(project_server().start(), DATABASE), OWN_URL)


def found_storage_url() -> str | None:
    """`storage_url()` where what it names is there already; None where the first run will make it. Makes nothing."""
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
        # Not Dagster's own constructor: it would open the three storages that these replace.
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
    """Files of runs under `.klaviyo/dagster`."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls(base_dir=str(STATE_DIR / "dagster"), inst_data=inst_data)


class ProjectComputeLogs(LocalComputeLogManager):
    """What steps print, under `.klaviyo/dagster/storage`; nothing where it is seen by whoever runs them."""

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        with nullcontext(CapturedLogContext(log_key)) if _is_seen.get() else super().capture_logs(log_key) as context:
            yield context

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls(base_dir=str(STATE_DIR / "dagster" / "storage"), inst_data=inst_data)


def _beside_the_warehouse(warehouse: str) -> str:
    _psycopg2_url(warehouse, WAREHOUSE_URL)  # a bad URL is told before it is used
    with _reached(warehouse, WAREHOUSE_URL) as connection:
        database = _database_beside(connection, warehouse)
    if database is None:
        _serves_dagster(warehouse, SCHEMA)
        return _psycopg2_url(warehouse, WAREHOUSE_URL, schema=SCHEMA)
    _serves_dagster(database)
    return _psycopg2_url(database, WAREHOUSE_URL)


def _serves_dagster(url: str, schema: str | None = None) -> None:
    """Raise `SettingsError` where a pooler stands before the warehouse that leads Dagster elsewhere, or nowhere.

    One may know the warehouse's database alone, refuse the parameter that names the schema, or drop it unsaid:
    Dagster's tables would then be made among the warehouse's.
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
        f"{WAREHOUSE_URL} does not lead to Dagster's own storage ({problem}). Behind a pooler set {OWN_URL} to the "
        "server itself."
    )


@contextmanager
def _reached(url: str, variable: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection, or `SettingsError` with one line: Dagster itself would try for long and then say much."""
    try:
        connection = connect(url)
    except psycopg.OperationalError as error:
        raise SettingsError(f"{variable}: the server cannot be reached ({' '.join(str(error).split())}).") from None
    with connection:
        yield connection


def _database_beside(connection: psycopg.Connection[Any], warehouse: str) -> str | None:
    """URL of Dagster's own database on the warehouse's server; None if a schema of the warehouse must do.

    What is there wins, so that a right that the role is given later does not hide the runs so far.
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
        if not _exists(connection, HAS_OWN_SCHEMA, SCHEMA):  # or another process of ours was quicker
            _refuse_foreign(connection)
    except errors.InsufficientPrivilege:
        _refuse_foreign(connection)
        raise SettingsError(
            f"The role {connection.info.user} may create neither a database nor a schema for Dagster; "
            f"set {OWN_URL} to a database where it may."
        ) from None


def _refuse_foreign(connection: psycopg.Connection[Any]) -> None:
    """Raise `SettingsError` if the schema for Dagster is there and another role's."""
    if owner := _name(connection, OWNER_OF_SCHEMA, SCHEMA):
        raise _not_ours(connection, f"The schema {SCHEMA} in database {connection.info.dbname}", owner)


def _check_database(connection: psycopg.Connection[Any], name: str) -> None:
    if owner := _name(connection, OWNER_OF_CLOSED_DATABASE, name):
        raise _not_ours(connection, f"Dagster's database {name}", owner)


def _check_tables(connection: psycopg.Connection[Any]) -> None:
    """Raise `SettingsError` if Dagster's tables are there and closed to this role."""
    if owner := _name(connection, OWNER_OF_CLOSED_TABLES):
        raise _not_ours(connection, f"The table runs of Dagster in database {connection.info.dbname}", owner)


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
    """The libpq URL `dsn`, as SQLAlchemy writes it for psycopg2, with tables in `schema` if one is given.

    The driver is named because SQLAlchemy 2.1 takes psycopg 3 for a bare `postgresql://`, whose connections
    dagster-postgres cannot use.
    """
    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    except psycopg.Error:
        parts = {"port": "unreadable"}
    # An unquoted "/" in a password makes a part of it the port, which the driver would quote in its complaint.
    if not re.fullmatch(r"[0-9,]*", parts.get("port", "")):
        # The URL may hold a password: neither it nor the parser's complaint is repeated.
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
        # Host and port as parameters, which may be several, or a socket's folder.
        query=parts,
    )
    return url.render_as_string(hide_password=False)
