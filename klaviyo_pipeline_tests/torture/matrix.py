"""Each fault on each listing and report, at the first, middle or last page, for one request or for all from there.

A cell of the matrix is a run of the asset with the fault, then a run without it. The cell ends *right* if the first run
succeeds and its tables equal those of an undisturbed run. It ends *healed* if the first run fails with a reason, no
window is recorded as synced without its rows, and the tables are equal after the second run. Anything else is a defect.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa
from starlette.requests import Request

from klaviyo_pipeline.catalog import CENSUSES
from klaviyo_pipeline.planning.planner import Planner, SyncRequest
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline_tests.support import RANGE, Pipeline, key_of, pipeline_on, reason, throw_away_database
from klaviyo_pipeline_tests.torture.faults import ALWAYS, TROUBLES, Document, Trouble, broken_network
from klaviyo_pipeline_tests.torture.shop import FIRST, LAST, small_shop, small_steps
from klaviyo_pipeline_tests.torture.snapshot import State, Tables, difference

Place = Literal["first", "middle", "last"]
PLACES: tuple[Place, ...] = ("first", "middle", "last")


@dataclass(frozen=True)
class Target:
    """The requests that a fault affects: those of this asset's run to this path, or below it.

    `fills` is the asset whose rows are written before the run.
    """

    name: str
    asset: str
    path: str
    fills: str | None = None
    below: bool = False

    def meets(self, path: str) -> bool:
        return path.startswith(f"{self.path}/") if self.below else path == self.path


ENTITIES = ("flows", "campaigns", "forms", "segments")
TARGETS = (
    *(Target(entity, entity, f"/api/{entity}") for entity in ENTITIES),
    *(Target(f"{entity}_census", f"{entity}_census", f"/api/{entity}") for entity in ENTITIES),
    *(Target(f"messages of {asset}", asset, "/api/campaign-messages") for asset in ("campaigns", "campaigns_census")),
    Target("tags", "tags", "/api/tags"),
    Target("flow_report", "flow_report", "/api/flow-series-reports", "flows_census"),
    Target("campaign_report", "campaign_report", "/api/campaign-values-reports", "campaigns_census"),
    Target("form_report", "form_report", "/api/form-series-reports", "forms_census"),
    Target("segment_report", "segment_report", "/api/segment-series-reports", "segments_census"),
    Target("lookup of flows", "flow_report", "/api/flows", below=True),
)


@dataclass(frozen=True)
class Cell:
    """One combination."""

    trouble: Trouble
    target: Target
    place: Place
    lasting: bool

    def __str__(self) -> str:
        return f"{self.trouble.name}, {self.target.name}, {self.place} page, {'lasting' if self.lasting else 'once'}"


CELLS = [
    Cell(trouble, target, place, lasting)
    for trouble in TROUBLES
    for target in TARGETS
    for place in PLACES
    for lasting in (False, True)
]


def sample(one_in: int) -> list[Cell]:
    """A fixed sample of the cells that covers every fault, target, place and duration."""
    # The step has no common divisor with the numbers of targets, places and durations.
    return [cell for number, cell in enumerate(CELLS) if number % one_in == (number // (one_in * 7)) % one_in]


@dataclass
class _Strike:
    """Selects the requests to a target that fail: `times` requests, after the first `skip`."""

    target: Target
    skip: int
    times: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request | httpx.Request) -> bool:
        if not self.target.meets(request.url.path):
            return False
        with self._lock:
            self.skip -= 1
            if self.skip >= 0:
                return False
            self.times -= 1
            return self.times >= 0


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed run of the target: the tables, their rows, and the number of requests."""

    state: State
    rows: list[tuple[str, str, str]]
    requests: int
    document: Document


class Case(Protocol):
    """The fault of a run, described by its text, and the target of the run."""

    @property
    def target(self) -> Target: ...


class Defect(AssertionError):
    """A cell that is neither right nor healed."""


@dataclass
class Matrix:
    """Runs the cells on one account."""

    pipeline: Pipeline
    tables: Tables
    _undisturbed: dict[Target, Undisturbed] = field(default_factory=dict)
    _jobs: dict[str, dg.JobDefinition] = field(default_factory=dict)
    _filled: str | None = None

    def outcome(self, cell: Cell) -> Literal["right", "healed"]:
        """Run the cell. Raises `Defect`."""
        expected = self.undisturbed(cell.target)
        self.start_over(cell.target)
        with self._struck(cell, expected):
            first = self.run(cell.target.asset)
        self.pipeline.server.faults.clear()
        if first.success and not _went_without_tags(first):
            self.same(cell, expected)
            if cell.lasting:
                raise Defect(f"{cell}: nobody noticed")
            return "right"
        if not first.success:
            self._check_failure(cell, first, expected)
        self.heal(cell)
        self.same(cell, expected)
        if cell.trouble.passes and not cell.lasting and not cell.trouble.uncertain:
            raise Defect(f"{cell}: a temporary fault failed the run: {reason(first)}")
        return "healed"

    def undisturbed(self, target: Target) -> Undisturbed:
        """An undisturbed run of this target. It runs once, and its result is kept."""
        if target not in self._undisturbed:
            self.start_over(target)
            with self.pipeline.requested() as requested:
                result = self.run(target.asset)
            assert result.success, reason(result)
            met = [entry for entry in requested if target.meets(entry.path)]
            assert len(met) >= 3, f"{target.name} has only {len(met)} pages"
            document = self._document(met[0].method, met[0].path, met[0].query, met[0].body)
            state = self.tables.state()
            assert state
            self._undisturbed[target] = Undisturbed(state, self.tables.rows_of_windows(), len(met), document)
        return self._undisturbed[target]

    def _document(self, method: str, path: str, query: dict[str, str], body: str) -> Document:
        headers = {
            "Authorization": f"Klaviyo-API-Key {key_of(self.pipeline.shop)}",
            "revision": self.pipeline.account.revision,
            "content-type": "application/vnd.api+json",
        }
        url = self.pipeline.server.url + path
        answer = httpx.request(method, url, params=query, content=body or None, headers=headers)
        document: Document = answer.raise_for_status().json()
        return document

    def start_over(self, target: Target) -> None:
        """Empty the tables that `fills` does not fill. For a census, add an object that does not exist in Klaviyo."""
        if target.fills != self._filled:
            self.tables.clear("census_runs", "api_pacing", *self.tables.names)
            if target.fills is not None:
                result = self.run(target.fills)
                assert result.success, reason(result)
            self._filled = target.fills
        kept = () if target.fills is None else self.tables.of_entity(target.fills)
        self.tables.clear("census_runs", "api_pacing", *(name for name in self.tables.names if name not in kept))
        if target.asset.endswith("_census"):
            entity = target.asset.removesuffix("_census")
            gone = "'gone', '{}', '2025-01-01T00:00Z'"
            self.pipeline.execute(f"INSERT INTO {entity} (id, raw, observed_at) VALUES ({gone})")

    @contextmanager
    def _struck(self, cell: Cell, expected: Undisturbed) -> Iterator[None]:
        skip = {"first": 0, "middle": expected.requests // 2, "last": expected.requests - 1}[cell.place]
        strike = _Strike(cell.target, skip, ALWAYS if cell.lasting else 1)
        trouble = cell.trouble
        if trouble.make is not None:
            self.pipeline.server.faults.add(strike, trouble.make(expected.document), times=ALWAYS)
        with broken_network(strike, trouble.network) if trouble.network else nullcontext():
            yield

    def run(self, asset: str, first: str = str(FIRST), last: str = str(LAST)) -> dg.ExecuteInProcessResult:
        """One run of the asset, over these windows if the asset has windows."""
        key = dg.AssetKey([self.pipeline.account.slug, asset])
        if asset not in self._jobs:
            whole = self.pipeline.definitions.resolve_implicit_global_asset_job_def()
            self._jobs[asset] = whole.get_subset(asset_selection={key}, asset_check_selection=set())
        return self._jobs[asset].execute_in_process(
            instance=self.pipeline.instance,
            tags={} if asset in CENSUSES else dict(zip(RANGE, (first, last), strict=True)),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )

    def _check_failure(self, cell: Cell, first: dg.ExecuteInProcessResult, expected: Undisturbed) -> None:
        """A failed run has a reason, which is also in the ledger, and records no window as synced without its rows."""
        reported = reason(first)
        if "Klaviyo" not in reported and "listing" not in reported and "response" not in reported:
            raise Defect(f"{cell}: no clear reason: {reported}")
        if "day's quota" in cell.trouble.name and "UTC" not in reported:
            raise Defect(f"{cell}: the error does not say when the quota returns: {reported}")
        if hollow := self.tables.hollow_windows(expected.rows):
            raise Defect(f"{cell}: synced without their rows: {hollow[:3]}")
        if cell.target.asset in CENSUSES:
            noted = self.pipeline.rows("SELECT status, error FROM census_runs")
        else:
            noted = [(status, error) for _, status, error in self.tables.windows()]
            if len(noted) != (LAST - FIRST).days + 1:
                raise Defect(f"{cell}: {len(noted)} windows in the ledger")
        if not any(status == "failed" for status, _ in noted):
            raise Defect(f"{cell}: the ledger does not know of the failure")
        if any(status == "failed" and not error for status, error in noted):
            raise Defect(f"{cell}: a failure without its reason")

    def heal(self, cell: Case) -> None:
        """The next run, of the windows that the plan reports as missing, after the quota is restored."""
        self.pipeline.execute("UPDATE api_pacing SET blocked_until = NULL")
        for windows in self._missing(cell.target.asset):
            second = self.run(cell.target.asset, *windows)
            if not second.success:
                raise Defect(f"{cell}: the next run fails too: {reason(second)}")

    def _missing(self, asset: str) -> Sequence[tuple[str, ...]]:
        """First and last window of each run that a sync would plan for the asset."""
        if asset in CENSUSES:
            return [()]
        with self._engine.connect() as connection:
            now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            ranges = Planner(self.pipeline.account, now).windows(connection, asset, SyncRequest([asset], FIRST, LAST))
        return [(windows[0].key, windows[-1].key) for windows in ranges]

    @cached_property
    def _engine(self) -> sa.Engine:
        return create_engine(self.pipeline.database)

    def same(self, cell: Case, expected: Undisturbed) -> None:
        """The tables equal those of an undisturbed run, and the plan is empty."""
        if reported := difference(self.tables.state(), expected.state):
            raise Defect(f"{cell}: {reported}")
        if repeated := self.tables.repeated_states():
            raise Defect(f"{cell}: equal consecutive states in the history: {repeated[:3]}")
        if cell.target.asset not in CENSUSES and self._missing(cell.target.asset):
            raise Defect(f"{cell}: windows are still missing")


@contextmanager
def matrix_on(database: str) -> Iterator[Matrix]:
    """The matrix, on this empty database."""
    with small_steps() as patch, _pipeline(database, patch) as pipeline:
        yield Matrix(pipeline, Tables(pipeline.connection))


@contextmanager
def _pipeline(database: str, patch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(database, small_shop(), patch, lookback_days=0, attribution_days=0) as pipeline:
        yield pipeline


def outcomes_of(server: str, number: int) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Fault, target and outcome of every cell of one target, and the defects."""
    outcomes, defects = [], []
    with throw_away_database(server) as database, matrix_on(database) as torture:
        for cell in [cell for cell in CELLS if cell.target == TARGETS[number]]:
            outcome: str
            try:
                outcome = torture.outcome(cell)
            except Defect as defect:
                outcome = "defect"
                defects.append(str(defect))
            outcomes.append((cell.trouble.name, cell.target.name, outcome))
    return outcomes, defects


def counted(outcomes: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str], Counter[str]]:
    """The number of occurrences of each outcome, by fault and target."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for fault, target, outcome in outcomes:
        counts.setdefault((fault, target), Counter())[outcome] += 1
    return counts


def _went_without_tags(run: dg.ExecuteInProcessResult) -> bool:
    """Whether a census treated a 403 as a missing scope, and reports that it continued without tags."""
    reported = [event.materialization.metadata.get("tags") for event in run.get_asset_materialization_events()]
    return any("not requested" in str(tags.value) for tags in reported if tags is not None)
