"""Database faults during a run: while rows, their child rows, the ledger or a census are written, or between pages.

A trigger causes the fault at the third row of the table. Terminated connections and statement timeouts are real. Faults
that cannot be produced, such as a full disk, are raised with the error code of Postgres.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
import pytest
from psycopg import sql
from starlette.requests import Request

from klaviyo_pipeline.postgres import engine
from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres
from klaviyo_pipeline.sandbox.faults import Fault
from klaviyo_pipeline_tests.support import SLUG, reason
from klaviyo_pipeline_tests.torture.matrix import ALWAYS, TARGETS, Defect, Matrix, Target, Undisturbed

THIRD_ROW = 3

TRIGGER = """
CREATE SEQUENCE trouble;
CREATE FUNCTION make_trouble() RETURNS trigger LANGUAGE plpgsql AS $trouble$
DECLARE
    -- A variable, because BETWEEN evaluates its first operand twice.
    number CONSTANT bigint := nextval('{schema}.trouble');
BEGIN
    IF number BETWEEN {first} AND {last} THEN
        {act}
    END IF;
    RETURN NEW;
END $trouble$;
CREATE TRIGGER make_trouble BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION make_trouble();
"""
END_OF_TRIGGER = "DROP FUNCTION make_trouble CASCADE; DROP SEQUENCE trouble"
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'klaviyo_pipeline'"
"""Every connection of the pipeline, and none of the test itself."""


@dataclass(frozen=True)
class Trouble:
    """One kind of fault. `passes`: a retry can succeed, so a single fault must not fail a run."""

    name: str
    passes: bool
    act: str
    reported: str
    """A regular expression for the message of the failed run."""


def _raised(name: str, state: str, message: str, *, passes: bool) -> Trouble:
    return Trouble(name, passes, f"RAISE EXCEPTION '{message}' USING ERRCODE = '{state}';", message)


CUT_ONESELF = "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5);"

TROUBLES = (
    Trouble("connection cut", True, CUT_ONESELF, "terminating connection|closed the connection"),
    _raised("deadlock", "40P01", "deadlock detected", passes=True),
    _raised("serialization failure", "40001", "could not serialize access", passes=True),
    Trouble("statement timeout", False, "PERFORM pg_sleep(5);", "statement timeout"),
    _raised("disk full", "53100", "No space left on device", passes=False),
    _raised("out of memory", "53200", "out of memory", passes=False),
)


@dataclass(frozen=True)
class Case:
    """A fault in a table that a run of the target writes."""

    trouble: Trouble
    target: Target
    table: str
    lasting: bool

    def __str__(self) -> str:
        return f"{self.trouble.name} in {self.table} of {self.target.name}, {'lasting' if self.lasting else 'once'}"


def _target(name: str) -> Target:
    return next(target for target in TARGETS if target.name == name)


TABLES = (
    ("flows", "flows"),
    ("flows", "flow_messages"),
    ("flows", "sync_windows"),
    ("campaigns_census", "campaigns"),
    ("campaigns_census", "census_runs"),
    ("flow_report", "flow_report"),
    ("flow_report", "sync_windows"),
)

CASES = [
    Case(trouble, _target(target), table, lasting)
    for trouble in TROUBLES
    for target, table in TABLES
    for lasting in (False, True)
]


def outcome(matrix: Matrix, case: Case) -> Literal["right", "healed"]:
    """Run the case. Raises `Defect`."""
    expected = matrix.undisturbed(case.target)
    matrix.start_over(case.target)
    with _trouble(matrix, case), _timeout(matrix, case.trouble):
        first = matrix.run(case.target.asset)
    if first.success:
        if case.lasting or not case.trouble.passes:
            raise Defect(f"{case}: the fault had no effect")
        matrix.same(case, expected)
        return "right"
    reported = reason(first)
    if not re.search(case.trouble.reported, reported):
        raise Defect(f"{case}: no clear reason: {reported}")
    if hollow := matrix.tables.hollow_windows(expected.rows):
        raise Defect(f"{case}: synced without their rows: {hollow[:3]}")
    matrix.heal(case)
    matrix.same(case, expected)
    if case.trouble.passes and not case.lasting:
        raise Defect(f"{case}: a temporary fault failed the run: {reported}")
    return "healed"


@contextmanager
def _trouble(matrix: Matrix, case: Case) -> Iterator[None]:
    # A census writes a single row into `census_runs`.
    first = 1 if case.table == "census_runs" else THIRD_ROW
    matrix.pipeline.execute(
        TRIGGER.format(
            schema=SLUG,
            table=case.table,
            first=first,
            last=ALWAYS if case.lasting else first,
            act=case.trouble.act,
        )
    )
    try:
        yield
        [(rows,)] = matrix.pipeline.connection.execute("SELECT last_value FROM trouble").fetchall()
        assert rows >= first, f"{case}: the table was written {rows} times"
    finally:
        matrix.pipeline.execute(END_OF_TRIGGER)


@contextmanager
def _timeout(matrix: Matrix, trouble: Trouble) -> Iterator[None]:
    """Set the statement timeout of this database's sessions to one second."""
    if trouble.name != "statement timeout":
        yield
        return
    database = sql.Identifier(matrix.pipeline.connection.info.dbname)
    matrix.pipeline.connection.execute(sql.SQL("ALTER DATABASE {} SET statement_timeout = '1s'").format(database))
    # Only new sessions have the setting.
    matrix.pipeline.execute(CUT)
    try:
        yield
    finally:
        matrix.pipeline.connection.execute(sql.SQL("ALTER DATABASE {} RESET statement_timeout").format(database))
        matrix.pipeline.execute(CUT)


def at_page(matrix: Matrix, target: Target, happens: Callable[[], Any]) -> Undisturbed:
    """A run in which `happens` is called once, at the request for the middle page. The run must end right."""
    expected = matrix.undisturbed(target)
    matrix.start_over(target)
    left = [expected.requests // 2]

    def strikes(request: Request) -> bool:
        if target.meets(request.url.path):
            left[0] -= 1
            if left[0] == 0:
                happens()
        return False

    matrix.pipeline.server.faults.add(strikes, Fault(), times=ALWAYS)
    result = matrix.run(target.asset)
    matrix.pipeline.server.faults.clear()
    if not result.success:
        raise Defect(f"{target.name}: {reason(result)}")
    return expected


def cut_connections(matrix: Matrix, target: Target) -> None:
    """Between two pages, terminate every connection of the pipeline."""
    case = Case(TROUBLES[0], target, "every session", lasting=False)
    matrix.same(case, at_page(matrix, target, lambda: matrix.pipeline.execute(CUT)))


def restart_server(matrix: Matrix, target: Target, server: EmbeddedPostgres) -> None:
    """Between two pages, restart the server."""

    def restart() -> None:
        server.stop()
        server.start()

    expected = at_page(matrix, target, restart)
    url = matrix.pipeline.database
    matrix.pipeline.connection = psycopg.connect(url, autocommit=True, options=f"-csearch_path={SLUG}")
    matrix.tables = type(matrix.tables)(matrix.pipeline.connection)
    matrix.same(Case(TROUBLES[0], target, "the server", lasting=False), expected)


@contextmanager
def quick_retries() -> Iterator[None]:
    """Make the pauses between attempts at a transaction short. The test of a restart keeps the real pauses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "RETRY_PAUSES", (0.01, 0.02, 0.03))
        yield
