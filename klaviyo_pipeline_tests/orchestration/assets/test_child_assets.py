"""Campaign messages, flow actions and flow messages: in separate tables, joined by id, with few requests."""

from __future__ import annotations

from typing import Any

import pytest

from klaviyo_pipeline.sandbox.sandbox_account import Message, SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, put, utc

pytestmark = pytest.mark.slow

DAY = "2025-03-10"
NOON = utc("2025-03-10T12:00:00")
CHILDREN = ("campaign_messages", "flow_actions", "flow_messages")


def mail(id: str, name: str = "Hello", **more: Any) -> Message:
    return Message(id, "email", name, **more)


def put_flow(shop: SandboxAccount, *messages: Message, id: str = "F", **attributes: Any) -> None:
    put(shop, "flows", id, NOON, status="live", messages=messages, **attributes)


def put_campaign(shop: SandboxAccount, *messages: Message, **attributes: Any) -> None:
    put(shop, "campaigns", "C", NOON, messages=messages, send_time=NOON, **attributes)


def sent(pipeline: Pipeline) -> Any:
    """The messages that are not deleted, of actions and flows that are not deleted."""
    return pipeline.rows(
        "SELECT m.id, m.channel, m.subject FROM flow_messages m "
        "JOIN flow_actions a ON a.id = m.action_id AND a.deleted_at IS NULL AND a.flow_id = m.flow_id "
        "JOIN flows f ON f.id = a.flow_id AND f.deleted_at IS NULL WHERE m.deleted_at IS NULL ORDER BY m.id"
    )


def test_a_window_contains_campaigns_with_their_messages(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put_campaign(shop, mail("M1", "Sale!"), Message("M2", "sms", "Hey"), channels=["email", "sms"])
    with pipeline.requested() as requests:
        pipeline.run("campaigns", DAY)
    columns = "campaign_id, id, channel, name, label, subject, send_time"
    assert pipeline.rows(f"SELECT {columns} FROM campaign_messages ORDER BY id") == [
        ("C", "M1", "email", "Sale!", "Sale!", "Sale!", NOON),
        ("C", "M2", "sms", "Hey", "Hey", None, NOON),
    ]
    listed = [one.path for one in requests if one.path.startswith("/api/campaign")]
    assert sorted(listed) == ["/api/campaign-messages", "/api/campaigns", "/api/campaigns"]


def test_a_window_contains_flows_with_their_actions_and_messages(shop: SandboxAccount, pipeline: Pipeline) -> None:
    tested = [mail(f"V{number}", "Either", variation=f"V{number}") for number in (1, 2)]
    put_flow(shop, mail("M1", "Hi"), Message("M2", "sms", "Ho"), *tested)
    with pipeline.requested() as requests:
        pipeline.run("flows", DAY)
    kinds = ["ab-test", "send-email", "send-sms", "time-delay", "time-delay"]
    assert sorted(pipeline.rows("SELECT action_type FROM flow_actions WHERE flow_id = 'F'")) == kinds
    assert sent(pipeline) == [
        ("M1", "email", "Hi"),
        ("M2", "sms", None),
        ("V1", "email", "Either"),
        ("V2", "email", "Either"),
    ]
    assert len([one for one in requests if one.path.startswith("/api/flows")]) == 2


def test_children_of_objects_outside_the_window_are_not_stored(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put_flow(shop, mail("M1"))
    put(shop, "flows", "late", utc("2025-03-11T00:00:01"), messages=[mail("M2")])
    pipeline.run("flows", DAY)
    assert [row[0] for row in sent(pipeline)] == ["M1"]


def test_a_census_deletes_children_that_are_no_longer_listed_and_restores_those_that_return(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put_flow(shop, mail("M1"), mail("M2"))
    put_campaign(shop, mail("N1"), mail("N2"))
    for entity in ("flows", "campaigns"):
        pipeline.run(f"{entity}_census")
    put_flow(shop, mail("M1"))
    put_campaign(shop, mail("N2", "Renamed"))
    for entity in ("flows", "campaigns"):
        pipeline.run(f"{entity}_census")
    assert [row[0] for row in sent(pipeline)] == ["M1"]
    assert pipeline.rows("SELECT id, subject FROM campaign_messages WHERE deleted_at IS NULL") == [("N2", "Renamed")]
    put_flow(shop, mail("M1"), mail("M2"))
    put_campaign(shop, mail("N1"), mail("N2"))
    for entity in ("flows", "campaigns"):
        pipeline.run(f"{entity}_census")
    assert [row[0] for row in sent(pipeline)] == ["M1", "M2"]
    assert pipeline.ids("campaign_messages") == ["N1", "N2"]


def test_added_and_removed_actions_are_states_of_their_flow(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put_flow(shop, mail("M1"))
    pipeline.run("flows", DAY)
    put_flow(shop, mail("M1"), mail("M2"))
    pipeline.run("flows", DAY)
    pipeline.run("flows", DAY)
    counts = pipeline.rows(
        "SELECT jsonb_array_length(raw->'relationships'->'flow-actions') FROM flows_history ORDER BY valid_from"
    )
    assert counts == [1, 3]


def test_a_missing_definition_leaves_the_messages_unchanged(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put_flow(shop, mail("M1", "Hi"))
    pipeline.run("flows", DAY)
    put_flow(shop, mail("M1", "Hi", visible=False))
    pipeline.run("flows", DAY)
    assert sent(pipeline) == [("M1", "email", "Hi")]
    assert pipeline.rows("SELECT action_type, definition FROM flow_actions") == [(None, None)]


def test_a_deleted_flow_takes_its_actions_and_messages_along_until_it_returns(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put_flow(shop, mail("M1"))
    put_flow(shop, mail("M2"), id="stays")
    pipeline.run("flows_census")
    shop.delete("flows", "F")
    pipeline.run("flows_census")
    assert pipeline.ids("flow_messages") == ["M2"]
    assert pipeline.rows("SELECT flow_id FROM flow_actions WHERE deleted_at IS NULL") == ["stays"]
    shop.restore("flows", "F")
    pipeline.run("flows_census")
    assert pipeline.ids("flow_messages") == ["M1", "M2"]


def test_a_census_and_a_lookup_leave_the_rows_of_a_window_unchanged(shop: SandboxAccount, pipeline: Pipeline) -> None:
    tables = ("flows", "flows_superseded", "campaigns", "campaigns_superseded", *CHILDREN)
    put_flow(shop, mail("M1"), mail("M2"))
    put_campaign(shop, mail("N1"), mail("N2"))
    for entity in ("flows", "campaigns"):
        pipeline.run(entity, DAY)
    before = pipeline.versions(*tables)
    for entity in ("flows", "campaigns"):
        pipeline.run(entity, DAY)
        pipeline.run(f"{entity}_census")
    assert pipeline.versions(*tables) == before


def test_a_lookup_by_id_stores_the_children_too(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put(shop, "flows", "old", utc("2019-05-01T12:00:00"), messages=[mail("M1")])
    key = {"flow_id": "old", "flow_message_id": "M1", "send_channel": "email"}
    shop.set_figures("flow", key, NOON.date(), {"recipients": 7, "delivered": 7})
    pipeline.run("flow_report", DAY)
    joined = "SELECT m.name FROM flow_report r JOIN flow_messages m ON m.id = r.flow_message_id"
    assert pipeline.rows(joined) == ["Hello"]


def test_a_failed_batch_leaves_neither_parents_nor_children(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put_flow(shop, mail("M1"))
    pipeline.execute("ALTER TABLE flow_messages ADD CONSTRAINT none_is_good CHECK (id <> 'M1')")
    assert "none_is_good" in pipeline.fail("flows", DAY)
    assert [pipeline.one(f"SELECT count(*) FROM {table}") for table in ("flows", "flow_actions")] == [0, 0]
    assert pipeline.ledger("flows") == [(DAY, "failed")]
