"""How many sessions of the warehouse a sync opens: Postgres limits them, and refuses one more."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from klaviyo_pipeline.postgres import engine
from klaviyo_pipeline.postgres.engine import POOL_SIZE, create_engine
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.measure_connections import most_at_once
from klaviyo_pipeline_tests.support import empty_shop, environment, pipeline_on, put, throw_away_database, utc

pytestmark = pytest.mark.slow

COMMAND = str(Path(sys.executable).with_name("klaviyo-pipeline"))
CONCURRENTLY = ("flow_report", "campaign_report", "form_report", "segment_report", "tags")
"""Assets that a sync of one account works on at the same time, each in its own process."""


@pytest.fixture
def limited(database: str) -> Iterator[str]:
    """URL of the database for a role that may open only this many sessions. A superuser would have no limit."""
    role = f"limited_{secrets.token_hex(6)}"
    parts = urlsplit(database)
    create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hush-hush' CONNECTION LIMIT {}")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(create.format(sql.Identifier(role), sql.Literal(len(CONCURRENTLY) * POOL_SIZE)))
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
            [COMMAND, "sync", *CONCURRENTLY, "--from", "2025-03-08", "--to", "2025-03-14"],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_thread_that_holds_a_connection_never_takes_a_second_one(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise threads that share a pool can deadlock: a sync of many accounts has one thread for each.
    held: Counter[int] = Counter()
    nested: list[str] = []

    def check_out(*_: object) -> None:
        thread = threading.get_ident()
        held[thread] += 1
        if held[thread] > 1:
            nested.append("".join(traceback.format_stack()))

    def check_in(*_: object) -> None:
        held[threading.get_ident()] -= 1

    def watched(url: str) -> sa.Engine:
        made = create_engine(url)
        sa.event.listen(made, "checkout", check_out)
        sa.event.listen(made, "checkin", check_in)
        return made

    monkeypatch.setattr(engine, "create_engine", watched)
    with pipeline_on(database, empty_shop(), monkeypatch) as pipeline:
        pipeline.checked = True
        for hour in range(4):
            put(pipeline.shop, "flows", f"f{hour}", utc(f"2025-03-09T0{hour}:30:00"))
        figures = {"flow_id": "f0", "flow_message_id": "M", "send_channel": "email"}
        pipeline.shop.set_figures("flow", figures, date(2025, 3, 9), {"recipients": 1})
        for asset in ("flows", "flow_report", "flow_metrics"):
            pipeline.run(asset, "2025-03-08", "2025-03-10")
        for asset in ("flows_census", "tags"):
            pipeline.run(asset)
        assert pipeline.one("SELECT sum(recipients) FROM flow_metrics") == 1
    assert held, "no connection was observed"
    assert nested == []


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
