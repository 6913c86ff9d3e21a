"""Windows in any order, overlapping, twice or backwards lead to the same tables. Syncing again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, pipeline_on, put, truth, utc

pytestmark = pytest.mark.slow

DAYS = [f"2025-03-{day:02}" for day in range(8, 14)]
TABLES = ("flows", "flows_superseded", "campaigns", "campaigns_superseded")

Range = tuple[int, int]


def whole(pipeline: Pipeline, entity: str) -> list[Any]:
    """Every column of every row, except the observation time."""
    return pipeline.rows(f"SELECT to_jsonb(t) - 'observed_at' FROM {entity} AS t ORDER BY id")


@pytest.fixture
def busy(migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """A few objects on each day, some of them on its border, archived or in several channels."""
    shop = empty_shop()
    for place, day in enumerate(DAYS):
        midnight = utc(f"{day}T00:00:00")
        for number, hours in enumerate((0, 7, 23.9999)):
            moment = midnight + timedelta(hours=hours)
            put(shop, "flows", f"f{place}{number}", moment, archived=(place + number) % 3 == 0)
            put(shop, "campaigns", f"c{place}{number}", moment, channels=["sms", "email"][number % 2 :], archived=False)
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        yield pipeline


@st.composite
def coverings(draw: st.DrawFn) -> list[Range]:
    """Ranges of days that together cover all of them, in any order, with overlaps and repeats."""
    last = len(DAYS) - 1
    cut = draw(st.integers(0, last - 1))
    more = draw(st.lists(st.tuples(st.integers(0, last), st.integers(0, last)), min_size=1, max_size=2))
    ranges = [(0, cut), (cut + 1, last), *((min(pair), max(pair)) for pair in more)]
    return draw(st.permutations(ranges))


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ranges=coverings())
def test_windows_in_any_order_and_overlapping_lead_to_the_same_tables(busy: Pipeline, ranges: list[Range]) -> None:
    busy.execute(f"TRUNCATE {', '.join(TABLES)}, sync_windows CASCADE")
    for first, last in ranges:
        for entity in ("flows", "campaigns"):
            busy.run(entity, DAYS[first], DAYS[last])
    for entity in ("flows", "campaigns"):
        assert busy.stored(entity) == truth(busy.shop, entity)
        assert busy.one(f"SELECT count(*) FROM {entity}_history") == len(truth(busy.shop, entity))
        assert busy.ledger(entity) == [(day, "synced") for day in DAYS]


def test_windows_one_by_one_backwards_lead_to_the_same_tables_as_one_run(busy: Pipeline) -> None:
    busy.run("flows", DAYS[0], DAYS[-1])
    at_once = whole(busy, "flows")
    busy.execute(f"TRUNCATE {', '.join(TABLES)}, sync_windows CASCADE")
    for day in reversed(DAYS):
        busy.run("flows", day)
    assert whole(busy, "flows") == at_once


def test_the_same_sync_again_changes_no_row(busy: Pipeline) -> None:
    for _ in range(2):
        before = busy.versions(*TABLES)
        for entity in ("flows", "campaigns"):
            busy.run(entity, DAYS[0], DAYS[-1])
    assert busy.versions(*TABLES) == before
    assert busy.one("SELECT sum(rows_unchanged) = sum(rows_fetched) FROM sync_windows") is True


def test_an_object_that_moved_to_a_later_window_is_synced_there_and_not_deleted_by_its_old_one(busy: Pipeline) -> None:
    busy.run("flows", DAYS[0], DAYS[-1])
    put(busy.shop, "flows", "f00", utc(f"{DAYS[-1]}T12:00:00"), name="moved")
    busy.run("flows", DAYS[-1])
    busy.run("flows", DAYS[0])
    assert busy.stored("flows") == truth(busy.shop, "flows")
    names = busy.rows("SELECT name, valid_to IS NULL FROM flows_history WHERE id = 'f00' ORDER BY valid_from")
    assert names == [("flows f00", False), ("moved", True)]


def test_a_change_that_is_undone_makes_three_states(busy: Pipeline) -> None:
    shop: SandboxAccount = busy.shop
    for name in ("A", "B", "A"):
        shop.put("flows", "f01", name=name)
        busy.run("flows", DAYS[0])
    states = busy.rows(
        "SELECT name, coalesce(valid_to = lead(valid_from) OVER (ORDER BY valid_from), valid_to IS NULL) "
        "FROM flows_history WHERE id = 'f01' ORDER BY valid_from"
    )
    assert states == [("A", True), ("B", True), ("A", True)]


def test_an_updated_time_that_is_set_back_is_stored_too(busy: Pipeline) -> None:
    busy.run("flows", DAYS[0], DAYS[-1])
    put(busy.shop, "flows", "f52", utc(f"{DAYS[0]}T12:00:00"), name="earlier")
    busy.run("flows", DAYS[0])
    assert busy.stored("flows") == truth(busy.shop, "flows")
