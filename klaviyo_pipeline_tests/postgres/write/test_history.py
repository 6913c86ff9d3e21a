"""History: every state once, in order, closed once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from klaviyo_pipeline_tests.postgres.store import Store, flow, minute


def states(store: Store, id: str = "a") -> Sequence[str]:
    return [name for name, _, _ in store.history(id)]


def assert_contiguous(store: Store, id: str = "a") -> None:
    """Each state ends when the next begins, and only the last is open and equal to the row."""
    history = store.history(id)
    assert all(until == since for (_, _, until), (_, since, _) in pairwise(history))
    assert [until for _, _, until in history][-1] is None
    [(name, observed_at)] = store.rows("SELECT name, observed_at FROM flows WHERE id = :id", id=id)
    assert history[-1][:2] == (name, observed_at)


def test_a_state_that_comes_back_is_a_state_of_its_own(store: Store) -> None:
    for number, name in enumerate(["A", "B", "A"]):
        store.merge("flows", [flow("a", minute(number), name)])
    assert store.history("a") == [
        ("A", minute(0), minute(1)),
        ("B", minute(1), minute(2)),
        ("A", minute(2), None),
    ]


def test_a_closed_row_is_never_written_again(store: Store) -> None:
    for number, name in enumerate(["A", "B"]):
        store.merge("flows", [flow("a", minute(number), name)])
    closed = "SELECT ctid::text, xmin::text FROM flows_superseded WHERE name = 'A'"
    before = store.rows(closed)
    assert len(before) == 1
    store.merge("flows", [flow("a", minute(2), "C")])
    assert store.rows(closed) == before


def test_an_unchanged_observation_adds_no_history(store: Store) -> None:
    for number in range(3):
        store.merge("flows", [flow("a", minute(number))])
    assert states(store) == ["Welcome"]


def test_a_change_that_only_the_raw_object_has_is_a_state(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), raw={"extra": 1})])
    store.merge("flows", [flow("a", minute(1), raw={"extra": 2})])
    assert [value for value, _, _ in store.history("a", "raw->'extra'")] == [1, 2]
    assert_contiguous(store)


def shown_with(*versions: str) -> dict[str, Any]:
    related = {"relationships": {"form-versions": list(versions)}} if versions else {}
    return {"raw": {"id": "a", "type": "form", "attributes": {"name": "Welcome"}, **related}}


def test_ids_of_related_objects_that_an_older_row_lacks_are_added_and_are_no_state(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), **shown_with())])
    store.merge("flows", [flow("a", minute(1), **shown_with("1", "2"))])
    assert states(store) == ["Welcome"]
    assert store.rows("SELECT observed_at, raw FROM flows") == [(minute(0), shown_with("1", "2")["raw"])]


def test_an_answer_without_the_ids_of_related_objects_changes_nothing(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), **shown_with("1"))])
    store.merge("flows", [flow("a", minute(1), **shown_with())])
    assert states(store) == ["Welcome"]
    assert store.values("SELECT raw FROM flows") == [shown_with("1")["raw"]]


def test_other_ids_of_related_objects_are_a_state(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), **shown_with("1"))])
    store.merge("flows", [flow("a", minute(1), **shown_with("1", "2"))])
    assert states(store) == ["Welcome", "Welcome"]


def test_a_change_that_comes_with_the_first_ids_is_a_state(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), **shown_with())])
    store.merge("flows", [flow("a", minute(1), "B", **shown_with("1"))])
    assert states(store) == ["Welcome", "B"]


def test_a_delete_and_a_return_are_states(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0))])
    store.merge("flows", [flow("a", minute(1), deleted_at=minute(1))])
    store.merge("flows", [flow("a", minute(2))])
    assert store.history("a", "deleted_at") == [
        (None, minute(0), minute(1)),
        (minute(1), minute(1), minute(2)),
        (None, minute(2), None),
    ]
    assert store.values("SELECT deleted_at FROM flows") == [None]


def test_an_earlier_observation_that_comes_late_leaves_no_trace(store: Store) -> None:
    store.merge("flows", [flow("a", minute(2), "C")])
    store.merge("flows", [flow("a", minute(1), "B")])
    assert states(store) == ["C"]


def test_a_duplicate_in_a_batch_is_no_state(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), "A"), flow("a", minute(1), "B")])
    assert store.history("a") == [("B", minute(1), None)]


def test_history_contains_every_column_of_the_table(store: Store) -> None:
    for entity in ("flows", "campaigns", "forms", "segments", "flow_report", "campaign_report", "form_report"):
        target = store.target(entity)
        assert target.superseded is not None
        wanted = {column.name: str(column.type) for column in target.table.columns if column.name != "observed_at"}
        wanted |= {"valid_from": "TIMESTAMP", "valid_to": "TIMESTAMP"}
        assert {column.name: str(column.type) for column in target.superseded.columns} == wanted
        assert {column.name: str(column.type) for column in store.view(f"{entity}_history").columns} == wanted


def test_the_state_at_a_moment_can_be_requested(store: Store) -> None:
    for number, name in enumerate(["A", "B"]):
        store.merge("flows", [flow("a", minute(number), name)])
    query = "SELECT name FROM flows_as_of(CAST(:moment AS timestamptz))"
    assert store.values(query, moment=minute(-1)) == []
    assert store.values(query, moment=minute(0)) == ["A"]
    assert store.values(query, moment=minute(0.99)) == ["A"]
    assert store.values(query, moment=minute(1)) == ["B"]


def test_the_present_state_is_stored_once(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0)), flow("b", minute(0))])
    store.merge("flows", [flow("a", minute(1), "Changed"), flow("b", minute(1))])
    assert store.rows("SELECT id, name, valid_to FROM flows_superseded") == [("a", "Welcome", minute(1))]
    assert store.rows("SELECT id, name FROM flows_history WHERE valid_to IS NULL ORDER BY id") == [
        ("a", "Changed"),
        ("b", "Welcome"),
    ]


def test_the_database_itself_refuses_an_earlier_state_without_an_end(store: Store) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="valid_to"):
        store.run("INSERT INTO flows_superseded (id, raw, valid_from) VALUES ('a', '{}', now())")
