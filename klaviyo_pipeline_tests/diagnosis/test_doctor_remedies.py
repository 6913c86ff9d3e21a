"""Remedies of `doctor`, followed to the letter: each leads to an installation without a fault, and no row is lost."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from click.testing import CliRunner

from klaviyo_pipeline.cli.main import cli
from klaviyo_pipeline.diagnosis.findings import Finding
from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.sandbox_account import READ_SCOPES, SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.conftest import THROW_AWAY
from klaviyo_pipeline_tests.diagnosis.installation import Set, diagnose
from klaviyo_pipeline_tests.support import throw_away_database

pytestmark = pytest.mark.slow

MOST_STEPS = 4
RECENTLY = str(datetime.now(UTC).date() - timedelta(days=2))
SESSIONS = 5
FLOW = "INSERT INTO shop.flows (id, raw, observed_at) VALUES ('F1', '{\"id\": \"F1\"}', '2026-01-01')"
WINDOW = """
INSERT INTO shop.sync_windows (entity, window_start, window_end, status, asked_at, attempts)
VALUES ('flows', '2026-01-05 05:00+00', '2026-01-06 05:00+00', 'synced', '2026-01-07', 1)
"""
READ_DAGSTER = ("GRANT USAGE ON SCHEMA public TO $role", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO $role")
WRITE_DAGSTER = (
    *READ_DAGSTER,
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO $role",
    "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO $role",
)
REFUSED = "INSERT INTO shop.conversion_refusals VALUES ('flow series', 'RPlacd', '{conversion_value}', now())"


@dataclass
class Place:
    """An installation after its first sync. `admin` is a session of its database's administrator."""

    setting: Set
    shop: SandboxAccount
    server: SandboxServer
    admin: psycopg.Connection[tuple[object, ...]]
    database: str
    folder: Path
    role: str
    others: list[psycopg.Connection[tuple[object, ...]]] = field(default_factory=list)
    servers: list[EmbeddedPostgres] = field(default_factory=list)

    def sql(self, *statements: str) -> None:
        for statement in statements:
            named = statement.replace("$role", f'"{self.role}"').replace("$database", f'"{self.admin.info.dbname}"')
            self.admin.execute(named.encode())

    def run(self, line: str) -> None:
        ended = CliRunner().invoke(cli, line.split(), input="y\n")
        assert ended.exit_code == 0, (line, ended.output, ended.exception)

    def become(self, password: str = "hush-hush") -> str:
        """Connect as another role, whose only schema is `own`."""
        parts = urlsplit(self.database)
        url = parts._replace(netloc=f"{self.role}:{password}@{parts.hostname}:{parts.port}").geturl()
        self.setting(KLAVIYO_DATABASE_URL=url, KLAVIYO_ACCOUNT="own")
        return url

    def own_schema(self) -> None:
        """Connect as another role, which owns the schema `own` with all tables."""
        self.sql("CREATE SCHEMA own AUTHORIZATION $role")
        self.become()
        self.run("migrate")

    def new_key(self, scopes: set[str]) -> None:
        key = f"pk_{secrets.token_hex(16)}"
        self.shop.api_keys = {key: scopes}
        self.setting(KLAVIYO_API_KEY=key)

    def use_all_sessions(self) -> None:
        self.sql(f"ALTER ROLE $role CONNECTION LIMIT {SESSIONS}")
        self.others += [psycopg.connect(self.become()) for _ in range(SESSIONS)]

    def throttled(self) -> None:
        self.server.faults.add(path_starts("/api/"), Fault(status=429), times=1000)

    def proxy(self, url: str | None) -> None:
        """Klaviyo's own address by way of a proxy, or the simulated account without one."""
        self.setting(HTTPS_PROXY=url, KLAVIYO_API_URL="https://a.klaviyo.com" if url else self.server.url)

    def other_dagster_role(self, *statements: str) -> None:
        """Connect to Dagster's tables, after these statements, as another role."""
        self.run("sync tags")
        self.sql(*statements)
        url = self.become()
        self.setting(
            KLAVIYO_DATABASE_URL=self.database,
            KLAVIYO_ACCOUNT="shop",
            KLAVIYO_DAGSTER_DATABASE_URL=url,
            DAGSTER_HOME="",
        )

    def standby(self) -> None:
        """Connect to a server that only follows another one."""
        server = EmbeddedPostgres(self.folder / "standby", settings=THROW_AWAY)
        self.setting(KLAVIYO_DATABASE_URL=server.start())
        self.run("migrate")
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        self.servers.append(server)

    def metric(self, ids: str) -> None:
        self.setting(KLAVIYO_CONVERSION_METRIC_ID=ids)

    def broken_home(self) -> None:
        (self.folder / "dagster.yaml").write_text("storage: nonsense\n")
        self.setting(DAGSTER_HOME=str(self.folder))

    def close_others(self) -> None:
        self.admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [self.role]
        )
        while self.others:
            self.others.pop().close()


Break = Callable[[Place], object]

BROKEN: dict[str, tuple[str, Break]] = {
    "no key": ("API key", lambda place: place.setting(KLAVIYO_API_KEY=None)),
    "a revoked key": ("API key", lambda place: place.setting(KLAVIYO_API_KEY="pk_revoked")),
    "a key without a scope": ("scope flows:read", lambda place: place.new_key(set(READ_SCOPES) - {"flows:read"})),
    "a key without the scope of tags": (
        "scope tags:read",
        lambda place: place.new_key(set(READ_SCOPES) - {"tags:read"}),
    ),
    "an API that cannot be reached": (
        "Klaviyo API",
        lambda place: place.setting(KLAVIYO_API_URL="http://127.0.0.1:1"),
    ),
    "an address that is not the API's": (
        "API key",
        lambda place: place.setting(KLAVIYO_API_URL=f"{place.server.url}/wrong"),
    ),
    "a retired revision": ("API revision", lambda place: place.shop.retired_revisions.add("2026-10-15")),
    "windows of another zone than the account's": (
        "time zone",
        lambda place: (
            place.setting(KLAVIYO_TIMEZONE="UTC"),
            place.sql("UPDATE shop.account SET window_timezone = 'UTC'", WINDOW),
        ),
    ),
    "windows of another length": (
        "account in schema",
        lambda place: (place.setting(KLAVIYO_SYNC_WINDOW="hourly"), place.sql(WINDOW)),
    ),
    "a schema of another account": (
        "account in schema",
        lambda place: place.sql("UPDATE shop.account SET account_id = 'OTHER1'"),
    ),
    "an account in two schemas": ("account in schema", lambda place: place.setting(KLAVIYO_ACCOUNT="shop_again")),
    "a conversion metric that the account lacks": ("conversion metric", lambda place: place.metric("NoSuch")),
    "a further metric that the account lacks": ("conversion metric", lambda place: place.metric("RPlacd,NoSuch")),
    "a metric without values": ("conversion metric", lambda place: place.sql(REFUSED)),
    "a wrong password": ("database", lambda place: place.become("wrong")),
    "no session left": (
        "database",
        lambda place: (place.own_schema(), place.use_all_sessions()),
    ),
    "a role that may not create its schema": ("role", lambda place: place.become()),
    "a role that may not write": (
        "role",
        lambda place: (place.own_schema(), place.sql("ALTER ROLE $role SET default_transaction_read_only TO on")),
    ),
    "a role without temporary tables": (
        "role",
        lambda place: (
            place.own_schema(),
            place.sql("REVOKE TEMPORARY ON DATABASE $database FROM PUBLIC"),
        ),
    ),
    "a role whose rights were revoked": (
        "role",
        lambda place: (
            place.own_schema(),
            place.sql("REVOKE ALL ON ALL TABLES IN SCHEMA own FROM $role", "REVOKE ALL ON SCHEMA own FROM $role"),
        ),
    ),
    "a schema of another role": (
        "role",
        lambda place: (place.become(), place.setting(KLAVIYO_ACCOUNT="shop")),
    ),
    "a role that may not create Dagster's storage": (
        "Dagster instance",
        lambda place: (place.own_schema(), place.setting(KLAVIYO_DAGSTER_DATABASE_URL="")),
    ),
    "a configuration of Dagster that is not valid": ("Dagster instance", lambda place: place.broken_home()),
    "a standby": ("role", lambda place: place.standby()),
    "a clock that was ahead": (
        "observation times",
        lambda place: (
            place.setting(KLAVIYO_ASSETS="flows", KLAVIYO_START_DATE=RECENTLY),
            place.sql("UPDATE shop.flows SET observed_at = now() + interval '3 days'"),
        ),
    ),
    "a proxy that cannot be reached": ("Klaviyo API", lambda place: place.proxy("http://127.0.0.1:1")),
    "a proxy that is not one": ("Klaviyo API", lambda place: place.proxy(place.server.url)),
    "the address of a proxy that is not valid": ("Klaviyo API", lambda place: place.proxy("http://proxy:port")),
    "429 that does not stop": ("API key", lambda place: place.throttled()),
    "a role that may not write Dagster's tables": (
        "Dagster instance",
        lambda place: place.other_dagster_role(*READ_DAGSTER),
    ),
    "a role that may not count Dagster's runs": (
        "Dagster instance",
        lambda place: place.other_dagster_role(*READ_DAGSTER, "GRANT ALL ON ALL TABLES IN SCHEMA public TO $role"),
    ),
    "a role that may only read Dagster's database": (
        "Dagster instance",
        lambda place: place.other_dagster_role(
            *WRITE_DAGSTER, "ALTER ROLE $role SET default_transaction_read_only TO on"
        ),
    ),
}
"""A name of each condition, the check that finds it, and how it is made."""

BY_HAND: tuple[tuple[str, Callable[[Place, re.Match[str]], object]], ...] = (
    (r"(KLAVIYO_[A-Z_]+)=([^\s,;]+)", lambda place, found: place.setting(**{found[1]: found[2]})),
    (r"set KLAVIYO_ACCOUNT to another name", lambda place, found: place.setting(KLAVIYO_ACCOUNT="another")),
    (r"Set it to a private API key|Check KLAVIYO_API_KEY", lambda place, found: place.new_key(set(READ_SCOPES))),
    (r"create a key with (\S+:read(?:, \S+:read)*)", lambda place, found: place.new_key(set(found[1].split(", ")))),
    (r"[Cc]heck .* KLAVIYO_API_URL", lambda place, found: place.setting(KLAVIYO_API_URL=place.server.url)),
    (r"correct the id in KLAVIYO_CONVERSION_METRIC_ID", lambda place, found: place.metric("RPlacd")),
    (r"set KLAVIYO_CONVERSION_METRIC_ID to a metric", lambda place, found: place.metric("RChkot")),
    (r"Check user, password and database in KLAVIYO_DATABASE_URL", lambda place, found: place.become()),
    (
        r"set KLAVIYO_DAGSTER_DATABASE_URL to a database",
        lambda place, found: place.setting(KLAVIYO_DAGSTER_DATABASE_URL=place.database),
    ),
    (r"Write it as http://host:port", lambda place, found: place.proxy("http://127.0.0.1:1")),
    (r"the proxy in HTTPS_PROXY", lambda place, found: place.proxy(None)),
    (r"Connect as \S+", lambda place, found: place.setting(KLAVIYO_DAGSTER_DATABASE_URL=place.database)),
    (r"Run again later", lambda place, found: place.server.faults.clear()),
    (r"KLAVIYO_DATABASE_URL to the primary", lambda place, found: place.setting(KLAVIYO_DATABASE_URL=place.database)),
    (r"End other sessions", lambda place, found: place.close_others()),
    (r"correct (\S+/dagster\.yaml)", lambda place, found: Path(found[1]).write_text("telemetry: {enabled: false}\n")),
    (r"connect as \S+", lambda place, found: place.setting(KLAVIYO_DATABASE_URL=place.database)),
    (r"(?:ALTER ROLE|CREATE SCHEMA|GRANT) .*?(?=, or |;|$)", lambda place, found: place.sql(found[0])),
    (
        r"keep the account .*, and run DROP SCHEMA … CASCADE for the other",
        lambda place, found: (
            place.setting(KLAVIYO_ACCOUNT="shop"),
            place.sql("DROP SCHEMA IF EXISTS shop_again CASCADE"),
        ),
    ),
    (r"`klaviyo-pipeline ([^`]+)`", lambda place, found: place.run(found[1])),
)
"""What a remedy may say, and what a reader does then."""


@pytest.fixture
def place(
    settings: None,
    postgres_server: str,
    bound_template: str,
    shop: SandboxAccount,
    server: SandboxServer,
    setting: Set,
    tmp_path: Path,
) -> Iterator[Place]:
    role = f"guest_{secrets.token_hex(6)}"
    with (
        throw_away_database(postgres_server, bound_template) as url,
        psycopg.connect(url, autocommit=True) as admin,
    ):
        # Dagster's storage is in the same database, so that the test leaves none behind.
        setting(KLAVIYO_DATABASE_URL=url, KLAVIYO_DAGSTER_DATABASE_URL=url, DAGSTER_HOME="")
        made = Place(setting, shop, server, admin, url, tmp_path, role)
        made.sql("CREATE ROLE $role LOGIN PASSWORD 'hush-hush'", FLOW)
        yield made
        for server in made.servers:
            server.stop()
        made.close_others()
        made.sql("DROP OWNED BY $role CASCADE", "DROP ROLE $role")


@pytest.mark.parametrize("condition", BROKEN)
def test_following_the_remedies_leads_to_an_installation_without_a_fault(condition: str, place: Place) -> None:
    check, make = BROKEN[condition]
    make(place)
    found = wrong()
    assert check in [finding.check for finding in found]
    for _ in range(MOST_STEPS):
        if found:
            follow(place, found[0])
            found = wrong()
    assert found == []
    assert place.admin.execute("SELECT id, raw FROM shop.flows").fetchall() == [("F1", {"id": "F1"})]


def wrong() -> list[Finding]:
    """The findings that tell what to do, in their order."""
    return [finding for finding in diagnose().values() if finding.verdict in ("failed", "warning")]


def follow(place: Place, finding: Finding) -> None:
    """Do what the finding says: the first way, if it names several."""
    text = finding.remedy or finding.found
    first_way = re.split(r",? or (?=\w)", text)[0]
    done = [act(place, match) for words, act in BY_HAND for match in re.finditer(words, first_way)]
    assert done, f"{finding.check} does not say what to do: {text}"
