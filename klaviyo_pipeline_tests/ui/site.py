"""A simulated account in a real Postgres, with Dagster's web server and daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx

from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.dev_server import dev_server
from klaviyo_pipeline_tests.support import SLUG, empty_shop, environment

ZONE = "America/New_York"
DAYS = 75
PROGRAM = str(Path(sys.executable).with_name("klaviyo-pipeline"))


@dataclass(frozen=True)
class Site:
    """The UI of an account with windows from `first` to today. The days before today are complete."""

    client: httpx.Client
    sandbox: SandboxServer
    variables: dict[str, str]
    first: date
    today: date
    log: Path

    def url(self, path: str) -> str:
        return str(self.client.base_url.join(path))

    def asset(self, name: str, view: str = "", **query: str) -> str:
        """The URL of an asset's page, or of one of its tabs."""
        requested = {"view": view, **query} if view else query
        return str(httpx.URL(self.url(f"assets/{SLUG}/{name}"), params=requested))

    def run(self, *arguments: str) -> str:
        """The output of a `klaviyo-pipeline` command, which must succeed."""
        return run(self.variables, *arguments)


def run(variables: dict[str, str], *arguments: str) -> str:
    ended = subprocess.run(
        [PROGRAM, *arguments], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextmanager
def site(database: str, folder: Path, assets: Sequence[str], **sizes: int) -> Iterator[Site]:
    """Sync these assets of a generated account (default: all), and serve the UI on a free port."""
    today = datetime.now(UTC).astimezone(ZoneInfo(ZONE)).date()
    first = today - timedelta(days=DAYS)
    shop = generate_account(7, timezone=ZONE, start=first - timedelta(days=400), until=today, **sizes)
    shop.api_keys = empty_shop().api_keys
    with SandboxServer(shop, rate_scale=0) as sandbox:
        variables = environment(shop, sandbox.url, database, folder) | {"KLAVIYO_START_DATE": first.isoformat()}
        run(variables, "sync", *assets)
        log = folder / "webserver.log"
        with dev_server(variables, log) as client:
            yield Site(client, sandbox, variables, first, today, log)
