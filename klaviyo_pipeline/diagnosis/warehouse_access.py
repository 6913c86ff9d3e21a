"""Whether the warehouse can be used: reached, recent enough, writable by the role, migrated, this account's."""

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
from klaviyo_pipeline.postgres.engine import clear_errors, create_engine, warehouse_url
from klaviyo_pipeline.postgres.future_times import REMEDY, ahead_of_clock
from klaviyo_pipeline.postgres.refusals import Refusal, refusals
from klaviyo_pipeline.postgres.schema.migrations import pending, read_migrations
from klaviyo_pipeline.postgres.schema.owners import FOREIGN_OWNERS, remedy

REACHED, VERSION, RIGHTS, MIGRATIONS, OWNER = "database", "Postgres version", "role", "migrations", "account of schema"
OBSERVED = "times of observation"
COUNTED_TWICE = "sums over all accounts count it twice: keep one of the accounts"
AFTER_REACHED = (VERSION, RIGHTS, MIGRATIONS, OWNER, OBSERVED)
OLDEST_MAJOR = 14

_SERVER = sa.text("""
SELECT
    current_user AS role,
    current_database() AS database,
    current_setting('server_version_num')::integer / 10000 AS major,
    current_setting('server_version') AS version,
    pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS read_only,
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
class Looked:
    """The findings; by how much the database's clock goes before ours, where it could be asked."""

    findings: list[Finding]
    ahead: timedelta | None = None

    @property
    def reached(self) -> bool:
        return self.ahead is not None


def check_warehouse(settings: Settings, account_id: str | None, secrets: Secrets, clock: Clock) -> Looked:
    """Look, in a transaction that cannot write. `account_id` is whose the key is, None if nobody said."""
    try:
        url = warehouse_url(settings.database_url)
        with _read_only(url) as connection:
            ahead = _ahead(connection, clock)
            return Looked(_Look(settings, url, connection, account_id, secrets).findings(), ahead)
    except Exception as error:
        reached = failed(REACHED, secrets.reported(error))
        return Looked([reached, *(skipped(check, "the database cannot be used") for check in AFTER_REACHED)])


def refusals_on_record(settings: Settings) -> list[Refusal]:
    """What Klaviyo refused of its reports when they were last asked; nothing where the warehouse cannot tell."""
    try:
        with _read_only(warehouse_url(settings.database_url)) as connection:
            return refusals(connection, settings.account.slug)
    except Exception:
        # What keeps the warehouse from telling is a finding of its own.
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
class _Look:
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
            lacking, migrations = (), failed(MIGRATIONS, self.secrets.reported(error))
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
        holds = None
        if sa.inspect(self.connection).has_table("account", schema=self.schema):
            try:
                holds = check_schema_owner(self.connection, self.settings.account, self.account_id)
            except AccountRefused as error:
                return [failed(OWNER, self.secrets.reported(error))]
        if self.account_id and (others := other_schemas(self.connection, self.schema, self.account_id)):
            found = f"{self.account_id}, as the key's; schema {', '.join(others)} holds the same account"
            return [warning(OWNER, found, f"{COUNTED_TWICE}, and drop the schema of the other")]
        if holds is None:
            return [ok(OWNER, "nobody's yet; the first sync takes it for the account of the key")]
        if self.account_id is None:
            return [skipped(OWNER, f"it is {holds}'s, and Klaviyo did not tell whose the key is")]
        return [ok(OWNER, f"{holds}, as the key's; windows are {self.settings.account.sync_window}")]

    def _observed(self) -> list[Finding]:
        self.connection.rollback()
        if not sa.inspect(self.connection).has_table("sync_windows", schema=self.schema):
            return [ok(OBSERVED, "nothing is stored yet")]
        ahead = ahead_of_clock(self.connection, self.schema)
        if not ahead:
            return [ok(OBSERVED, "all lie in the past")]
        rows = ", ".join(f"{rows:,} in {name}" for name, rows in ahead.items())
        return [failed(OBSERVED, f"some rows are ahead of the database's clock: {rows}", REMEDY)]


def _version(server: sa.Row[tuple[object, ...]]) -> Finding:
    if server.major < OLDEST_MAJOR:
        return failed(VERSION, str(server.version), f"use Postgres {OLDEST_MAJOR} or newer")
    return ok(VERSION, str(server.version))


def _rights(
    server: sa.Row[tuple[object, ...]], schema: str, closed: Sequence[str], owners: Sequence[str], *, must_create: bool
) -> Finding:
    role = str(server.role)
    if server.read_only:
        return failed(
            RIGHTS, f"{role}: the server takes no writes from it", "use the primary, and a role that may write"
        )
    if server.may_create_tables is None and not server.may_create_schemas:
        grant = f"GRANT CREATE ON DATABASE {server.database} TO {role}, or have the schema made for it"
        return failed(RIGHTS, f"{role} may not create the schema {schema}", grant)
    if owners and (closed or must_create):
        missing = f"read and write {', '.join(closed)}" if closed else f"change the tables of {schema}"
        return failed(
            RIGHTS,
            f"{role} may not {missing}: role {' and '.join(owners)} owns the schema and its tables",
            remedy(owners, role),
        )
    if must_create and server.may_create_tables is False:
        return failed(
            RIGHTS, f"{role} may not create tables in {schema}", f"GRANT CREATE, USAGE ON SCHEMA {schema} TO {role}"
        )
    if not server.may_use_temporary:
        grant = f"GRANT TEMPORARY ON DATABASE {server.database} TO {role}: rows are copied into a temporary table first"
        return failed(RIGHTS, f"{role} may not make temporary tables", grant)
    if closed:
        grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
        return failed(RIGHTS, f"{role} may not read and write {', '.join(closed)}", grant)
    return ok(RIGHTS, f"{role} may create and write in {schema}")


def _migrations(lacking: Sequence[str]) -> Finding:
    if not lacking:
        return ok(MIGRATIONS, f"all {len(read_migrations(SQL_DIR))} applied")
    return warning(
        MIGRATIONS,
        f"{len(lacking)} to apply: {', '.join(lacking)}",
        "run `klaviyo-pipeline migrate`; a sync does it first by itself",
    )


def _ahead(connection: sa.Connection, clock: Clock) -> timedelta:
    connection.execute(sa.text("SELECT 1"))  # the connection is opened before the time is taken
    before = clock()
    theirs: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    after = clock()
    return theirs - (before + (after - before) / 2)
