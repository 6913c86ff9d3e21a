"""Objects that are created, changed, archived, deleted and restored, between syncs and during them.

Whatever the sequence: after an undisturbed census the table equals the account. The history contains every state that
such a census read, in order, and only states that the object had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klaviyo_pipeline.orchestration.assets import entity_assets, full_listing
from klaviyo_pipeline.sandbox.faults import Fault
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, put, truth, utc

pytestmark = pytest.mark.slow

DAYS = [f"2025-03-{day:02}" for day in range(10, 14)]
IDS = ["a", "b", "c"]

State = tuple[str, bool, datetime] | None
"""Name, archived and `updated` of an object; None while it does not exist."""


@dataclass(frozen=True)
class Change:
    """A change of an object. An impossible change, such as archiving a deleted object, has no effect."""

    verb: str
    id: str
    day: str


@dataclass(frozen=True)
class Sync:
    """A census, or a run over the days from `first` to `last`; `during` are changes before its request number `at`."""

    first: str | None
    last: str | None
    during: Sequence[Change]
    at: int


changes = st.builds(
    Change,
    verb=st.sampled_from(["save", "save", "archive", "unarchive", "delete", "restore"]),
    id=st.sampled_from(IDS),
    day=st.sampled_from(DAYS),
)
ranges = st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS)).map(sorted)
disturbances = st.lists(changes, max_size=2)
censuses = st.builds(Sync, st.none(), st.none(), disturbances, st.integers(1, 3))
windows = st.builds(
    lambda days, during, at: Sync(days[0], days[1], during, at), ranges, disturbances, st.integers(1, 3)
)
steps = st.lists(st.one_of(changes, changes, censuses, windows), min_size=8, max_size=12)


@dataclass
class Life:
    """The account's objects of one entity, with every state of each, and the states that an undisturbed census read."""

    shop: SandboxAccount
    entity: str
    count: int = 0
    lived: dict[str, list[State]] = field(default_factory=lambda: {id: [None] for id in IDS})
    seen: dict[str, list[State]] = field(default_factory=lambda: {id: [] for id in IDS})

    def apply(self, change: Change) -> None:
        there = change.id in self.shop.objects[self.entity]
        gone = change.id in self.shop.deleted[self.entity]
        self.count += 1
        if change.verb == "save" and not gone:
            moment = utc(f"{change.day}T12:00:00") + timedelta(minutes=self.count)
            more = {} if there else {"archived": False}
            put(self.shop, self.entity, change.id, moment, name=f"name {self.count}", **more)
        elif change.verb in ("archive", "unarchive") and there:
            self.shop.archive(self.entity, change.id, archived=change.verb == "archive")
        elif change.verb == "delete" and there:
            self.shop.delete(self.entity, change.id)
        elif change.verb == "restore" and gone:
            self.shop.restore(self.entity, change.id)
        _note(self.lived[change.id], self.state(change.id))

    def state(self, id: str) -> State:
        found = truth(self.shop, self.entity).get(id)
        return (found[0], found[2], found[1]) if found else None

    def read_census(self, known: set[str]) -> None:
        """An undisturbed census reads every existing object, and finds that all others of the table are deleted."""
        for id in IDS:
            state = self.state(id)
            if state is not None or id in known:
                _note(self.seen[id], state)


def _note(states: list[State], state: State) -> None:
    if not states or states[-1] != state:
        states.append(state)


def in_order(some: Sequence[State], every: Sequence[State]) -> bool:
    """Whether `every` contains `some` in the same order."""
    left = iter(every)
    return all(state in left for state in some)


def run(pipeline: Pipeline, life: Life, sync: Sync) -> None:
    requested = 0

    def disturb(request: Any) -> bool:
        nonlocal requested
        requested += request.url.path.startswith(f"/api/{life.entity}")
        if requested == sync.at:
            requested += 1
            for change in sync.during:
                life.apply(change)
        return False

    if sync.during:
        pipeline.server.faults.add(disturb, Fault())
    if sync.first is None:
        pipeline.run(f"{life.entity}_census")
    else:
        pipeline.run(life.entity, sync.first, sync.last)
    pipeline.server.faults.clear()
    if sync.first is None and not sync.during:
        life.read_census(set(pipeline.rows(f"SELECT id FROM {life.entity}")))
        assert pipeline.stored(life.entity) == truth(pipeline.shop, life.entity)


def history(pipeline: Pipeline, entity: str, id: str) -> Iterator[State]:
    ended = None
    for name, archived, updated, deleted, since, until in pipeline.rows(
        f"SELECT name, archived, updated_at, deleted_at, valid_from, valid_to FROM {entity}_history "
        "WHERE id = %s ORDER BY valid_from",
        id,
    ):
        assert ended in (None, since)
        ended = until
        yield None if deleted else (name, archived, updated)
    assert ended is None


@pytest.fixture(autouse=True)
def one_request_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests in a fixed order, so that changes between two requests are repeatable."""
    for module in (entity_assets, full_listing):
        monkeypatch.setattr(module, "CONCURRENT_LISTINGS", 1)


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, order=st.permutations([(DAYS[0], DAYS[1]), (DAYS[1], DAYS[3])]))
@pytest.mark.parametrize("entity", ["flows", "campaigns"])
def test_any_sequence_of_changes_and_syncs_ends_with_the_accounts_state_and_an_ordered_history(
    entity: str, pipeline: Pipeline, steps: Sequence[Change | Sync], order: Sequence[tuple[str, str]]
) -> None:
    pipeline.execute(f"TRUNCATE {entity}, {entity}_superseded, sync_windows, census_runs, lookup_misses CASCADE")
    for objects in (pipeline.shop.objects, pipeline.shop.deleted):
        objects[entity].clear()
    life = Life(pipeline.shop, entity)
    for step in steps:
        if isinstance(step, Change):
            life.apply(step)
        else:
            run(pipeline, life, step)
    for first, last in order:
        run(pipeline, life, Sync(first, last, (), 1))
    quiet = Sync(None, None, (), 1)
    run(pipeline, life, quiet)
    for id in IDS:
        states = list(history(pipeline, entity, id))
        assert in_order(states, life.lived[id])
        assert in_order(life.seen[id], states)
    before = pipeline.versions(entity, f"{entity}_superseded")
    run(pipeline, life, quiet)
    run(pipeline, life, Sync(DAYS[0], DAYS[-1], (), 1))
    assert pipeline.versions(entity, f"{entity}_superseded") == before
