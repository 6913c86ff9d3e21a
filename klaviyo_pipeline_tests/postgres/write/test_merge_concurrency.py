"""Several writers of the same rows at once: who waits, who wins, and what history says then."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.channels import CHANNELS
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.write.merge import CountsByWindow, merge
from klaviyo_pipeline.postgres.write.repositories import EntityRepository
from klaviyo_pipeline_tests.postgres.store import SLUG, Store, campaign, flow, frame, minute

Rows = Sequence[dict[str, Any]]
BLOCKED_WITHIN_SECONDS = 20


def await_blocked(store: Store, writer: Future[Any]) -> None:
    """Return once a connection of this database waits for another's row."""
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + BLOCKED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        with store.engine.connect() as connection:
            if connection.execute(waiting).scalar_one():
                return
        assert not writer.done(), "the second writer should have waited for the first"
        time.sleep(0.01)
    raise AssertionError("the second writer never waited")


def write_behind(
    store: Store, entity: str, first: Rows, second: Rows, *, commit: bool = True, **options: Any
) -> CountsByWindow:
    """Two merges: the second begins while the first holds its rows, and goes on when it has ended."""
    target = store.target(entity)
    with ThreadPoolExecutor(1) as pool, store.engine.connect() as holder:
        transaction = holder.begin()
        merge(holder, target, frame(first), **options)
        writer = pool.submit(store.counts_by_window, entity, second, **options)
        await_blocked(store, writer)
        if commit:
            transaction.commit()
        else:
            transaction.rollback()
        return writer.result()


@pytest.mark.parametrize("existing", [True, False], ids=["row exists", "row is new"])
def test_a_writer_that_waited_does_not_replace_a_later_observation(store: Store, existing: bool) -> None:
    if existing:
        store.merge("flows", [flow("a", minute(0), "first")])
    counts_by_window = write_behind(store, "flows", [flow("a", minute(5), "later")], [flow("a", minute(3), "earlier")])
    assert counts_by_window == {}
    assert store.values("SELECT name FROM flows") == ["later"]
    assert [name for name, _, _ in store.history("a")] == (["first", "later"] if existing else ["later"])


@pytest.mark.parametrize("existing", [True, False], ids=["row exists", "row is new"])
def test_a_writer_that_waited_replaces_an_earlier_observation_and_closes_its_history(
    store: Store, existing: bool
) -> None:
    if existing:
        store.merge("flows", [flow("a", minute(0), "first")])
    counts_by_window = write_behind(store, "flows", [flow("a", minute(3), "earlier")], [flow("a", minute(5), "later")])
    assert counts_by_window == {0: RowCounts(updated=1)}
    assert store.history("a")[-2:] == [("earlier", minute(3), minute(5)), ("later", minute(5), None)]


def test_a_writer_that_waited_for_the_same_state_writes_nothing(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), "old")])
    counts_by_window = write_behind(store, "flows", [flow("a", minute(3), "new")], [flow("a", minute(5), "new")])
    assert counts_by_window == {}
    assert store.history("a") == [("old", minute(0), minute(3)), ("new", minute(3), None)]


def test_a_writer_that_waited_for_a_writer_that_failed_writes(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), "old")])
    counts_by_window = write_behind(
        store, "flows", [flow("a", minute(5), "lost")], [flow("a", minute(3), "kept")], commit=False
    )
    assert counts_by_window == {0: RowCounts(updated=1)}
    assert store.history("a") == [("old", minute(0), minute(3)), ("kept", minute(3), None)]


@pytest.mark.parametrize("channels", [("email", "sms"), ("sms", "email")])
def test_the_preferred_channel_wins_between_concurrent_writers(store: Store, channels: tuple[str, str]) -> None:
    first, second = (campaign("a", minute(n), channel) for n, channel in enumerate(channels))
    write_behind(store, "campaigns", [first], [second], precedence={"channel": CHANNELS})
    assert store.values("SELECT channel FROM campaigns") == ["email"]


def at_once(*tasks: Callable[[], None]) -> None:
    """Run every task in a thread of its own; raise what one of them raised."""
    start = threading.Barrier(len(tasks))

    def run(task: Callable[[], None]) -> None:
        start.wait()
        task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        for done in [pool.submit(run, task) for task in tasks]:
            done.result()


def test_writers_of_the_same_rows_in_opposite_order_never_deadlock(store: Store) -> None:
    ids = [f"f{number:03}" for number in range(120)]

    def writer(offset: int, order: list[str]) -> None:
        for round in range(25):
            store.merge("flows", [flow(id, minute(2 * round + offset), f"{offset} {round}") for id in order])

    at_once(lambda: writer(0, ids), lambda: writer(1, ids[::-1]))
    assert set(store.values("SELECT name FROM flows")) == {"1 24"}


def in_order(store: Store, task: Callable[[], Any]) -> Any:
    """What `task` returns, while another writer holds row a and then takes row z: whoever took z first deadlocks."""
    target = store.target("flows")
    with ThreadPoolExecutor(1) as pool, store.engine.connect() as holder:
        transaction = holder.begin()
        merge(holder, target, frame([flow("a", minute(1), "held")]))
        waiting = pool.submit(task)
        await_blocked(store, waiting)
        merge(holder, target, frame([flow("z", minute(1), "held")]))
        transaction.commit()
        return waiting.result()


def test_rows_are_taken_in_the_order_of_their_keys_whatever_the_order_of_the_frame(store: Store) -> None:
    for id in "za":  # the table's own order is not that of the keys either
        store.merge("flows", [flow(id, minute(0))])
    rows = [flow(id, minute(2), "changed") for id in "za"]
    assert in_order(store, lambda: store.merge("flows", rows)) == RowCounts(updated=2)


@pytest.mark.parametrize("known", [[], ["m"]], ids=["all new", "one known"])
def test_new_rows_are_added_in_the_order_of_their_keys_whatever_the_order_of_the_frame(
    store: Store, known: list[str]
) -> None:
    for id in known:
        store.merge("flows", [flow(id, minute(0))])
    rows = [flow(id, minute(2), "changed") for id in ["z", *known, "a"]]
    assert in_order(store, lambda: store.merge("flows", rows)) == RowCounts(updated=len(rows))


def test_a_delete_takes_rows_in_the_order_of_their_keys_too(store: Store) -> None:
    for id in "za":
        store.merge("flows", [flow(id, minute(0))])
    repository = EntityRepository(store.engine, SLUG, "flows", {})
    assert in_order(store, lambda: repository.delete(["z", "a"], minute(2))) == 2


def test_history_stays_whole_under_concurrent_writers(store: Store) -> None:
    ids = [f"f{number}" for number in range(12)]

    def writer(place: int) -> None:
        luck = random.Random(place)
        moments = [minute(3 * number + place) for number in range(30)]
        luck.shuffle(moments)
        for moment in moments:
            some = luck.sample(ids, 6)
            store.merge("flows", [flow(id, moment, luck.choice("XYZ")) for id in some])

    at_once(*(lambda place=place: writer(place) for place in range(3)))
    for id, name, observed_at in store.rows("SELECT id, name, observed_at FROM flows"):
        history = store.history(id)
        assert history[-1] == (name, observed_at, None)
        assert all(until == since for (_, _, until), (_, since, _) in pairwise(history))
        assert all(one != other for (one, _, _), (other, _, _) in pairwise(history)), "two equal states in a row"
