"""No command, successful or not, leaks the API key or a password.

The tests search the output, every table of the database, every file that Dagster writes, and the arguments of every
process. `orchestration/test_graphql.py` has the same for the web server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline_tests.safety.watched import KEY, PASSWORD, Watched, watched_on
from klaviyo_pipeline_tests.support import SLUG, empty_shop, put, utc

pytestmark = pytest.mark.slow

DAYS = ("--from", "2025-03-09", "--to", "2025-03-12")


@pytest.fixture
def watched(database: str, tmp_path: Path) -> Iterator[Watched]:
    shop = empty_shop()
    put(shop, "flows", "f1", utc("2025-03-10T12:00:00"))
    put(shop, "forms", "o1", utc("2025-03-10T12:00:00"))
    with watched_on(database, tmp_path, shop, SLUG) as watched:
        yield watched


@pytest.mark.timeout(500)
def test_no_command_prints_or_stores_a_secret_whether_it_fails_or_not(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert watched.run("--debug", "sync", "flows", *DAYS) == 0
    # Klaviyo repeats the key in its response.
    reported = {"errors": [{"code": "refused", "detail": f"The key {KEY} is wrong.", "source": {"pointer": KEY}}]}
    for path, status in (("forms", 401), ("segments", 403), ("campaigns", 400)):
        watched.server.faults.add(path_starts(f"/api/{path}"), Fault(status=status, body=reported))
    watched.server.faults.add(path_starts("/api/flows"), Fault(cut_connection=True), times=2)
    assert watched.run("sync", "flows", "forms", "segments", "campaigns", *DAYS, "--force", "--debug") == 1
    assert watched.run("sync", "flows", *DAYS, "--debug", KLAVIYO_API_KEY=f"{KEY}x") == 1
    url = watched.variables["KLAVIYO_DATABASE_URL"]
    unreachable = urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition(":")[0] + ":9").geturl()
    for command, changed in (
        (("sync", "flows"), unreachable),
        (("status",), url.replace("odd_", "not_odd_")),
        (("migrate",), f"{url}?sslmode={PASSWORD}"),
        (("doctor",), url.replace("%", "")),
    ):
        code = watched.run_here(monkeypatch, capfd, *command, "--debug", KLAVIYO_DATABASE_URL=changed)
        assert code == 1, command
    # The database's error message contains the rows.
    with psycopg.connect(watched.database, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {SLUG}.forms ADD CONSTRAINT refused CHECK (name = 'nothing')")
    assert watched.run_here(monkeypatch, capfd, "sync", "forms", *DAYS, "--debug") == 1
    watched.look_everywhere()
