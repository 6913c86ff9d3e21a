"""Checks the warehouse: connection, Postgres version, rights of the role, migrations, account, observation times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import sqlalchemy as sa

from klaviyo_pipeline.config.settings import SQL_DIR, Settings
from klaviyo_pipeline.diagnosis.findings import Finding, Secrets, failed, guarded, ok, skipped, warning
from klaviyo_pipeline.postgres.account_binding import AccountRefused, check_schema_owner, other_schemas
from klaviyo_pipeline.postgres.engine import clear_errors, create_engine, database_now, warehouse_url
from klaviyo_pipeline.postgres.future_times import REMEDY, ahead_of_clock
from klaviyo_pipeline.postgres.refusals import Refusal, refusals
from klaviyo_pipeline.postgres.schema.migrations import pending, read_migrations
from klaviyo_pipeline.postgres.schema.owners import FOREIGN_OWNERS, quoted, remedy, schema_remedy

REACHED, VERSION, RIGHTS, MIGRATIONS, OWNER = "database", "Postgres version", "role", "migrations", "account in schema"
OBSERVED = "observation times"
COUNTED_TWICE = "sums over all accounts count this Klaviyo account twice"
AFTER_REACHED = (VERSION, RIGHTS, MIGRATIONS, OWNER, OBSERVED)
OLDEST_MAJOR = 14

_SERVER = sa.text("""
SELECT
    current_user AS role,
    current_database() AS database,
    current_setting('server_version_num')::integer / 10000 AS major,
    current_setting('server_version') AS version,
    pg_is_in_recovery() AS is_standby,
    current_setting('default_transaction_read_only')::boolean AS read_only,
    has_database_privilege(current_database(), 'CREATE') AS may_create_schemas,
    has_database_privilege(current_database(), 'TEMPORARY') AS may_use_temporary,
    (SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = :schema) AS may_create_tables
""")

_CLOSED_TABLES = sa.text("""
SELECT tables.relname
FROM pg_class AS tables
JOIN pg_namespace AS schemas ON schemas.oid = tables.relnamespace
WHERE schemas.nspname = :schema
    AND tables.relkind IN ('r', 'p')
    AND NOT (
        has_schema_privilege(schemas.oid, 'USAGE')
        AND has_table_privilege(tables.oid, 'SELECT')
        AND has_table_privilege(tables.oid, 'INSERT')
        AND has_table_privilege(tables.oid, 'UPDATE')
        AND has_table_privilege(tables.oid, 'DELETE')
    )
ORDER BY tables.relname
""")

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class WarehouseReport:
    """The findings. `ahead` is how far the database's clock is ahead of ours; None if the database cannot be used."""

    findings: list[Finding]
    ahead: timedelta | None = None

    @property
    def reached(self) -> bool:
        return self.ahead is not None

    @property
    def is_migrated(self) -> bool:
        """Whether the schema has all tables and does not belong to another account."""
        verdicts = {finding.check: finding.verdict for finding in self.findings}
        return verdicts.get(MIGRATIONS) == "ok" and verdicts.get(OWNER) != "failed"


def check_warehouse(settings: Settings, account_id: str | None, secrets: Secrets, clock: Clock) -> WarehouseReport:
    """Check the warehouse in read-only transactions.

    `account_id` is the id of the Klaviyo account that the API key belongs to; None if it is not known.
    """
    try:
        url = warehouse_url(settings.database_url)
        with _read_only(url) as connection:
            ahead = _ahead(connection, clock)
            return WarehouseReport(_WarehouseCheck(settings, url, connection, account_id, secrets).findings(), ahead)
    except Exception as error:
        reached = failed(REACHED, secrets.one_line(error))
        return WarehouseReport([reached, *(skipped(check, "the database cannot be used") for check in AFTER_REACHED)])


def refusals_on_record(settings: Settings) -> list[Refusal]:
    """The stored refusals of report statistics by Klaviyo; empty if the warehouse cannot be read."""
    try:
        with _read_only(warehouse_url(settings.database_url)) as connection:
            return refusals(connection, settings.account.slug)
    except Exception:
        # `check_warehouse` reports why the warehouse cannot be read.
        return []


@contextmanager
def _read_only(url: str) -> Iterator[sa.Connection]:
    engine = create_engine(url).execution_options(postgresql_readonly=True)
    try:
        with clear_errors(url), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@dataclass(frozen=True)
class _WarehouseCheck:
    settings: Settings
    url: str
    connection: sa.Connection
    account_id: str | None
    secrets: Secrets

    @property
    def schema(self) -> str:
        return self.settings.account.slug

    def findings(self) -> list[Finding]:
        server = self.connection.execute(_SERVER, {"schema": self.schema}).one()
        closed = self.connection.execute(_CLOSED_TABLES, {"schema": self.schema}).scalars().all()
        owners = self.connection.exec_driver_sql(FOREIGN_OWNERS, {"schema": self.schema}).scalars().all()
        self.connection.rollback()
        try:
            lacking: Sequence[str] = pending(self.url, self.schema, SQL_DIR)
            migrations = _migrations(lacking)
        except Exception as error:
            lacking, migrations = (), failed(MIGRATIONS, self.secrets.one_line(error))
        return [
            ok(REACHED, self._where(server)),
            _version(server),
            _rights(server, self.schema, closed, owners, must_create=bool(lacking)),
            migrations,
            *guarded(OWNER, self.secrets, self._owner),
            *guarded(OBSERVED, self.secrets, self._observed),
        ]

    def _where(self, server: sa.Row[tuple[object, ...]]) -> str:
        parts = urlsplit(self.url)
        place = f"{parts.hostname or 'localhost'}:{parts.port or 5432}/{server.database}, schema {self.schema}"
        return place if self.settings.database_url else f"embedded, {place}"

    def _owner(self) -> list[Finding]:
        bound_to = None
        if sa.inspect(self.connection).has_table("account", schema=self.schema):
            try:
                bound_to = check_schema_owner(self.connection, self.settings.account, self.account_id)
            except AccountRefused as error:
                return [failed(OWNER, self.secrets.one_line(error))]
        if self.account_id and (others := other_schemas(self.connection, self.schema, self.account_id)):
            schemas = f"schema {others[0]}" if len(others) == 1 else f"schemas {', '.join(others)}"
            found = f"{self.account_id}, which is also in {schemas}"
            return [
                warning(
                    OWNER,
                    found,
                    f"{COUNTED_TWICE}; keep the account in the schema with the longest history, and run "
                    "DROP SCHEMA … CASCADE for the other",
                )
            ]
        if bound_to is None:
            return [ok(OWNER, "none yet; the first sync binds the schema to the account of the key")]
        if self.account_id is None:
            return [skipped(OWNER, f"the schema is bound to {bound_to}, but the account of the key is not known")]
        return [ok(OWNER, f"{bound_to}, the account of the key; {self.settings.account.sync_window} windows")]

    def _observed(self) -> list[Finding]:
        self.connection.rollback()
        if not sa.inspect(self.connection).has_table("sync_windows", schema=self.schema):
            return [ok(OBSERVED, "no data yet")]
        ahead = ahead_of_clock(self.connection, self.schema)
        if not ahead:
            return [ok(OBSERVED, "all in the past")]
        rows = ", ".join(f"{rows:,} in {name}" for name, rows in ahead.items())
        return [failed(OBSERVED, f"some are ahead of the database's clock: {rows}", REMEDY)]


def _version(server: sa.Row[tuple[object, ...]]) -> Finding:
    if server.major < OLDEST_MAJOR:
        return failed(VERSION, str(server.version), f"use Postgres {OLDEST_MAJOR} or newer")
    return ok(VERSION, str(server.version))


def _rights(
    server: sa.Row[tuple[object, ...]], schema: str, closed: Sequence[str], owners: Sequence[str], *, must_create: bool
) -> Finding:
    role, database = str(server.role), str(server.database)
    if server.is_standby:
        return failed(
            RIGHTS, f"{role} cannot write: the server is a standby", "set KLAVIYO_DATABASE_URL to the primary"
        )
    if server.read_only:
        return failed(
            RIGHTS,
            f"{role} cannot write: default_transaction_read_only is on",
            f"have an administrator run ALTER ROLE {quoted(role)} SET default_transaction_read_only TO off; if the "
            "server set it because its disk is full, free space first",
        )
    if server.may_create_tables is None and not server.may_create_schemas:
        grant = schema_remedy(schema, role, database)
        return failed(RIGHTS, f"{role} may not create the schema {schema}", grant)
    if owners and (closed or must_create):
        missing = f"read and write {', '.join(closed)}" if closed else f"change the tables of {schema}"
        return failed(
            RIGHTS,
            f"{role} may not {missing}: role {' and '.join(owners)} owns the schema and its tables",
            remedy(owners, role),
        )
    if not server.may_use_temporary:
        grant = f"GRANT TEMPORARY ON DATABASE {quoted(database)} TO {quoted(role)}; the merge uses temporary tables"
        return failed(RIGHTS, f"{role} may not create temporary tables", grant)
    if closed or (must_create and server.may_create_tables is False):
        missing = f"read and write {', '.join(closed)}" if closed else f"create tables in {schema}"
        return failed(RIGHTS, f"{role} may not {missing}", schema_remedy(schema, role, database, exists=True))
    return ok(RIGHTS, f"{role} has the necessary rights on schema {schema}")


def _migrations(lacking: Sequence[str]) -> Finding:
    if not lacking:
        return ok(MIGRATIONS, f"all {len(read_migrations(SQL_DIR))} are applied")
    return warning(
        MIGRATIONS,
        f"{len(lacking)} to apply: {', '.join(lacking)}",
        "run `klaviyo-pipeline migrate`; `sync` also applies them",
    )


def _ahead(connection: sa.Connection, clock: Clock) -> timedelta:
    # This statement begins the transaction, so that the time for it is not measured below.
    connection.execute(sa.text("SELECT 1"))
    before = clock()
    theirs = database_now(connection)
    after = clock()
    return theirs - (before + (after - before) / 2)
