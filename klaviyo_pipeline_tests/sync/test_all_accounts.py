"""Ten accounts in five time zones: each equals its Klaviyo account, and only one with a revoked key fails."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from klaviyo_pipeline_tests.brands import FIRST, LAST, REVOKED, Brands, brands_in
from klaviyo_pipeline_tests.cli.shell import Outcome, run_here
from klaviyo_pipeline_tests.dev_server import ask, dev_server, ended, launch_of
from klaviyo_pipeline_tests.support import throw_away_database

pytestmark = pytest.mark.slow

ASSETS = ("flows", "forms", "flow_report", "flow_metrics")
DAYS = ("--from", FIRST.isoformat(), "--to", LAST.isoformat())
AT_ONCE = (0, 3, 7)
"""Accounts of two zones, and the one with a revoked key."""


@pytest.fixture(scope="module")
def synced(
    postgres_server: str, recorded_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Brands, subprocess.CompletedProcess[str]]]:
    """The ten accounts, synced by one command."""
    with throw_away_database(postgres_server, recorded_template) as database, pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        for brands in brands_in(database, tmp_path_factory.mktemp("brands")):
            yield brands, brands.run("sync", *ASSETS, *DAYS)


Synced = tuple[Brands, "subprocess.CompletedProcess[str]"]
Command = Callable[..., Outcome]


@pytest.fixture
def command(synced: Synced, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process, in the environment of the accounts."""
    brands, _ = synced

    def run(*arguments: str, **changed: str) -> Outcome:
        outcome = run_here(arguments, {**brands.variables, **changed}, monkeypatch, capfd)
        brands.check_secrets(outcome.out + outcome.err)
        return outcome

    return run


def test_ten_accounts_in_five_zones_each_equal_their_account(synced: Synced) -> None:
    brands, done = synced
    for slug in brands.shops.keys() - {REVOKED}:
        for entity in ("flows", "forms"):
            assert brands.stored(slug, entity) == brands.expected(slug, entity) != {}, (slug, done.stderr)
        number = int(slug[-1])
        assert brands.rows("SELECT flow_id, recipients, conversion_value FROM flow_metrics", slug) == [
            (f"f0_{number}", 10 + number, 12.5 * number)
        ]


def test_the_windows_of_each_account_are_days_of_its_own_zone(synced: Synced) -> None:
    brands, _ = synced
    for slug in brands.shops.keys() - {REVOKED}:
        zone = brands.shops[slug].timezone
        found = brands.rows(
            f"SELECT count(*), bool_and((window_start AT TIME ZONE '{zone}')::time = '00:00') FROM sync_windows "
            "WHERE entity = 'flows' AND status = 'synced'",
            slug,
        )
        assert found == [(5, True)]


def test_only_the_account_with_a_revoked_key_fails_with_one_line_that_names_it_and_its_key(synced: Synced) -> None:
    brands, done = synced
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"Error: {REVOKED}: Klaviyo does not accept the API key")
    assert f"KEY_OF_{REVOKED.upper()}" in line
    assert brands.rows("SELECT DISTINCT status FROM sync_windows", REVOKED) == [("failed",)]
    table = done.stdout.rpartition("account  ")[2]
    assert any(row.split()[:3] == [REVOKED, "all", "failed"] for row in table.splitlines())
    assert sum(row.split()[2:3] == ["done"] for row in table.splitlines()) == 9 * len(ASSETS)


def test_every_run_is_tagged_with_its_account(synced: Synced) -> None:
    brands, _ = synced
    tagged = brands.rows("SELECT value, count(*) FROM run_tags WHERE key = 'klaviyo/account' GROUP BY 1 ORDER BY 1")
    # A sync that is refused leaves one failed run.
    assert tagged == [(slug, 1 if slug == REVOKED else len(ASSETS)) for slug in sorted(brands.shops)]


def test_the_cross_account_views_contain_every_account(synced: Synced) -> None:
    brands, _ = synced
    found = brands.rows("SELECT account, sum(recipients)::int FROM klaviyo_overview.flow_metrics GROUP BY 1 ORDER BY 1")
    assert found == [(slug, 10 + int(slug[-1])) for slug in sorted(brands.shops) if slug != REVOKED]


def test_commands_over_accounts_prefix_lines_with_the_account(command: Command) -> None:
    status = command("status", "--account", "brand_1", "--account", "brand_2", "--format", "json")
    rows = json.loads(status.out)
    assert (status.code, {row["account"] for row in rows}) == (0, {"brand_1", "brand_2"})
    listed = command("accounts", "--format", "json")
    by_slug = {row["account"]: row for row in json.loads(listed.out)}
    assert (len(by_slug), listed.code) == (10, 0)
    assert by_slug["brand_1"]["last_synced_at"] > "2025"
    assert by_slug[REVOKED]["last_synced_at"] is None
    assert by_slug["brand_1"]["key_is_set"]


def test_pruning_reports_each_account_and_the_runs_that_they_share(synced: Synced, command: Command) -> None:
    brands, _ = synced
    every = command("prune", "--dry-run", "--format", "json")
    reported = json.loads(every.out)
    assert (every.code, [one["of"] for one in reported]) == (0, [*brands.shops, "dagster"])
    assert [("events" in one, "census_runs" in one) for one in reported] == [(False, True)] * 10 + [(True, False)]
    one = json.loads(command("prune", "--dry-run", "--format", "json", "--account", "brand_1").out)
    assert one.keys() >= {"before", "events", "census_runs"}


def test_sizes_are_reported_for_each_account_and_once_for_dagster(command: Command) -> None:
    disk = command("status", "--disk", "--format", "json", "--account", "brand_1", "--account", "brand_2")
    tables = [(row["of"], row["table"]) for row in json.loads(disk.out)]
    assert {of for of, _ in tables} == {"brand_1", "brand_2", "dagster"}
    assert len(tables) == len(set(tables))
    assert " in 10 schemas, " in command("status").out


def test_a_report_covers_one_account(command: Command, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    unsaid = command("report", *DAYS, "--out", str(page))
    assert (unsaid.code, page.exists()) == (2, False)
    messages = command("report", *DAYS, "--out", str(page), "--account", "brand_3")
    assert (messages.code, messages.err) == (0, "")
    assert page.exists()


def test_a_command_for_one_account_requires_its_name(command: Command) -> None:
    unsaid = command("metrics", *DAYS)
    assert (unsaid.code, unsaid.err.count("\n")) == (2, 1)
    assert "choose one with --account" in unsaid.err
    for messages in (
        command("metrics", *DAYS, "--account", "brand_3"),
        command("metrics", *DAYS, KLAVIYO_ACCOUNT="brand_3"),
    ):
        assert messages.code == 0
        assert "f0_3" in messages.out


@pytest.mark.timeout(600)
def test_accounts_run_concurrently_on_the_default_launcher_and_only_the_revoked_key_fails(
    recordable: str, tmp_path: Path
) -> None:
    for brands in brands_in(recordable, tmp_path, numbers=AT_ONCE):
        with dev_server(brands.variables, tmp_path / "webserver.log") as client:
            launched = {}
            for slug in brands.shops:
                body = launch_of(FIRST.isoformat(), LAST.isoformat())
                asset = {"jobName": f"{slug}_entities", "assetSelection": [{"path": [slug, "flows"]}]}
                body["variables"]["run"]["selector"] |= {**asset, "assetCheckSelection": []}
                launched[slug] = ask(client, body)["launchRun"]["run"]["runId"]
            statuses = {slug: ended(client, run_id)["status"] for slug, run_id in launched.items()}
        assert statuses == {slug: "FAILURE" if slug == REVOKED else "SUCCESS" for slug in brands.shops}
        for slug in brands.shops.keys() - {REVOKED}:
            assert brands.stored(slug, "flows") == brands.expected(slug, "flows")
        tagged = brands.rows("SELECT count(DISTINCT value) FROM run_tags WHERE key = 'klaviyo/account'")
        assert tagged == [(len(AT_ONCE),)]
