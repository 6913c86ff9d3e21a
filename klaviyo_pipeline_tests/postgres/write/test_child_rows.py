"""Child rows: written with their parents, deleted with them, and never replaced by an earlier observation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from klaviyo_pipeline.postgres.write.child_rows import Children, ChildTable, ChildWriter, ObservedChildren
from klaviyo_pipeline.postgres.write.repositories import EntityRepository
from klaviyo_pipeline_tests.postgres.store import SLUG, Store, campaign, flow, frame, minute

ACTIONS = ChildTable("flow_actions", "flows", "flow_id")
MESSAGES = ChildTable("flow_messages", "flow_actions", "action_id")


def action(id: str, observed_at: datetime, flow_id: str = "F", status: str = "live") -> dict[str, Any]:
    row = {"id": id, "flow_id": flow_id, "action_type": "send-email", "status": status, "deleted_at": None}
    return {**row, "raw": {"id": id}, "observed_at": observed_at}


def message(id: str, observed_at: datetime, action_id: str = "A", subject: str = "Hi") -> dict[str, Any]:
    row = {"id": id, "action_id": action_id, "flow_id": "F", "subject": subject, "deleted_at": None}
    return {**row, "raw": {"id": id}, "observed_at": observed_at}


def listed(observed_at: datetime, **parents: str) -> dict[str, ObservedChildren]:
    """The children's ids that each parent listed, one letter each."""
    return {parent: ObservedChildren(observed_at, tuple(ids)) for parent, ids in parents.items()}


def write(
    store: Store,
    actions: tuple[list[dict[str, Any]], Mapping[str, ObservedChildren]],
    messages: tuple[list[dict[str, Any]], Mapping[str, ObservedChildren]] = ([], {}),
) -> None:
    children = [
        Children(ACTIONS, frame(actions[0]), actions[1]),
        Children(MESSAGES, frame(messages[0]), messages[1]),
    ]
    with store.engine.begin() as connection:
        ChildWriter(SLUG).write(connection, children)


def living(store: Store, table: str) -> list[Any]:
    return store.values(f"SELECT id FROM {table} WHERE deleted_at IS NULL ORDER BY id")


@pytest.fixture(autouse=True)
def parent(store: Store) -> None:
    store.merge("flows", [flow("F", minute(0)), flow("G", minute(0))])


def test_a_child_that_its_parent_no_longer_lists_is_deleted_at_that_observation(store: Store) -> None:
    write(store, ([action("A", minute(0)), action("B", minute(0))], listed(minute(0), F="AB")))
    write(store, ([action("A", minute(1))], listed(minute(1), F="A")))
    assert store.rows("SELECT id, deleted_at, observed_at FROM flow_actions ORDER BY id") == [
        ("A", None, minute(0)),
        ("B", minute(1), minute(1)),
    ]


def test_a_child_that_is_listed_again_is_restored(store: Store) -> None:
    write(store, ([action("A", minute(0))], listed(minute(0), F="A")))
    write(store, ([], listed(minute(1), F="")))
    assert living(store, "flow_actions") == []
    write(store, ([action("A", minute(2))], listed(minute(2), F="A")))
    assert living(store, "flow_actions") == ["A"]


def test_an_earlier_observation_deletes_and_restores_nothing(store: Store) -> None:
    write(store, ([action("A", minute(5))], listed(minute(5), F="A")))
    write(store, ([action("B", minute(5), flow_id="G")], listed(minute(5), G="B")))
    write(store, ([], listed(minute(6), G="")))
    write(store, ([action("B", minute(4), flow_id="G")], listed(minute(4), F="", G="B")))
    assert living(store, "flow_actions") == ["A"]


def test_a_listed_child_that_is_not_in_the_frame_is_unchanged(store: Store) -> None:
    write(store, ([action("A", minute(0))], listed(minute(0), F="A")))
    before = store.versions("flow_actions")
    write(store, ([], listed(minute(1), F="A")))
    assert store.versions("flow_actions") == before


def test_a_parent_whose_children_were_not_observed_loses_none(store: Store) -> None:
    write(store, ([action("A", minute(0)), action("B", minute(0), flow_id="G")], listed(minute(0), F="A", G="B")))
    write(store, ([], listed(minute(1), G="")))
    assert living(store, "flow_actions") == ["A"]


def test_the_same_children_again_write_nothing(store: Store) -> None:
    for number in (0, 1):
        actions = [action(id, minute(number)) for id in "ABC"]
        write(store, (actions, listed(minute(number), F="ABC")))
        if number == 0:
            before = store.versions("flows", "flow_actions")
    assert store.versions("flows", "flow_actions") == before


def test_the_children_of_a_deleted_child_are_deleted_with_it(store: Store) -> None:
    both = [action("A", minute(0)), action("B", minute(0))]
    messages = [message("M", minute(0)), message("N", minute(0), "B")]
    write(store, (both, listed(minute(0), F="AB")), (messages, listed(minute(0), A="M", B="N")))
    write(store, ([action("A", minute(1))], listed(minute(1), F="A")), ([], {}))
    assert (living(store, "flow_actions"), living(store, "flow_messages")) == (["A"], ["M"])
    assert store.value("SELECT deleted_at FROM flow_messages WHERE id = 'N'") == minute(1)


def test_the_children_of_a_deleted_object_are_deleted_with_it(store: Store) -> None:
    write(
        store,
        ([action("A", minute(0)), action("B", minute(0), flow_id="G")], listed(minute(0), F="A", G="B")),
        ([message("M", minute(0))], listed(minute(0), A="M")),
    )
    repository = EntityRepository(store.engine, SLUG, "flows", {}, [ACTIONS, MESSAGES])
    assert repository.delete(["F"], minute(3)) == 1
    assert (living(store, "flow_actions"), living(store, "flow_messages")) == (["B"], [])
    assert store.values("SELECT deleted_at FROM flow_messages") == [minute(3)]


def test_an_object_observed_after_its_delete_keeps_its_children(store: Store) -> None:
    store.merge("flows", [flow("F", minute(5), "Seen")])
    write(store, ([action("A", minute(5))], listed(minute(5), F="A")))
    repository = EntityRepository(store.engine, SLUG, "flows", {}, [ACTIONS, MESSAGES])
    assert repository.delete(["F"], minute(4)) == 0
    assert living(store, "flow_actions") == ["A"]


def test_a_child_without_a_parent_rolls_the_whole_write_back(store: Store) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="flow_actions_flow_id_fkey"):
        write(store, ([action("A", minute(0)), action("B", minute(0), flow_id="nobody")], {}))
    assert store.values("SELECT id FROM flow_actions") == []


def test_pairs_are_distinguished_by_the_kind_of_their_object(store: Store) -> None:
    store.merge("tags", [{"id": "T", "name": "t", "raw": {}, "observed_at": minute(0)}])
    pair = {"object_id": "X", "tag_id": "T", "deleted_at": None}
    for number, (kind, ids) in enumerate([("flows", "T"), ("segments", "T"), ("flows", "")]):
        table = ChildTable("object_tags", kind, "object_id", "tag_id", {"entity": kind})
        rows = frame([{**pair, "entity": kind, "observed_at": minute(number)}] if ids else [])
        with store.engine.begin() as connection:
            ChildWriter(SLUG).write(connection, [Children(table, rows, listed(minute(number), X=ids))])
    assert store.rows("SELECT entity, deleted_at FROM object_tags ORDER BY entity") == [
        ("flows", minute(2)),
        ("segments", None),
    ]


def write_audiences(store: Store, at: int, revision: str, **audiences: str) -> None:
    """The audiences of the campaign C, by id: the name of each list that they include."""
    table = ChildTable(
        "campaign_audiences", "campaigns", "campaign_id", has_stand_ins=True, are_stand_ins=revision == "2026-07-15"
    )
    unknown = dict.fromkeys(("name", "excluded", "priority", "created_at", "updated_at", "deleted_at"))
    rows = [
        {"id": id, "campaign_id": "C", "included": [name], "revision": revision, "raw": {"id": id}}
        | {**unknown, "observed_at": minute(at)}
        for id, name in audiences.items()
    ]
    observed = {"C": ObservedChildren(minute(at), tuple(audiences), revision)}
    with store.engine.begin() as connection:
        ChildWriter(SLUG).write(connection, [Children(table, frame(rows), observed)])


def test_a_child_that_really_has_its_parents_id_is_no_stand_in(store: Store) -> None:
    store.merge("campaigns", [campaign("C", minute(0), "email")])
    living_ones = "SELECT id, included FROM campaign_audiences WHERE deleted_at IS NULL ORDER BY id"
    write_audiences(store, 1, "2026-10-15", A="one", C="two")
    write_audiences(store, 2, "2026-10-15", A="one", C="two")
    assert store.rows(living_ones) == [("A", ["one"]), ("C", ["two"])]
    write_audiences(store, 3, "2026-07-15", C="one")
    assert store.rows(living_ones) == [("A", ["one"]), ("C", ["two"])]
    write_audiences(store, 4, "2026-10-15", C="two")
    write_audiences(store, 5, "2026-10-15", B="two")
    assert store.rows(living_ones) == [("B", ["two"])]
    assert store.rows("SELECT id FROM campaign_audiences_history ORDER BY id, valid_from") == [
        *[("A",)] * 2,
        ("B",),
        *[("C",)] * 2,
    ]
