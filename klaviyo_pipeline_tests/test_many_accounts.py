"""Ten accounts in five zones: each equals what Klaviyo has of it, and one whose key is revoked fails alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
import yaml

from klaviyo_pipeline.sandbox.account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.dev_server import ask, dev_server, ended, launch_of
from klaviyo_pipeline_tests.support import dagster_home, empty_shop, key_of, put, throw_away_database, truth, utc

PROGRAM = str(Path(sys.executable).with_name("klaviyo-pipeline"))
ZONES = ("America/New_York", "Europe/London", "Asia/Tokyo", "Australia/Sydney", "America/Sao_Paulo")
REVOKED = "brand_7"
ASSETS = ("flows", "forms", "flow_report", "flow_metrics")
FIRST, LAST = date(2025, 3, 8), date(2025, 3, 12)
DAYS = ("--from", FIRST.isoformat(), "--to", LAST.isoformat())


@dataclass(frozen=True)
class Brands:
    """Ten accounts behind one address, the file that describes them, and the environment of a shell."""

    shops: dict[str, SandboxAccount]
    server: SandboxServer
    database: str
    variables: dict[str, str] = field(repr=False)

    def run(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PROGRAM, *arguments],
            env={**os.environ, **self.variables, **changed},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        for shop in self.shops.values():
            assert key_of(shop) not in done.stdout + done.stderr
        return done

    def rows(self, query: str, schema: str = "public") -> list[Any]:
        with psycopg.connect(self.database, options=f"-csearch_path={schema}") as connection:
            return connection.execute(query.encode()).fetchall()

    def stored(self, slug: str, entity: str) -> dict[str, tuple[str, datetime]]:
        found = self.rows(f"SELECT id, name, updated_at FROM {entity} WHERE deleted_at IS NULL ORDER BY id", slug)
        return {id: (name, updated) for id, name, updated in found}

    def expected(self, slug: str, entity: str) -> dict[str, tuple[str, datetime]]:
        """What the account has of its own days from FIRST to LAST."""
        zone = ZoneInfo(self.shops[slug].timezone)
        since, until = (datetime.combine(day, time(), zone) for day in (FIRST, LAST + timedelta(days=1)))
        return {id: values[:2] for id, values in truth(self.shops[slug], entity, since, until).items()}


def brand(number: int) -> SandboxAccount:
    """A small account: an object on each side of its own midnights, and figures of its own."""
    shop = empty_shop(ZONES[number % len(ZONES)])
    shop.id = f"BRAND{number}"
    for hour in range(0, 24 * 4, 5):
        put(shop, "flows", f"f{hour}_{number}", utc(f"2025-03-{9 + hour // 24:02}T{hour % 24:02}:30:00"))
    put(shop, "forms", f"o{number}", utc("2025-03-10T12:00:00"))
    key = {"flow_id": f"f0_{number}", "flow_message_id": "M", "send_channel": "email"}
    figures = {"recipients": 10 + number, "delivered": 9, "conversion_value": 12.5 * number}
    shop.set_figures("flow", key, utc("2025-03-10T12:00:00").date(), figures)
    return shop


def brands_in(database: str, folder: Path) -> Iterator[Brands]:
    shops = {f"brand_{number}": brand(number) for number in range(10)}
    keys = {f"KEY_OF_{slug.upper()}": key_of(shop) for slug, shop in shops.items()}
    shops[REVOKED].api_keys = {"pk_another": set()}
    with SandboxServer(list(shops.values()), rate_scale=0) as server:
        file = folder / "accounts.yaml"
        entries = [
            {"slug": slug, "api_key_env": f"KEY_OF_{slug.upper()}", "timezone": shop.timezone}
            for slug, shop in shops.items()
        ]
        defaults = {"api_url": server.url, "rate_scale": 0, "start_date": "2025-03-01"}
        file.write_text(yaml.safe_dump({"defaults": defaults, "accounts": entries}))
        variables = {
            **keys,
            "KLAVIYO_ACCOUNTS_FILE": str(file),
            "KLAVIYO_DATABASE_URL": database,
            "KLAVIYO_DAGSTER_DATABASE_URL": database,
            "KLAVIYO_IGNORE_DOTENV": "1",
            "DAGSTER_HOME": str(dagster_home(folder)),
        }
        yield Brands(shops, server, database, variables)


@pytest.fixture(scope="module")
def synced(
    postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Brands, subprocess.CompletedProcess[str]]]:
    """The ten accounts, synced by one command."""
    with throw_away_database(postgres_server) as database, pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        for brands in brands_in(database, tmp_path_factory.mktemp("brands")):
            yield brands, brands.run("sync", *ASSETS, *DAYS)


Synced = tuple[Brands, "subprocess.CompletedProcess[str]"]


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


def test_the_account_with_a_revoked_key_fails_alone_in_one_line_that_names_it_and_its_key(synced: Synced) -> None:
    brands, done = synced
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"Error: {REVOKED}: Klaviyo does not accept the API key")
    assert f"KEY_OF_{REVOKED.upper()}" in line
    assert brands.rows("SELECT count(*) FROM sync_windows", REVOKED) == [(0,)]
    table = done.stdout.rpartition("account  ")[2]
    assert any(row.split()[:3] == [REVOKED, "all", "failed"] for row in table.splitlines())
    assert sum(row.split()[2:3] == ["done"] for row in table.splitlines()) == 9 * len(ASSETS)


def test_every_run_carries_its_account(synced: Synced) -> None:
    brands, _ = synced
    tagged = brands.rows("SELECT value, count(*) FROM run_tags WHERE key = 'klaviyo/account' GROUP BY 1 ORDER BY 1")
    assert tagged == [(slug, len(ASSETS)) for slug in sorted(brands.shops) if slug != REVOKED]


def test_the_overview_holds_every_account(synced: Synced) -> None:
    brands, _ = synced
    found = brands.rows("SELECT account, sum(recipients)::int FROM klaviyo_overview.flow_metrics GROUP BY 1 ORDER BY 1")
    assert found == [(slug, 10 + int(slug[-1])) for slug in sorted(brands.shops) if slug != REVOKED]


def test_commands_over_accounts_say_whose_line_it_is(synced: Synced) -> None:
    brands, _ = synced
    status = brands.run("status", "--account", "brand_1", "--account", "brand_2", "--format", "json")
    rows = json.loads(status.stdout)
    assert (status.returncode, {row["account"] for row in rows}) == (0, {"brand_1", "brand_2"})
    listed = brands.run("accounts", "--format", "json")
    by_slug = {row["account"]: row for row in json.loads(listed.stdout)}
    assert (len(by_slug), listed.returncode) == (10, 0)
    assert by_slug["brand_1"]["last_synced_at"] > "2025"
    assert by_slug[REVOKED]["last_synced_at"] is None
    assert by_slug["brand_1"]["key_is_set"]


def test_pruning_tells_of_each_account_and_of_the_runs_that_they_share(synced: Synced) -> None:
    brands, _ = synced
    every = brands.run("prune", "--dry-run", "--format", "json")
    told = json.loads(every.stdout)
    assert (every.returncode, [one["of"] for one in told]) == (0, [*brands.shops, "dagster"])
    assert [("events" in one, "census_runs" in one) for one in told] == [(False, True)] * 10 + [(True, False)]
    one = json.loads(brands.run("prune", "--dry-run", "--format", "json", "--account", "brand_1").stdout)
    assert one.keys() >= {"before", "events", "census_runs"}


def test_sizes_are_told_by_account_and_dagsters_once(synced: Synced) -> None:
    brands, _ = synced
    disk = brands.run("status", "--disk", "--format", "json", "--account", "brand_1", "--account", "brand_2")
    tables = [(row["of"], row["table"]) for row in json.loads(disk.stdout)]
    assert {of for of, _ in tables} == {"brand_1", "brand_2", "dagster"}
    assert len(tables) == len(set(tables))
    assert " in 10 schemas, " in brands.run("status").stdout


def test_a_report_is_of_one_account(synced: Synced, tmp_path: Path) -> None:
    brands, _ = synced
    page = tmp_path / "page.html"
    unsaid = brands.run("report", *DAYS, "--out", str(page))
    assert (unsaid.returncode, page.exists()) == (2, False)
    said = brands.run("report", *DAYS, "--out", str(page), "--account", "brand_3")
    assert (said.returncode, said.stderr) == (0, "")
    assert page.exists()


def test_a_command_for_one_account_asks_which(synced: Synced) -> None:
    brands, _ = synced
    unsaid = brands.run("metrics", *DAYS)
    assert (unsaid.returncode, unsaid.stderr.count("\n")) == (2, 1)
    assert "which account?" in unsaid.stderr
    for said in (
        brands.run("metrics", *DAYS, "--account", "brand_3"),
        brands.run("metrics", *DAYS, KLAVIYO_ACCOUNT="brand_3"),
    ):
        assert said.returncode == 0
        assert "f0_3" in said.stdout


@pytest.mark.timeout(600)
def test_ten_accounts_run_side_by_side_on_the_default_launcher_and_the_revoked_key_fails_alone(
    database: str, tmp_path: Path
) -> None:
    for brands in brands_in(database, tmp_path):
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
        assert tagged == [(10,)]
