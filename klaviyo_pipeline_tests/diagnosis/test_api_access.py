"""What `doctor` finds about Klaviyo's API: the key, its scopes, the revision, the account and its metric."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.diagnosis.doctor import examine
from klaviyo_pipeline.sandbox.api_errors import OTHER_403S
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.sandbox_account import READ_SCOPES, SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.diagnosis.installation import Set, checks_not_ok, diagnose
from klaviyo_pipeline_tests.support import key_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("installation")]


def test_no_report_is_requested_and_each_listing_for_one_object_only(server: SandboxServer) -> None:
    diagnose()
    assert not [entry for entry in server.requests if "report" in entry.path]
    listings = [entry for entry in server.requests if entry.endpoint and entry.endpoint.startswith("get_")]
    sized = {entry.endpoint: entry.query["page[size]"] for entry in listings if "page[size]" in entry.query}
    assert sized == dict.fromkeys(("get_flows", "get_campaigns", "get_forms", "get_segments", "get_tags"), "1")
    assert len(listings) < 15


@pytest.mark.usefixtures("synced")
def test_without_a_key_everything_else_is_still_checked(setting: Set) -> None:
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


@pytest.mark.usefixtures("synced")
@pytest.mark.parametrize("scope", ["accounts", "flows", "campaigns", "forms", "segments", "tags", "metrics"])
def test_a_missing_scope_is_named(scope: str, shop: SandboxAccount) -> None:
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


@pytest.mark.usefixtures("synced")
def test_another_schema_with_the_same_account_is_a_warning(setting: Set) -> None:
    setting(KLAVIYO_ACCOUNT="shop_again")
    finding = diagnose()["account in schema"]
    assert (finding.verdict, finding.found) == (
        "warning",
        "SHOP01, which is also in schema shop",
    )
    assert "DROP SCHEMA … CASCADE for the other" in str(finding.remedy)


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


@pytest.mark.usefixtures("synced")
def test_an_old_name_of_the_time_zone_is_the_same_time_zone(
    shop: SandboxAccount, setting: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_statistics_that_klaviyo_refuses_for_the_conversion_metric_are_a_warning(synced: str) -> None:
    with psycopg.connect(synced) as connection:
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


@pytest.mark.usefixtures("synced")
def test_a_failing_endpoint_fails_its_own_check_only(server: SandboxServer) -> None:
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
