"""Repositories: reading and changing entities by what people ask for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.write.repositories import Criteria, EntityRepository, UnknownFilter
from klaviyo_pipeline_tests.postgres.store import NOON, SLUG, Store, flow, frame, minute

FLOWS = [
    flow("a", minute(0), "Welcome", trigger_type="Metric", updated_at=minute(1)),
    flow("b", minute(0), "Welcome", status="draft", trigger_type="Added to List", updated_at=minute(2)),
    flow("c", minute(0), "Winback", trigger_type="Metric", updated_at=minute(3)),
    flow("d", minute(0), "Old", trigger_type="Metric", updated_at=minute(4), deleted_at=minute(5)),
]


@pytest.fixture
def flows(store: Store) -> EntityRepository:
    store.merge("flows", FLOWS)
    return EntityRepository(store.engine, SLUG, "flows", {})


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_a_row_is_got_by_id_deleted_or_not(flows: EntityRepository) -> None:
    for output in (FLOWS[0], FLOWS[3]):
        row = flows.get(output["id"])
        assert row is not None
        assert {name: row[name] for name in output} == output
    assert flows.get("nowhere") is None


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        (Criteria(), ["a", "b", "c"]),
        (Criteria(deleted=True), ["a", "b", "c", "d"]),
        (Criteria(name="Welcome"), ["a", "b"]),
        (Criteria(name="welcome"), []),
        (Criteria(status="draft"), ["b"]),
        (Criteria(trigger_type="Metric"), ["a", "c"]),
        (Criteria(name="Welcome", trigger_type="Metric"), ["a"]),
        (Criteria(since=minute(2)), ["b", "c"]),
        (Criteria(before=minute(2)), ["a"]),
        (Criteria(since=minute(1), before=minute(3)), ["a", "b"]),
        (Criteria(name="' OR true --"), []),
    ],
)
def test_rows_are_listed_by_name_status_trigger_type_and_date(
    flows: EntityRepository, criteria: Criteria, expected: list[str]
) -> None:
    assert ids(flows.page(criteria, limit=10)) == expected
    assert flows.count(criteria) == {None: len(expected)}


def test_pages_follow_each_other_by_id(flows: EntityRepository) -> None:
    assert ids(flows.page(Criteria(), limit=2)) == ["a", "b"]
    assert ids(flows.page(Criteria(), limit=2, after="b")) == ["c"]
    assert ids(flows.page(Criteria(), limit=2, after="c")) == []


def test_batches_contain_every_row_once(flows: EntityRepository) -> None:
    assert [ids(batch) for batch in flows.batches(Criteria(deleted=True), rows=2)] == [["a", "b"], ["c", "d"]]
    assert list(flows.batches(Criteria(name="none"))) == []


def test_rows_are_counted_by_the_values_of_a_column(flows: EntityRepository) -> None:
    assert flows.count(Criteria(), by="status") == {"live": 2, "draft": 1}
    assert flows.count(Criteria(deleted=True), by="trigger_type") == {"Metric": 3, "Added to List": 1}


@pytest.mark.parametrize(("entity", "filter"), [("campaigns", "trigger_type"), ("segments", "status")])
def test_a_filter_that_the_entity_has_not_is_refused_by_name(store: Store, entity: str, filter: str) -> None:
    repository = EntityRepository(store.engine, SLUG, entity, {})
    with pytest.raises(UnknownFilter, match=f"{entity} have no {filter.replace('_', ' ')}"):
        repository.page(replace(Criteria(), **{filter: "x"}), limit=1)  # type: ignore[arg-type]
    with pytest.raises(UnknownFilter):
        repository.count(Criteria(), by=filter)


def test_saving_creates_and_updates_through_the_merge(store: Store, flows: EntityRepository) -> None:
    rows = [flow("a", minute(9), "Renamed"), flow("e", minute(9))]
    assert flows.save(frame(rows)) == RowCounts(inserted=1, updated=1)
    assert [name for name, _, _ in store.history("a")] == ["Welcome", "Renamed"]
    assert flows.save(frame([flow("a", minute(8), "Late")])) == RowCounts()


def test_a_delete_keeps_the_row_and_its_content_and_is_a_state(store: Store, flows: EntityRepository) -> None:
    assert flows.delete(["a", "b", "nowhere"], minute(9)) == 2
    row = flows.get("a")
    assert row is not None
    assert (row["name"], row["raw"], row["deleted_at"], row["observed_at"]) == (
        "Welcome",
        FLOWS[0]["raw"],
        minute(9),
        minute(9),
    )
    assert store.history("a", "deleted_at") == [(None, minute(0), minute(9)), (minute(9), minute(9), None)]


def test_a_row_that_is_deleted_already_keeps_the_time_of_its_delete(flows: EntityRepository) -> None:
    assert flows.delete(["d"], minute(9)) == 0
    row = flows.get("d")
    assert row is not None
    assert row["deleted_at"] == minute(5)


def test_a_row_that_was_seen_after_the_delete_stays(flows: EntityRepository) -> None:
    assert flows.delete(["a"], minute(-1)) == 0
    assert flows.count(Criteria(name="Welcome")) == {None: 2}


def test_a_deleted_object_that_is_seen_again_is_back(flows: EntityRepository) -> None:
    flows.delete(["a"], minute(8))
    flows.save(frame([flow("a", minute(9))]))
    assert ids(flows.page(Criteria(name="Welcome"), limit=9)) == ["a", "b"]


def test_absent_are_the_ids_that_the_table_lacks(flows: EntityRepository) -> None:
    assert flows.absent(["z", "a", "y", "d"]) == ["y", "z"]
    assert flows.absent([]) == []


def test_an_id_that_klaviyo_lacks_is_not_requested_again_within_a_day(store: Store, flows: EntityRepository) -> None:
    now = store.value("SELECT now()")
    flows.remember_miss("y", now - timedelta(hours=23, minutes=50))
    flows.remember_miss("z", now - timedelta(hours=24, minutes=10))
    assert flows.absent(["y", "z"]) == ["z"]
    flows.remember_miss("z", now)
    assert flows.absent(["y", "z"]) == []


def test_a_miss_of_one_entity_reports_nothing_of_another(store: Store, flows: EntityRepository) -> None:
    flows.remember_miss("y", store.value("SELECT now()"))
    assert EntityRepository(store.engine, SLUG, "forms", {}).absent(["y"]) == ["y"]


def test_the_times_of_a_column_are_reported_by_id(flows: EntityRepository) -> None:
    assert flows.moments("deleted_at", ["a", "d", "nowhere"]) == {"d": minute(5)}
    assert flows.moments("updated_at", ["a"]) == {"a": NOON + timedelta(minutes=1)}
