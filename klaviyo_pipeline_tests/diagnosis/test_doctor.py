"""`klaviyo-pipeline doctor`: each fault is one line with a remedy. It writes nothing and prints no secret."""

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

pytestmark = pytest.mark.slow

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
    """Sets environment variables; None unsets a variable."""

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
    """A correct installation before the first sync."""
    setting(
        KLAVIYO_ACCOUNT="shop",
        KLAVIYO_API_URL=server.url,
        KLAVIYO_API_KEY=key_of(shop),
        KLAVIYO_DATABASE_URL=database,
        KLAVIYO_TIMEZONE=shop.timezone,
        KLAVIYO_RATE_SCALE="0",
    )
    monkeypatch.setenv("KLAVIYO_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.0)


def diagnose(ahead: timedelta = timedelta()) -> dict[str, Finding]:
    """The findings by check, on a machine whose clock is ahead by this much."""
    return {finding.check: finding for finding in examine(os.environ, lambda: system_clock() + ahead)}


def checks_not_ok() -> set[str]:
    """The checks that are not ok, including the skipped ones."""
    return {check for check, finding in diagnose().items() if finding.verdict != "ok"}


def sync_before(database: str, account_id: str = "SHOP01") -> None:
    """Prepare the schema like a sync of this account does."""
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


def query_rows(database: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.fixture
def guest(database: str, setting: Set) -> Iterator[str]:
    """A role without any rights, which replaces the role of the warehouse."""
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
    findings = diagnose()
    assert {finding.verdict for finding in findings.values()} == {"ok"}
    assert all(finding.remedy is None for finding in findings.values())
    assert "SHOP01" in findings["account in schema"].found


def test_before_the_first_sync_only_the_migrations_are_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    findings = diagnose()
    assert checks_not_ok() == {"migrations"}
    assert findings["migrations"].verdict == "warning"
    assert "klaviyo-pipeline migrate" in str(findings["migrations"].remedy)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 0
    assert "001_functions.sql" in capsys.readouterr().out


def test_the_checks_leave_a_new_database_empty_and_create_none_for_dagster(database: str) -> None:
    before = query_rows(database, "SELECT count(*) FROM pg_class")
    diagnose()
    assert query_rows(database, "SELECT count(*) FROM pg_class") == before
    assert query_rows(database, "SELECT 1 FROM pg_database WHERE datname = current_database() || '_dagster'") == []


def test_the_checks_write_nothing_into_a_synced_schema(database: str) -> None:
    sync_before(database)
    before = query_rows(database, "SELECT xmin::text, verified_at FROM shop.account")
    diagnose()
    assert query_rows(database, "SELECT xmin::text, verified_at FROM shop.account") == before
    assert query_rows(database, "SELECT * FROM shop.api_pacing") == []


def test_no_report_is_requested_and_each_listing_for_one_object_only(server: SandboxServer) -> None:
    diagnose()
    assert not [entry for entry in server.requests if "report" in entry.path]
    listings = [entry for entry in server.requests if entry.endpoint and entry.endpoint.startswith("get_")]
    sized = {entry.endpoint: entry.query["page[size]"] for entry in listings if "page[size]" in entry.query}
    assert sized == dict.fromkeys(("get_flows", "get_campaigns", "get_forms", "get_segments", "get_tags"), "1")
    assert len(listings) < 15


def test_without_a_key_everything_else_is_still_checked(setting: Set, database: str) -> None:
    sync_before(database)
    setting(KLAVIYO_API_KEY=None)
    findings = diagnose()
    assert findings["API key"].verdict == "failed"
    assert "KLAVIYO_API_KEY is not set" in findings["API key"].found
    assert findings["Klaviyo API"].verdict == "ok"
    assert findings["migrations"].verdict == "ok"
    assert findings["account in schema"].verdict == "skipped"


def test_an_unknown_key_fails_and_is_not_printed(setting: Set, capsys: pytest.CaptureFixture[str]) -> None:
    setting(KLAVIYO_API_KEY="pk_not_known_to_anybody")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    output = capsys.readouterr()
    assert "does not accept the API key" in output.out
    assert "not_known_to_anybody" not in output.out + output.err
    assert diagnose()["scope flows:read"].verdict == "skipped"


@pytest.mark.parametrize("scope", ["accounts", "flows", "campaigns", "forms", "segments", "tags", "metrics"])
def test_a_missing_scope_is_named(scope: str, shop: SandboxAccount, database: str) -> None:
    sync_before(database)
    shop.api_keys = {key_of(shop): set(READ_SCOPES) - {f"{scope}:read"}}
    dependent = {"accounts": {"time zone", "account in schema"}, "metrics": {"conversion metric"}}
    assert checks_not_ok() == {f"scope {scope}:read"} | dependent.get(scope, set())
    finding = diagnose()[f"scope {scope}:read"]
    assert f"{scope}:read" in str(finding.remedy)
    # A key without the scope for tags still syncs everything else.
    assert finding.verdict == ("warning" if scope == "tags" else "failed")


def test_a_retired_revision_fails_with_a_remedy(shop: SandboxAccount) -> None:
    shop.retired_revisions = {"2026-10-15"}
    finding = diagnose()["API revision"]
    assert finding.verdict == "failed"
    assert "KLAVIYO_REVISION" in str(finding.remedy)


@pytest.mark.parametrize(
    ("today", "verdict"),
    [(datetime(2027, 7, 1, tzinfo=UTC), "ok"), (datetime(2028, 9, 1, tzinfo=UTC), "warning")],
)
def test_a_retirement_of_the_revision_within_three_months_is_a_warning(today: datetime, verdict: str) -> None:
    findings = {finding.check: finding for finding in examine(os.environ, lambda: today)}
    assert findings["API revision"].verdict == verdict
    found = findings["API revision"].found
    assert "2026-10-15; deprecated" in found
    assert "2028-10-15" in found


def test_a_time_zone_other_than_the_accounts_fails_with_the_correct_setting(setting: Set) -> None:
    setting(KLAVIYO_TIMEZONE="UTC")
    finding = diagnose()["time zone"]
    assert finding.verdict == "failed"
    assert "KLAVIYO_TIMEZONE=America/New_York" in str(finding.remedy)


def test_another_schema_with_the_same_account_is_a_warning(setting: Set, database: str) -> None:
    sync_before(database)
    setting(KLAVIYO_ACCOUNT="shop_again")
    finding = diagnose()["account in schema"]
    assert (finding.verdict, finding.found) == (
        "warning",
        "SHOP01, which is also in schema shop",
    )
    assert "drop the schema" in str(finding.remedy)


def test_two_accounts_with_one_key_are_a_warning(
    setting: Set, shop: SandboxAccount, server: SandboxServer, tmp_path: Path
) -> None:
    file = tmp_path / "accounts.yaml"
    entries = ", ".join(f"{{slug: {slug}, api_key_env: KLAVIYO_API_KEY}}" for slug in ("shop", "shop_again"))
    file.write_text(f"defaults: {{api_url: '{server.url}', timezone: {shop.timezone}}}\naccounts: [{entries}]\n")
    setting(KLAVIYO_ACCOUNTS_FILE=str(file), KLAVIYO_ACCOUNT="")
    finding = diagnose()["accounts"]
    assert (finding.verdict, finding.found) == (
        "warning",
        "shop and shop_again are the same Klaviyo account, SHOP01",
    )


def test_an_old_name_of_the_time_zone_is_the_same_time_zone(
    shop: SandboxAccount, setting: Set, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_before(database)
    monkeypatch.setattr(shop, "timezone", "US/Eastern")
    findings = diagnose()
    assert findings["time zone"].verdict == "ok"
    assert (
        findings["time zone"].found
        == "America/New_York, the same as the account's (Klaviyo's name for it is US/Eastern)"
    )
    assert findings["account in schema"].verdict == "ok"


def test_how_the_conversion_metric_was_found_is_reported() -> None:
    finding = diagnose()["conversion metric"]
    assert finding.verdict == "ok"
    assert '"Placed Order", the account\'s mapped revenue metric' in finding.found


def test_statistics_that_klaviyo_refuses_for_the_conversion_metric_are_a_warning(database: str) -> None:
    sync_before(database)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO shop.conversion_refusals VALUES ('flow series', 'RPlacd', '{conversion_value}', now())"
        )
    finding = diagnose()["conversion metric"]
    assert finding.verdict == "warning"
    assert "Klaviyo rejects conversion_value in the flow series report" in finding.found
    assert "KLAVIYO_CONVERSION_METRIC_ID" in str(finding.remedy)


def test_a_conversion_metric_that_the_account_lacks_fails(setting: Set) -> None:
    setting(KLAVIYO_CONVERSION_METRIC_ID="NoSuch")
    finding = diagnose()["conversion metric"]
    assert finding.verdict == "failed"
    assert "NoSuch" in finding.found


def test_an_account_without_a_conversion_metric_is_a_warning(shop: SandboxAccount) -> None:
    shop.mapped_metrics = {}
    shop.metrics = {id: metric for id, metric in shop.metrics.items() if metric.name != "Placed Order"}
    assert diagnose()["conversion metric"].verdict == "warning"


def test_an_unreachable_api_fails_without_retries(setting: Set, server: SandboxServer) -> None:
    setting(KLAVIYO_API_URL="http://127.0.0.1:1")
    findings = diagnose()
    assert findings["Klaviyo API"].verdict == "failed"
    assert findings["API key"].verdict == "skipped"
    assert findings["database"].verdict == "ok"
    assert server.requests == []


@pytest.mark.parametrize("answer", [Fault(200, "<html>hello</html>"), Fault(503, "tired"), Fault(302, "")])
def test_a_url_that_does_not_respond_like_klaviyo_fails(answer: Fault, server: SandboxServer) -> None:
    server.faults.add(path_starts("/api/accounts"), answer)
    assert diagnose()["Klaviyo API"].verdict == "failed"


def test_no_request_is_sent_to_an_unencrypted_url(setting: Set) -> None:
    setting(KLAVIYO_API_URL="http://shop.example")
    assert "unencrypted" in diagnose()["Klaviyo API"].found


def test_a_failing_endpoint_fails_its_own_check_only(server: SandboxServer, database: str) -> None:
    sync_before(database)
    server.faults.add(path_starts("/api/forms"), Fault(500), times=2)
    assert checks_not_ok() == {"scope forms:read"}


@pytest.mark.parametrize(("path", "verdict"), [("/api/segments", "failed"), ("/api/tags", "warning")])
def test_a_403_that_names_no_scope_is_reported_with_klaviyos_message(
    path: str, verdict: str, server: SandboxServer
) -> None:
    server.faults.add(path_starts(path), Fault.refusal(OTHER_403S["plan"]))
    finding = diagnose()[f"scope {path.removeprefix('/api/')}:read"]
    assert finding.verdict == verdict
    assert "Klaviyo denied access: Account must have Advanced KDP enabled." in finding.found
    assert "lacks" not in finding.found
    assert not finding.remedy


def test_an_unreachable_database_fails_without_printing_its_password(
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
    findings = diagnose()
    assert findings["scope flows:read"].verdict == "ok"
    assert findings["Dagster instance"].verdict == findings["migrations"].verdict == "skipped"


def test_a_password_that_breaks_the_url_is_not_printed(setting: Set, capsys: pytest.CaptureFixture[str]) -> None:
    setting(KLAVIYO_DATABASE_URL="postgresql://me:hush/hush@127.0.0.1:5432/db")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    output = capsys.readouterr()
    assert "KLAVIYO_DATABASE_URL must have the form" in output.out
    assert "hush" not in output.out + output.err


def test_a_schema_of_another_account_fails(database: str) -> None:
    sync_before(database, account_id="OTHER1")
    finding = diagnose()["account in schema"]
    assert finding.verdict == "failed"
    assert "OTHER1" in finding.found
    assert "KLAVIYO_ACCOUNT" in finding.found


def test_an_edited_migration_fails(database: str) -> None:
    sync_before(database)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE shop.schema_migrations SET sha256 = 'other' WHERE version = 1")
    finding = diagnose()["migrations"]
    assert finding.verdict == "failed"
    assert "001_functions.sql" in finding.found


def test_a_role_that_may_not_create_the_schema_fails_with_the_grant(guest: str) -> None:
    findings = diagnose()
    assert findings["role"].verdict == "failed"
    assert "GRANT CREATE ON DATABASE" in str(findings["role"].remedy)
    assert guest in str(findings["role"].remedy)


def test_a_role_that_cannot_create_dagsters_storage_fails_with_the_setting(guest: str) -> None:
    finding = diagnose()["Dagster instance"]
    assert finding.verdict == "failed"
    assert "KLAVIYO_DAGSTER_DATABASE_URL" in str(finding.remedy)


def test_a_role_that_may_not_write_the_tables_fails_with_the_grant(guest: str, database: str) -> None:
    sync_before(database)
    finding = diagnose()["role"]
    assert finding.verdict == "failed"
    assert "flows_superseded" in finding.found
    [(owner,)] = query_rows(database, "SELECT current_user")
    assert f"role {owner} owns the schema" in finding.found
    grant = f'GRANT "{owner}" TO "{guest}"'
    assert grant in str(finding.remedy)
    assert grant in diagnose()["migrations"].found
    # The remedy works.
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(grant.encode())
    assert {diagnose()[check].verdict for check in ("role", "migrations")} == {"ok"}


def test_a_read_only_role_fails(guest: str, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(sql.Identifier(guest))
        )
    assert "read-only" in diagnose()["role"].found


def test_a_server_that_is_too_old_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse_access, "OLDEST_MAJOR", 99)
    finding = diagnose()["Postgres version"]
    assert (finding.verdict, finding.remedy) == ("failed", "use Postgres 99 or newer")


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_a_pooler_in_transaction_mode_before_dagsters_storage_is_a_warning(
    database: str, server_folder: Path, setting: Set
) -> None:
    sync_before(database)
    with transaction_pooler(database, server_folder, pool_size=1) as pooled:
        setting(KLAVIYO_DAGSTER_DATABASE_URL=pooled)
        finding = diagnose()["Dagster instance"]
    assert (finding.verdict, finding.remedy) == ("warning", "set KLAVIYO_DAGSTER_DATABASE_URL to the server itself")
    assert "a pooler in transaction mode" in finding.found
    setting(KLAVIYO_DAGSTER_DATABASE_URL=database)
    assert diagnose()["Dagster instance"].verdict == "ok"


def test_a_custom_dagster_home_is_opened_and_its_storage_is_named(setting: Set, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    setting(DAGSTER_HOME=str(tmp_path))
    finding = diagnose()["Dagster instance"]
    assert finding.verdict == "ok"
    assert "SqliteRunStorage" in finding.found
    assert str(tmp_path) in finding.found


def test_the_projects_instance_is_opened_only_after_it_was_created(setting: Set, database: str) -> None:
    # An empty DAGSTER_HOME counts as not set. The fixture restores the value after the test.
    setting(KLAVIYO_DAGSTER_DATABASE_URL=database, DAGSTER_HOME="")
    assert "the first run creates them" in diagnose()["Dagster instance"].found
    assert query_rows(database, "SELECT to_regclass('runs')") == [(None,)]
    storage.use_project_instance()
    with DagsterInstance.get():
        pass
    found = diagnose()["Dagster instance"].found
    assert "ProjectRunStorage" in found
    assert "0 runs" in found
    assert str(urlsplit(database).password) not in found


def test_an_invalid_dagster_configuration_fails(setting: Set, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("storage: nonsense\n")
    setting(DAGSTER_HOME=str(tmp_path))
    assert diagnose()["Dagster instance"].verdict == "failed"


def test_a_wrong_clock_is_a_warning(database: str) -> None:
    sync_before(database)
    findings = diagnose(ahead=timedelta(seconds=30))
    assert {check for check, finding in findings.items() if finding.verdict != "ok"} == {"clocks"}
    assert findings["clocks"].verdict == "warning"
    assert "this machine is" in findings["clocks"].found


def test_rows_observed_ahead_of_the_clock_fail_until_the_command_in_the_remedy_resets_them(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sync_before(database)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO shop.flows (id, raw, observed_at) VALUES ('F1', '{}', clock_timestamp() + interval '1 day')"
        )
    finding = diagnose()["observation times"]
    assert (finding.verdict, "1 in flows" in finding.found) == ("failed", True)
    assert "klaviyo-pipeline reset-clock" in str(finding.remedy)
    with pytest.raises(SystemExit) as ended:
        main(["reset-clock", "--yes"])
    assert ended.value.code == 0
    assert "Reset times: 1 in flows." in capsys.readouterr().out
    assert diagnose()["observation times"].verdict == "ok"


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_without_utf8_fails_and_every_command_refuses_it(
    encoding: str, database: str, setting: Set, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"narrow_{secrets.token_hex(6)}"
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' {}"
    with psycopg.connect(database, autocommit=True) as connection:
        provider = sql.SQL("LOCALE_PROVIDER libc" if connection.info.server_version >= 150_000 else "")
        connection.execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(encoding), provider))
        try:
            setting(KLAVIYO_DATABASE_URL=urlsplit(database)._replace(path=f"/{name}").geturl())
            finding = diagnose()["database"]
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


def test_an_invalid_setting_is_one_failed_line(setting: Set, capsys: pytest.CaptureFixture[str]) -> None:
    setting(KLAVIYO_START_DATE="soon")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--format", "json"])
    assert ended.value.code == 1
    reported = json.loads(capsys.readouterr().out)
    assert [(line["check"], line["verdict"]) for line in reported] == [
        ("settings", "failed"),
        ("all other checks", "skipped"),
    ]
    assert "KLAVIYO_START_DATE='soon'" in reported[0]["found"]


def test_json_contains_every_line(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    sync_before(database)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--format", "json"])
    assert ended.value.code == 0
    reported = json.loads(capsys.readouterr().out)
    assert [line["check"] for line in reported] == list(diagnose())
    assert all(line.keys() == {"check", "verdict", "found", "remedy"} for line in reported)


def test_errors_are_reported_on_one_line_without_secrets() -> None:
    known = Secrets.of({"KLAVIYO_API_KEY": "pk_1", "KLAVIYO_DATABASE_URL": "postgresql://me:a%40b@host/db"})
    assert known.one_line(ValueError("key pk_1,\npassword a@b or a%40b\x1b[31m")) == "key ***, password *** or ***�[31m"
    assert "pk_1" not in repr(known)
