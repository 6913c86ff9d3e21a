"""The doctor: every trouble is a line of its own with its remedy, nothing is written and nothing secret is shown."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from dagster import DagsterInstance
from psycopg import sql

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.config.settings import SQL_DIR, Account
from klaviyo_pipeline.dagster_internals import storage
from klaviyo_pipeline.diagnosis import clocks, warehouse_access
from klaviyo_pipeline.diagnosis.doctor import examine, system_clock
from klaviyo_pipeline.diagnosis.findings import Finding, Secrets
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.postgres.account_binding import bind_schema
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.sandbox.api_errors import OTHER_403S
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.sandbox_account import READ_SCOPES, SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.pooler import MISSING, PROGRAM, transaction_pooler
from klaviyo_pipeline_tests.support import empty_shop, key_of

NOBODY = "postgresql://me:hush-hush@127.0.0.1:1/db"

Set = Callable[..., None]


@pytest.fixture
def shop() -> SandboxAccount:
    return empty_shop("America/New_York")


@pytest.fixture
def server(shop: SandboxAccount) -> Iterator[SandboxServer]:
    with SandboxServer(shop, rate_scale=0) as server:
        yield server


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Sets environment variables; None takes one away."""

    def change(**values: str | None) -> None:
        for name, value in values.items():
            if value is None:
                monkeypatch.delenv(name)
            else:
                monkeypatch.setenv(name, value)

    return change


@pytest.fixture(autouse=True)
def installation(
    shop: SandboxAccount,
    server: SandboxServer,
    database: str,
    setting: Set,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All as it should be, before the first sync."""
    setting(
        KLAVIYO_ACCOUNT="shop",
        KLAVIYO_API_URL=server.url,
        KLAVIYO_API_KEY=key_of(shop),
        KLAVIYO_DATABASE_URL=database,
        KLAVIYO_TIMEZONE=shop.timezone,
        KLAVIYO_RATE_SCALE="0",
    )
    monkeypatch.setattr(storage, "STATE_DIR", tmp_path / "state")
    monkeypatch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.0)


def look(ahead: timedelta = timedelta()) -> dict[str, Finding]:
    """The findings by check, on a machine whose clock goes ahead by so much."""
    return {finding.check: finding for finding in examine(os.environ, lambda: system_clock() + ahead)}


def trouble() -> set[str]:
    """The checks that are not well, those left out for want of another among them."""
    return {check for check, finding in look().items() if finding.verdict != "ok"}


def sync_before(database: str, account_id: str = "SHOP01") -> None:
    """Leave the schema as a sync of that account would."""
    migrate(database, "shop", SQL_DIR)
    engine = create_engine(database)
    account = Account(slug="shop", timezone="America/New_York")
    with engine.begin() as connection:
        bind_schema(
            connection,
            account,
            account_id=account_id,
            timezone=account.timezone,
            currency=None,
            verified_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    engine.dispose()


def ask(database: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.fixture
def guest(database: str, setting: Set) -> Iterator[str]:
    """A role that owns nothing and may do nothing, in place of the warehouse's."""
    role = f"guest_{secrets.token_hex(6)}"
    parts = urlsplit(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hush-hush'").format(sql.Identifier(role)))
        setting(KLAVIYO_DATABASE_URL=parts._replace(netloc=f"{role}:hush-hush@{parts.hostname}:{parts.port}").geturl())
        yield role
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_all_is_green_on_a_synced_account(database: str) -> None:
    sync_before(database)
    findings = look()
    assert {finding.verdict for finding in findings.values()} == {"ok"}
    assert all(finding.remedy is None for finding in findings.values())
    assert "SHOP01" in findings["account of schema"].found


def test_before_the_first_sync_only_the_migrations_wait(capsys: pytest.CaptureFixture[str]) -> None:
    findings = look()
    assert trouble() == {"migrations"}
    assert findings["migrations"].verdict == "warning"
    assert "klaviyo-pipeline migrate" in str(findings["migrations"].remedy)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 0
    assert "001_entities.sql" in capsys.readouterr().out


def test_looking_leaves_a_fresh_database_empty_and_makes_none_for_dagster(database: str) -> None:
    before = ask(database, "SELECT count(*) FROM pg_class")
    look()
    assert ask(database, "SELECT count(*) FROM pg_class") == before
    assert ask(database, "SELECT 1 FROM pg_database WHERE datname = current_database() || '_dagster'") == []


def test_looking_writes_nothing_into_a_synced_schema(database: str) -> None:
    sync_before(database)
    before = ask(database, "SELECT xmin::text, verified_at FROM shop.account")
    look()
    assert ask(database, "SELECT xmin::text, verified_at FROM shop.account") == before
    assert ask(database, "SELECT * FROM shop.api_pacing") == []


def test_no_report_is_requested_and_listings_only_for_one_object(server: SandboxServer) -> None:
    look()
    assert not [entry for entry in server.requests if "report" in entry.path]
    listings = [entry for entry in server.requests if entry.endpoint and entry.endpoint.startswith("get_")]
    sized = {entry.endpoint: entry.query["page[size]"] for entry in listings if "page[size]" in entry.query}
    assert sized == dict.fromkeys(("get_flows", "get_campaigns", "get_forms", "get_segments", "get_tags"), "1")
    assert len(listings) < 15


def test_without_a_key_the_rest_is_still_looked_at(setting: Set, database: str) -> None:
    sync_before(database)
    setting(KLAVIYO_API_KEY=None)
    findings = look()
    assert findings["API key"].verdict == "failed"
    assert "KLAVIYO_API_KEY is not set" in findings["API key"].found
    assert findings["Klaviyo's address"].verdict == "ok"
    assert findings["migrations"].verdict == "ok"
    assert findings["account of schema"].verdict == "skipped"


def test_a_key_that_klaviyo_does_not_know_is_red_and_not_visible(
    setting: Set, capsys: pytest.CaptureFixture[str]
) -> None:
    setting(KLAVIYO_API_KEY="pk_not_known_to_anybody")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    output = capsys.readouterr()
    assert "does not accept the API key" in output.out
    assert "not_known_to_anybody" not in output.out + output.err
    assert look()["scope flows:read"].verdict == "skipped"


@pytest.mark.parametrize("scope", ["accounts", "flows", "campaigns", "forms", "segments", "tags", "metrics"])
def test_a_scope_that_the_key_lacks_is_reported_and_named(scope: str, shop: SandboxAccount, database: str) -> None:
    sync_before(database)
    shop.api_keys = {key_of(shop): set(READ_SCOPES) - {f"{scope}:read"}}
    dependent = {"accounts": {"time zone", "account of schema"}, "metrics": {"conversion metric"}}
    assert trouble() == {f"scope {scope}:read"} | dependent.get(scope, set())
    finding = look()[f"scope {scope}:read"]
    assert f"{scope}:read" in str(finding.remedy)
    # Everything but the tags is synced without theirs.
    assert finding.verdict == ("warning" if scope == "tags" else "failed")


def test_a_retired_revision_is_red_with_one_that_serves(setting: Set) -> None:
    setting(KLAVIYO_REVISION="2023-01-15")
    finding = look()["API revision"]
    assert finding.verdict == "failed"
    assert "KLAVIYO_REVISION" in str(finding.remedy)


@pytest.mark.parametrize(
    ("today", "verdict"),
    [(datetime(2027, 7, 1, tzinfo=UTC), "ok"), (datetime(2028, 6, 1, tzinfo=UTC), "warning")],
)
def test_a_retirement_of_the_revision_within_three_months_is_a_warning(today: datetime, verdict: str) -> None:
    findings = {finding.check: finding for finding in examine(os.environ, lambda: today)}
    assert findings["API revision"].verdict == verdict
    assert "2028-07-1" in findings["API revision"].found


def test_another_zone_than_the_accounts_is_red_with_the_right_setting(setting: Set) -> None:
    setting(KLAVIYO_TIMEZONE="UTC")
    finding = look()["time zone"]
    assert finding.verdict == "failed"
    assert "KLAVIYO_TIMEZONE=America/New_York" in str(finding.remedy)


def test_another_schema_with_the_same_account_is_a_warning(setting: Set, database: str) -> None:
    sync_before(database)
    setting(KLAVIYO_ACCOUNT="shop_again")
    finding = look()["account of schema"]
    assert (finding.verdict, finding.found) == (
        "warning",
        "SHOP01, as the key's; schema shop holds the same account",
    )
    assert "drop the schema" in str(finding.remedy)


def test_two_accounts_with_one_key_are_a_warning(
    setting: Set, shop: SandboxAccount, server: SandboxServer, tmp_path: Path
) -> None:
    file = tmp_path / "accounts.yaml"
    entries = ", ".join(f"{{slug: {slug}, api_key_env: KLAVIYO_API_KEY}}" for slug in ("shop", "shop_again"))
    file.write_text(f"defaults: {{api_url: '{server.url}', timezone: {shop.timezone}}}\naccounts: [{entries}]\n")
    setting(KLAVIYO_ACCOUNTS_FILE=str(file), KLAVIYO_ACCOUNT="")
    finding = look()["accounts"]
    assert (finding.verdict, finding.found) == (
        "warning",
        "shop and shop_again are the same Klaviyo account, SHOP01",
    )


def test_the_old_name_of_the_zone_is_the_same_zone(
    shop: SandboxAccount, setting: Set, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_before(database)
    monkeypatch.setattr(shop, "timezone", "US/Eastern")
    findings = look()
    assert findings["time zone"].verdict == "ok"
    assert findings["time zone"].found == "America/New_York, as the account's own, which Klaviyo calls US/Eastern"
    assert findings["account of schema"].verdict == "ok"


def test_how_the_conversion_metric_was_found_is_reported() -> None:
    finding = look()["conversion metric"]
    assert finding.verdict == "ok"
    assert '"Placed Order", the account\'s mapped revenue metric' in finding.found


def test_statistics_that_klaviyo_refuses_for_the_conversion_metric_are_warned_of(database: str) -> None:
    sync_before(database)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO shop.conversion_refusals VALUES ('flow series', 'RPlacd', '{conversion_value}', now())"
        )
    finding = look()["conversion metric"]
    assert finding.verdict == "warning"
    assert "Klaviyo refuses conversion_value of the flow series report" in finding.found
    assert "KLAVIYO_CONVERSION_METRIC_ID" in str(finding.remedy)


def test_a_conversion_metric_that_the_account_lacks_is_red(setting: Set) -> None:
    setting(KLAVIYO_CONVERSION_METRIC_ID="NoSuch")
    finding = look()["conversion metric"]
    assert finding.verdict == "failed"
    assert "NoSuch" in finding.found


def test_an_account_in_which_nothing_counts_as_a_conversion_is_warned_of(shop: SandboxAccount) -> None:
    shop.mapped_metrics = {}
    shop.metrics = {id: metric for id, metric in shop.metrics.items() if metric.name != "Placed Order"}
    assert look()["conversion metric"].verdict == "warning"


def test_an_address_where_nobody_answers_is_red_and_costs_no_patience(setting: Set, server: SandboxServer) -> None:
    setting(KLAVIYO_API_URL="http://127.0.0.1:1")
    findings = look()
    assert findings["Klaviyo's address"].verdict == "failed"
    assert findings["API key"].verdict == "skipped"
    assert findings["database"].verdict == "ok"
    assert server.requests == []


@pytest.mark.parametrize("answer", [Fault(200, "<html>hello</html>"), Fault(503, "tired"), Fault(302, "")])
def test_an_address_where_somebody_else_answers_is_red(answer: Fault, server: SandboxServer) -> None:
    server.faults.add(path_starts("/api/accounts"), answer)
    assert look()["Klaviyo's address"].verdict == "failed"


def test_an_address_to_which_the_key_must_not_go_is_requested_nothing(setting: Set) -> None:
    setting(KLAVIYO_API_URL="http://shop.example")
    assert "unencrypted" in look()["Klaviyo's address"].found


def test_trouble_of_one_endpoint_is_reported_as_its_own(server: SandboxServer, database: str) -> None:
    sync_before(database)
    server.faults.add(path_starts("/api/forms"), Fault(500), times=2)
    assert trouble() == {"scope forms:read"}


@pytest.mark.parametrize(("path", "verdict"), [("/api/segments", "failed"), ("/api/tags", "warning")])
def test_a_refusal_that_names_no_scope_is_reported_in_klaviyos_words(
    path: str, verdict: str, server: SandboxServer
) -> None:
    server.faults.add(path_starts(path), Fault.refusal(OTHER_403S["plan"]))
    finding = look()[f"scope {path.removeprefix('/api/')}:read"]
    assert finding.verdict == verdict
    assert "Klaviyo forbids this: Account must have Advanced KDP enabled." in finding.found
    assert "lacks" not in finding.found
    assert not finding.remedy


def test_a_database_that_is_not_there_is_red_without_its_password(
    setting: Set, capsys: pytest.CaptureFixture[str]
) -> None:
    setting(KLAVIYO_DATABASE_URL=NOBODY)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    output = capsys.readouterr()
    assert "cannot connect to Postgres at 127.0.0.1:1/db" in output.out
    assert "hush" not in output.out + output.err
    assert "Traceback" not in output.out + output.err
    findings = look()
    assert findings["scope flows:read"].verdict == "ok"
    assert findings["Dagster instance"].verdict == findings["migrations"].verdict == "skipped"


def test_a_password_that_breaks_the_url_is_not_visible(setting: Set, capsys: pytest.CaptureFixture[str]) -> None:
    setting(KLAVIYO_DATABASE_URL="postgresql://me:hush/hush@127.0.0.1:5432/db")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    output = capsys.readouterr()
    assert "KLAVIYO_DATABASE_URL must read" in output.out
    assert "hush" not in output.out + output.err


def test_a_schema_of_another_account_is_red(database: str) -> None:
    sync_before(database, account_id="OTHER1")
    finding = look()["account of schema"]
    assert finding.verdict == "failed"
    assert "OTHER1" in finding.found
    assert "KLAVIYO_ACCOUNT" in finding.found


def test_a_migration_that_was_edited_is_red(database: str) -> None:
    sync_before(database)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE shop.schema_migrations SET sha256 = 'other' WHERE version = 1")
    finding = look()["migrations"]
    assert finding.verdict == "failed"
    assert "001_entities.sql" in finding.found


def test_a_role_that_may_not_create_the_schema_is_red_with_the_grant(guest: str) -> None:
    findings = look()
    assert findings["role"].verdict == "failed"
    assert "GRANT CREATE ON DATABASE" in str(findings["role"].remedy)
    assert guest in str(findings["role"].remedy)


def test_a_role_that_can_make_no_place_for_dagster_is_reported_the_setting(guest: str) -> None:
    finding = look()["Dagster instance"]
    assert finding.verdict == "failed"
    assert "KLAVIYO_DAGSTER_DATABASE_URL" in str(finding.remedy)


def test_a_role_that_may_not_write_the_tables_is_red(guest: str, database: str) -> None:
    sync_before(database)
    finding = look()["role"]
    assert finding.verdict == "failed"
    assert "flows_superseded" in finding.found
    [(owner,)] = ask(database, "SELECT current_user")
    assert f"role {owner} owns the schema" in finding.found
    grant = f'GRANT "{owner}" TO "{guest}"'
    assert grant in str(finding.remedy)
    assert grant in look()["migrations"].found
    # What it says helps.
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(grant.encode())
    assert {look()[check].verdict for check in ("role", "migrations")} == {"ok"}


def test_a_role_that_only_reads_is_red(guest: str, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(sql.Identifier(guest))
        )
    assert "no writes" in look()["role"].found


def test_a_server_that_is_too_old_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse_access, "OLDEST_MAJOR", 99)
    finding = look()["Postgres version"]
    assert (finding.verdict, finding.remedy) == ("failed", "use Postgres 99 or newer")


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_a_pooler_in_transaction_mode_before_dagsters_storage_is_a_warning(
    database: str, server_folder: Path, setting: Set
) -> None:
    sync_before(database)
    with transaction_pooler(database, server_folder, pool_size=1) as pooled:
        setting(KLAVIYO_DAGSTER_DATABASE_URL=pooled)
        finding = look()["Dagster instance"]
    assert (finding.verdict, finding.remedy) == ("warning", "set KLAVIYO_DAGSTER_DATABASE_URL to the server itself")
    assert "a pooler in transaction mode" in finding.found
    setting(KLAVIYO_DAGSTER_DATABASE_URL=database)
    assert look()["Dagster instance"].verdict == "ok"


def test_a_dagster_home_of_ones_own_is_opened_and_its_storage_named(setting: Set, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    setting(DAGSTER_HOME=str(tmp_path))
    finding = look()["Dagster instance"]
    assert finding.verdict == "ok"
    assert "SqliteRunStorage" in finding.found
    assert str(tmp_path) in finding.found


def test_the_projects_own_instance_is_opened_once_it_is_made_and_not_before(setting: Set, database: str) -> None:
    # An empty DAGSTER_HOME is none; the test's own value is taken back at its end.
    setting(KLAVIYO_DAGSTER_DATABASE_URL=database, DAGSTER_HOME="")
    assert "the first run makes its tables" in look()["Dagster instance"].found
    assert ask(database, "SELECT to_regclass('runs')") == [(None,)]
    storage.use_project_instance()
    with DagsterInstance.get():
        pass
    found = look()["Dagster instance"].found
    assert "PostgresRunStorage" in found
    assert "0 runs" in found
    assert str(urlsplit(database).password) not in found


def test_a_dagster_configuration_that_cannot_be_read_is_red(setting: Set, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("storage: nonsense\n")
    setting(DAGSTER_HOME=str(tmp_path))
    assert look()["Dagster instance"].verdict == "failed"


def test_a_clock_that_goes_wrong_is_a_warning_and_no_failure(database: str) -> None:
    sync_before(database)
    findings = look(ahead=timedelta(seconds=30))
    assert {check for check, finding in findings.items() if finding.verdict != "ok"} == {"clocks"}
    assert findings["clocks"].verdict == "warning"
    assert "this machine is" in findings["clocks"].found


def test_rows_observed_ahead_of_the_clock_are_red_until_the_command_that_is_named_resets_them(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sync_before(database)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO shop.flows (id, raw, observed_at) VALUES ('F1', '{}', clock_timestamp() + interval '1 day')"
        )
    finding = look()["times of observation"]
    assert (finding.verdict, "1 in flows" in finding.found) == ("failed", True)
    assert "klaviyo-pipeline reset-clock" in str(finding.remedy)
    with pytest.raises(SystemExit) as ended:
        main(["reset-clock", "--yes"])
    assert ended.value.code == 0
    assert "Reset 1 in flows." in capsys.readouterr().out
    assert look()["times of observation"].verdict == "ok"


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_contain_utf8_is_red_and_synced_into_by_no_command(
    encoding: str, database: str, setting: Set, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"narrow_{secrets.token_hex(6)}"
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' {}"
    with psycopg.connect(database, autocommit=True) as connection:
        provider = sql.SQL("LOCALE_PROVIDER libc" if connection.info.server_version >= 150_000 else "")
        connection.execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(encoding), provider))
        try:
            setting(KLAVIYO_DATABASE_URL=urlsplit(database)._replace(path=f"/{name}").geturl())
            finding = look()["database"]
            assert finding.verdict == "failed"
            assert f"has the encoding {encoding}" in finding.found
            for command in (["migrate"], ["sync", "flows"]):
                with pytest.raises(SystemExit) as ended:
                    main(command)
                assert ended.value.code == 1
                [line] = capsys.readouterr().err.splitlines()
                assert f"has the encoding {encoding}" in line
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.parametrize(
    ("database_ahead", "klaviyo_ahead", "verdict"),
    [(5, 0, "ok"), (-4, 2, "warning"), (0, -6, "warning"), (None, 6, "warning"), (None, None, "skipped")],
)
def test_any_two_clocks_more_than_five_seconds_apart_are_a_warning(
    database_ahead: int | None, klaviyo_ahead: int | None, verdict: str
) -> None:
    ours = [None if ahead is None else timedelta(seconds=ahead) for ahead in (database_ahead, klaviyo_ahead)]
    assert clocks.compare(database=ours[0], klaviyo=ours[1]).verdict == verdict


def test_a_setting_that_cannot_be_used_is_one_red_line(setting: Set, capsys: pytest.CaptureFixture[str]) -> None:
    setting(KLAVIYO_START_DATE="soon")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--format", "json"])
    assert ended.value.code == 1
    reported = json.loads(capsys.readouterr().out)
    assert [(line["check"], line["verdict"]) for line in reported] == [
        ("settings", "failed"),
        ("everything else", "skipped"),
    ]
    assert "KLAVIYO_START_DATE='soon'" in reported[0]["found"]


def test_json_contains_every_line(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    sync_before(database)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--format", "json"])
    assert ended.value.code == 0
    reported = json.loads(capsys.readouterr().out)
    assert [line["check"] for line in reported] == list(look())
    assert all(line.keys() == {"check", "verdict", "found", "remedy"} for line in reported)


def test_errors_are_reported_on_one_line_without_secrets() -> None:
    kept = Secrets.of({"KLAVIYO_API_KEY": "pk_1", "KLAVIYO_DATABASE_URL": "postgresql://me:a%40b@host/db"})
    assert kept.reported(ValueError("key pk_1,\npassword a@b or a%40b\x1b[31m")) == "key ***, password *** or ***�[31m"
    assert "pk_1" not in repr(kept)
