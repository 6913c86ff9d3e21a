"""The warehouse behind PgBouncer in transaction mode: two syncs at once share a single session of the server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.cli.shell import run_here
from klaviyo_pipeline_tests.pooler import MISSING, PROGRAM, transaction_pooler
from klaviyo_pipeline_tests.support import empty_shop, environment, throw_away_database, truth, utc

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason=MISSING)]

COMMAND = str(Path(sys.executable).with_name("klaviyo-pipeline"))
DAYS = ("--from", "2025-03-08", "--to", "2025-03-14")
ASSETS = ("flows", "campaigns", "forms", "segments", "census", "flow_report", "flow_metrics")
ENTITIES = ("flows", "campaigns", "forms", "segments")
SLUGS = ("shop", "shop_uk")
SECONDS = 280


@dataclass(frozen=True)
class Shop:
    """A sandbox account, and the environment of a sync through the pooler."""

    slug: str
    account: SandboxAccount
    database: str
    variables: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *arguments],
            env={**os.environ, **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def rows(self, query: str) -> list[Any]:
        """The rows of a query, directly from the server."""
        with psycopg.connect(self.database, options=f"-csearch_path={self.slug}") as connection:
            return connection.execute(query.encode()).fetchall()


def ended(process: subprocess.Popen[str]) -> tuple[int | None, str, str]:
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, out, err


def shop_of(number: int) -> SandboxAccount:
    begun, until = date(2025, 2, 1), date(2025, 5, 1)
    shop = generate_account(number, flows=6, campaigns=8, forms=4, segments=4, start=begun, until=until)
    shop.api_keys = empty_shop().api_keys
    shop.clock = lambda: utc("2025-03-20T12:00:00")
    return shop


@pytest.fixture(scope="module")
def synced(
    postgres_server: str, server_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[Shop], list[tuple[int | None, str, str]]]]:
    """Two accounts, synced whole by two commands at the same time, through one session."""
    accounts = [shop_of(3), shop_of(4)]
    with (
        throw_away_database(postgres_server) as database,
        throw_away_database(postgres_server) as one,
        throw_away_database(postgres_server) as another,
        transaction_pooler(database, server_folder, pool_size=1) as pooled,
        SandboxServer(accounts, rate_scale=0) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("DAGSTER_HOME", raising=False)
        shops = []
        for slug, account, dagsters in zip(SLUGS, accounts, (one, another), strict=True):
            variables = environment(account, server.url, pooled, tmp_path_factory.mktemp(slug))
            own = {"KLAVIYO_ACCOUNT": slug, "KLAVIYO_DAGSTER_DATABASE_URL": dagsters}
            shops.append(Shop(slug, account, database, variables | own))
        processes = [shop.start("sync", *ASSETS, *DAYS) for shop in shops]
        yield shops, [ended(process) for process in processes]


SyncedWindow = tuple[list[Shop], list[tuple[int | None, str, str]]]


def test_two_whole_syncs_share_one_session_and_each_table_equals_its_account(synced: SyncedWindow) -> None:
    shops, outcomes = synced
    assert [(code, err) for code, _, err in outcomes] == [(0, ""), (0, "")]
    for shop in shops:
        for entity in ENTITIES:
            expected = {id: values[:2] for id, values in truth(shop.account, entity).items()}
            found = shop.rows(f"SELECT id, name, updated_at FROM {entity} WHERE deleted_at IS NULL")
            assert {id: (name, updated) for id, name, updated in found} == expected != {}, (shop.slug, entity)
        [(reported, summed)] = shop.rows(
            "SELECT (SELECT sum(recipients) FROM flow_report), (SELECT sum(recipients) FROM flow_metrics)"
        )
        assert reported == summed > 0


def test_the_next_sync_through_the_pooler_requests_the_missing_windows(
    synced: SyncedWindow, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shop = synced[0][0]
    days = ("--from", "2025-03-05", "--to", "2025-03-14")
    done = run_here(("sync", "flows", *days), shop.variables, monkeypatch, capfd)
    assert (done.code, done.err) == (0, "")
    found = shop.rows("SELECT count(*) FROM sync_windows WHERE entity = 'flows' AND status = 'synced'")
    assert found == [(10,)], done.out


@pytest.mark.parametrize(
    "command",
    [
        ("status", "--format", "json"),
        ("doctor",),
        ("plan",),
        ("list", "flows"),
        ("metrics", "--from", "2025-03-08", "--to", "2025-03-14", "--format", "json"),
    ],
    ids=lambda command: command[0],
)
def test_a_command_has_the_same_output_with_and_without_the_pooler(
    synced: SyncedWindow, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shop = synced[0][0]
    outputs = []
    for url in (shop.variables["KLAVIYO_DATABASE_URL"], shop.database):
        done = run_here(command, shop.variables | {"KLAVIYO_DATABASE_URL": url}, monkeypatch, capfd)
        outputs.append((done.code, done.out.replace(str(urlsplit(url).port), "PORT"), done.err))
    assert outputs[0] == outputs[1]
