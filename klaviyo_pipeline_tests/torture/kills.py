"""Syncs that are killed with SIGKILL at random times, with all their processes, and then run again to completion."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.support import SLUG, environment
from klaviyo_pipeline_tests.torture import victim
from klaviyo_pipeline_tests.torture.shop import FIRST, LAST, small_shop
from klaviyo_pipeline_tests.torture.snapshot import State, Tables, difference

ASSETS = (
    ("campaigns", "forms"),
    ("flows", "flows_census", "segments"),
    ("flow_report", "flow_metrics", "tags"),
    ("segments", "segments_census", "campaign_report", "campaign_metrics"),
)
"""The assets of the syncs. Each sync has several listing queries, and therefore several processes."""

SESSIONS_END_SECONDS = 10.0

LEFT_BEHIND = """
SELECT 'temporary table ' || relname FROM pg_class WHERE relpersistence = 't'
UNION ALL
SELECT 'advisory lock' FROM pg_locks WHERE locktype = 'advisory' AND database = (
    SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'session ' || state FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class Defect(AssertionError):
    """A wrong state after a kill."""


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed sync: the content of the tables, the number of events, and the duration."""

    state: State
    rows: list[tuple[str, str, str]]
    events: int
    seconds: float


@dataclass
class Slaughter:
    """Syncs of one small account in one database, which can be killed at a chosen event or time."""

    variables: dict[str, str]
    connection: psycopg.Connection[Any]
    events: Path
    chance: random.Random
    kills: dict[str, int] = field(default_factory=lambda: {"by event": 0, "by time": 0})
    _undisturbed: dict[Sequence[str], Undisturbed] = field(default_factory=dict)

    @property
    def tables(self) -> Tables:
        return Tables(self.connection)

    def undisturbed(self, assets: Sequence[str]) -> Undisturbed:
        """Sync these assets into empty tables."""
        if assets not in self._undisturbed:
            self.start_over()
            began = time.monotonic()
            self.finish(self.start(assets))
            seconds, events = time.monotonic() - began, self.events.stat().st_size
            self._undisturbed[assets] = Undisturbed(self.tables.state(), self.tables.rows_of_windows(), events, seconds)
        return self._undisturbed[assets]

    def round(self, assets: Sequence[str], kills: int) -> None:
        """Start and kill a sync this number of times. Then run a sync to completion: each resumes the previous one."""
        expected = self.undisturbed(assets)
        self.start_over()
        for number in range(kills):
            # After a kill there is less work left, so the next sync has fewer events and takes less time.
            self._kill(assets, expected, 1 / (number + 1))
        self.finish(self.start(assets))
        self.same(expected, "after a kill")

    def at_once(self, assets: Sequence[str]) -> None:
        """Two concurrent syncs of the same windows: both succeed, and the tables equal those of one sync."""
        expected = self.undisturbed(assets)
        self.start_over()
        for process in [self.start(assets, "one"), self.start(assets, "other")]:
            self.finish(process)
        self.same(expected, "after two at once")

    def start_over(self) -> None:
        tables = self.tables
        tables.clear("census_runs", "api_pacing", *tables.names)

    def start(self, assets: Sequence[str], *more: str, kill_at: int | None = None) -> subprocess.Popen[str]:
        """A sync in a separate process group, which kills itself at the event `kill_at`."""
        events = self.events.with_suffix("".join(f".{one}" for one in more)) if more else self.events
        events.unlink(missing_ok=True)
        variables = {victim.EVENTS: str(events), **({victim.KILL_AT: str(kill_at)} if kill_at else {})}
        return subprocess.Popen(
            [sys.executable, "-m", victim.__name__, "sync", *assets, "--from", str(FIRST), "--to", str(LAST)],
            env={**os.environ, **self.variables, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> None:
        """Wait until a sync ends. It must succeed."""
        _, err = process.communicate(timeout=300)
        if process.returncode != 0:
            raise Defect(f"exit code {process.returncode}: {err.strip()[-300:]}")

    def _kill(self, assets: Sequence[str], expected: Undisturbed, share: float) -> None:
        if self.chance.random() < 0.5:
            kill_at = self.chance.randint(1, math.ceil(expected.events * share))
            process, how, reported = self.start(assets, kill_at=kill_at), "by event", f"at event {kill_at}"
            wait = 300.0
        else:
            wait = self.chance.uniform(0.3, expected.seconds * share)
            process, how, reported = self.start(assets), "by time", f"after {wait:.2f} s"
        # The remaining work may have fewer events, or take less time, than the random choice: then the sync completes.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=wait)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _, err = process.communicate()
        if process.returncode not in (0, -signal.SIGKILL):
            raise Defect(f"{' '.join(assets)}, killed {reported}: exit code {process.returncode}: {err.strip()[-300:]}")
        self.kills[how] += process.returncode != 0
        self._check_remains(f"{' '.join(assets)}, killed {reported}", expected)

    def _check_remains(self, what: str, expected: Undisturbed) -> None:
        deadline = time.monotonic() + SESSIONS_END_SECONDS
        while left := self.connection.execute(LEFT_BEHIND).fetchall():
            if time.monotonic() > deadline:
                raise Defect(f"{what}: left behind {left[:5]}")
            time.sleep(0.05)
        if hollow := self.tables.hollow_windows(expected.rows):
            raise Defect(f"{what}: synced without their rows: {hollow[:3]}")

    def same(self, expected: Undisturbed, what: str) -> None:
        """The tables equal those of an undisturbed sync, and no Dagster run has an unfinished status."""
        if reported := difference(self.tables.state(), expected.state):
            raise Defect(f"{what}: {reported}")
        if repeated := self.tables.repeated_states():
            raise Defect(f"{what}: equal consecutive states in the history: {repeated[:3]}")
        going_on = self.connection.execute(
            "SELECT run_id, status FROM public.runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
        ).fetchall()
        stored = self.connection.execute(
            "SELECT run_id FROM public.concurrency_slots WHERE run_id IS NOT NULL"
        ).fetchall()
        if going_on or stored:
            raise Defect(f"{what}: runs that seem unfinished {going_on[:3]}, slots that are not freed {stored[:3]}")


@contextmanager
def slaughter_on(database: str, folder: Path, seed: int) -> Iterator[Slaughter]:
    """Syncs of the small account into this empty database."""
    migrate(database, SLUG, SQL_DIR)
    shop = small_shop()
    with (
        SandboxServer(shop, rate_scale=0) as server,
        psycopg.connect(database, autocommit=True, options=f"-csearch_path={SLUG}") as connection,
    ):
        variables = environment(shop, server.url, database, folder) | {
            "KLAVIYO_LOOKBACK_DAYS": "0",
            "KLAVIYO_ATTRIBUTION_DAYS": "0",
        }
        yield Slaughter(variables, connection, folder / "events", random.Random(seed))
