"""How many sessions of the warehouse a sync holds: counted by Postgres, which refuses one more."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from klaviyo_pipeline.postgres.engine import POOL_SIZE
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.measure_connections import most_at_once
from klaviyo_pipeline_tests.support import empty_shop, environment, throw_away_database, utc

COMMAND = str(Path(sys.executable).with_name("klaviyo-pipeline"))
SIDE_BY_SIDE = ("flow_report", "campaign_report", "form_report", "segment_report", "tags")
"""The most that one account's sync works on at once: each is a process."""


@pytest.fixture
def limited(database: str) -> Iterator[str]:
    """URL of the database for a role of its own, which may open only so many sessions; no superuser, they may all."""
    role = f"limited_{secrets.token_hex(6)}"
    parts = urlsplit(database)
    create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hush-hush' CONNECTION LIMIT {}")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(create.format(sql.Identifier(role), sql.Literal(len(SIDE_BY_SIDE) * POOL_SIZE)))
        connection.execute(
            sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(
                sql.Identifier(parts.path.lstrip("/")), sql.Identifier(role)
            )
        )
        yield parts._replace(netloc=f"{role}:hush-hush@{parts.hostname}:{parts.port}").geturl()
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_sync_at_its_widest_opens_no_more_sessions_than_its_processes_may(
    limited: str, postgres_server: str, tmp_path: Path
) -> None:
    begun, until = date(2025, 2, 1), date(2025, 5, 1)
    shop = generate_account(3, flows=6, campaigns=8, forms=4, segments=4, start=begun, until=until)
    shop.api_keys = empty_shop().api_keys
    shop.clock = lambda: utc("2025-03-20T12:00:00")
    with throw_away_database(postgres_server) as dagsters, SandboxServer(shop, rate_scale=0) as server:
        variables = environment(shop, server.url, limited, tmp_path) | {"KLAVIYO_DAGSTER_DATABASE_URL": dagsters}
        done = subprocess.run(
            [COMMAND, "sync", *SIDE_BY_SIDE, "--from", "2025-03-08", "--to", "2025-03-14"],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_sessions_are_counted_while_they_are_open() -> None:
    log = "\n".join(
        f"[{process} {database}] LOG:  {event}"
        for process, database, event in (
            (1, "warehouse", "connection authorized: user=klaviyo"),
            (2, "dagsters", "connection authorized: user=klaviyo"),
            (3, "warehouse", "connection authorized: user=klaviyo"),
            (1, "warehouse", "disconnection: session time: 0:00:00.100"),
            (4, "warehouse", "connection authorized: user=klaviyo"),
            (5, "klaviyo", "connection authorized: user=klaviyo"),
        )
    )
    assert most_at_once(log) == {"warehouse": 2, "dagsters": 1}
