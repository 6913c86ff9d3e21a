"""The children of an object: campaign messages, flow actions and flow messages."""

from typing import Any

import pytest

from klaviyo_pipeline.klaviyo.children import included_of
from klaviyo_pipeline.klaviyo.listing_revisions import FLAT_CAMPAIGNS
from klaviyo_pipeline.klaviyo.listings import FLOWS
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.klaviyo.tags import TAGS

from .conftest import Bench
from .fakes import NOON
from .resources import campaign, flow, page
from .scripted_server import ok

MAIL = {"id": "M1", "name": "Hello", "subject_line": "Hi there", "preview_text": "…", "template_id": "T1"}
SEND = {"id": "A1", "type": "send-email", "data": {"status": "live", "message": MAIL}}


def action(id: str, definition: object, **attributes: object) -> dict[str, Any]:
    reported = {"definition": definition, "created": "2026-01-01T10:00:00+00:00", "updated": None}
    return {"type": "flow-action", "id": id, "attributes": reported | attributes}


def message(id: str, definition: object, **attributes: object) -> dict[str, Any]:
    return {"type": "campaign-message", "id": id, "attributes": {"definition": definition} | attributes}


def naming(parent: dict[str, Any], relationship: str, *ids: str) -> dict[str, Any]:
    data = [{"type": relationship.removesuffix("s"), "id": id} for id in ids]
    return parent | {"relationships": {relationship: {"data": data, "links": {}}}}


def flow_with(*actions: dict[str, Any]) -> Record:
    resource = naming(flow("F1"), "flow-actions", *(one["id"] for one in actions))
    return FLOWS.record(resource, None, included_of({"included": list(actions)}))


def campaign_with(*messages: dict[str, Any]) -> Record:
    resource = naming(campaign("C1"), "campaign-messages", *(one["id"] for one in messages))
    return FLAT_CAMPAIGNS.record(resource, "email", included_of({"included": list(messages)}))


def messages_of(record: Record) -> dict[str, dict[str, object]]:
    actions = record.children["flow_actions"].records
    return {one.id: one.values for each in actions for one in each.children["flow_messages"].records}


def test_a_campaign_message_becomes_typed_columns() -> None:
    content = {"subject": "Sale!", "preview_text": "50%", "from_email": "a@b.example", "from_label": "Shop"}
    times = [{"datetime": "2026-06-01T10:00:00+00:00", "is_local": False}]
    definition = {"channel": "email", "label": "First", "content": content}
    resource = message("M1", definition, send_times=times, created_at="2026-05-01T10:00:00.5+00:00", updated_at=None)
    [read] = campaign_with(resource).children["campaign_messages"].records
    assert read.values.pop("created_at") is not None
    assert read.values == {
        "id": "M1",
        "campaign_id": "C1",
        "audience_id": None,
        "name": "First",
        "status": "sent",
        "send_time": None,
        "send_strategy": None,
        "ab_test": None,
        "revision": "2026-07-15",
        "channel": "email",
        "label": "First",
        "subject": "Sale!",
        "preview_text": "50%",
        "from_email": "a@b.example",
        "from_label": "Shop",
        "send_times": times,
        "updated_at": None,
        "raw": {"id": "M1", "type": "campaign-message", "attributes": resource["attributes"]},
    }


def test_a_flow_action_and_its_message_become_typed_columns() -> None:
    [read] = flow_with(action("A1", SEND)).children["flow_actions"].records
    assert {name: read.values[name] for name in ("id", "flow_id", "action_type", "status", "definition")} == {
        "id": "A1",
        "flow_id": "F1",
        "action_type": "send-email",
        "status": "live",
        "definition": SEND,
    }
    [sent] = read.children["flow_messages"].records
    assert sent.values == {
        "id": "M1",
        "action_id": "A1",
        "flow_id": "F1",
        "channel": "email",
        "name": "Hello",
        "subject": "Hi there",
        "preview_text": "…",
        "from_email": None,
        "from_label": None,
        "template_id": "T1",
        "raw": {
            "id": "M1",
            "type": "flow-message",
            "attributes": {name: value for name, value in MAIL.items() if name != "id"},
        },
    }


@pytest.mark.parametrize(
    ("kind", "channel"),
    [
        ("send-email", "email"),
        ("send-sms", "sms"),
        ("send-mobile-push", "mobile_push"),
        ("send-whatsapp", "whatsapp"),
        ("send-webhook", "webhook"),
        ("send-internal-alert", "internal_alert"),
    ],
)
def test_a_flow_message_has_the_channel_of_its_action(kind: str, channel: str) -> None:
    record = flow_with(action("A1", {"type": kind, "data": {"message": {"id": "M1"}}}))
    assert messages_of(record)["M1"]["channel"] == channel


def test_each_variation_of_an_experiment_is_one_message_of_its_action() -> None:
    sends = [{"type": "send-sms", "data": {"message": {"id": id, "body": "x"}}} for id in ("M1", "M2")]
    test = {"type": "ab-test", "data": {"main_action": sends[0], "current_experiment": {"variations": sends}}}
    messages = messages_of(flow_with(action("A1", test)))
    assert {id: (one["action_id"], one["channel"]) for id, one in messages.items()} == {
        "M1": ("A1", "sms"),
        "M2": ("A1", "sms"),
    }


@pytest.mark.parametrize(
    "definition",
    [
        {"type": "time-delay", "data": {"value": 1}},
        {"type": "send-email", "data": None},
        {"type": "send-email", "data": {"message": None}},
        {"type": "send-email", "data": {"message": {"id": None, "name": "unsaved"}}},
        {"type": None, "data": {"message": {"id": "M1"}}},
        {"type": "ab-test", "data": {"main_action": None, "current_experiment": None}},
        {},
    ],
)
def test_an_action_without_a_message_is_known_to_have_none(definition: dict[str, object]) -> None:
    record = flow_with(action("A1", definition))
    assert record.problems == []
    assert record.children["flow_actions"].records[0].children["flow_messages"].ids == ()


def test_the_messages_of_an_action_without_a_definition_are_unknown() -> None:
    record = flow_with(action("A1", None))
    [read] = record.children["flow_actions"].records
    assert (read.values["action_type"], read.values["definition"], read.children) == (None, None, {})
    assert record.problems == []


@pytest.mark.parametrize("attributes", [{}, {"definition": None}, {"definition": {"channel": "mobile_push"}}])
def test_a_missing_attribute_of_a_child_is_null_and_no_problem(attributes: dict[str, object]) -> None:
    record = campaign_with({"type": "campaign-message", "id": "M1", "attributes": attributes})
    [read] = record.children["campaign_messages"].records
    assert (read.values["subject"], read.values["send_times"], record.problems) == (None, None, [])


@pytest.mark.parametrize(
    ("definition", "path"),
    [
        ("odd", "definition.channel"),
        ({"content": ["odd"]}, "definition.content.subject"),
        ({"content": {"subject": 17}}, "definition.content.subject"),
    ],
)
def test_an_invalid_attribute_of_a_child_is_null_reported_and_kept_in_raw(definition: object, path: str) -> None:
    record = campaign_with(message("M1", definition), message("M2", {"channel": "sms"}))
    odd, fine = record.children["campaign_messages"].records
    assert odd.values["subject"] is None
    assert any(problem.startswith(f"campaign-message M1: {path} is not a valid text") for problem in record.problems)
    raw = odd.values["raw"]
    assert isinstance(raw, dict)
    assert raw["attributes"]["definition"] == definition
    assert fine.values["channel"] == "sms"


def test_the_id_of_a_malformed_child_is_kept_and_the_problem_reported() -> None:
    resource = naming(campaign("C1"), "campaign-messages", "M1")
    odd = {"type": "campaign-message", "id": "M1", "attributes": None}
    record = FLAT_CAMPAIGNS.record(
        resource, "email", included_of({"included": [odd, None, {"id": "M1"}, {"type": "x"}]})
    )
    assert record.children["campaign_messages"].ids == ("M1",)
    assert record.children["campaign_messages"].records == ()
    assert "has no attributes" in record.problems[0]


def test_a_child_that_is_not_included_has_an_id_and_no_record() -> None:
    record = FLAT_CAMPAIGNS.record(naming(campaign("C1"), "campaign-messages", "M2", "M1"), "email", {})
    assert (record.children["campaign_messages"].ids, record.problems) == (("M1", "M2"), [])


@pytest.mark.parametrize("relationships", [None, {}, {"flow-actions": {"links": {}}}, {"flow-actions": {"data": None}}])
def test_the_actions_of_a_flow_without_the_relationship_are_unknown(relationships: object) -> None:
    assert FLOWS.record(flow("F1") | {"relationships": relationships}, None, {}).children == {}


def test_only_included_resources_that_a_parent_names_are_its_children() -> None:
    mine, other = action("A1", SEND), action("A2", SEND)
    resource = naming(flow("F1"), "flow-actions", "A1")
    record = FLOWS.record(resource, None, included_of({"included": [other, mine]}))
    assert [one.id for one in record.children["flow_actions"].records] == ["A1"]


def test_escapes_in_children_are_counted_with_their_parent() -> None:
    sending = {"type": "send-email", "data": {"message": {"id": "M\0", "name": "a\ud800"}}}
    record = flow_with(action("A\0", sending))
    output = record.children["flow_actions"]
    assert (output.ids, output.records[0].values["id"]) == (("A␛u0000",), "A␛u0000")
    [sent] = output.records[0].children["flow_messages"].records
    assert (sent.id, sent.values["action_id"], sent.values["name"]) == ("M␛u0000", "A␛u0000", "a␛uD800")
    assert record.escapes > 0


def test_a_page_contains_the_children_of_each_of_its_objects(bench: Bench) -> None:
    first, second = naming(flow("F1"), "flow-actions", "A1"), naming(flow("F2"), "flow-actions", "A2")
    bench.server.will(ok(page(first, second) | {"included": [action("A2", SEND), action("A1", None)]}))
    [output] = bench.client.pages(FLOWS, FLOWS.queries(None, None, NOON)[0])
    found = {record.id: record.children["flow_actions"] for record in output.records}
    assert {id: [child.values["flow_id"] for child in children.records] for id, children in found.items()} == {
        "F1": ["F1"],
        "F2": ["F2"],
    }


def test_the_tags_are_listed_over_all_pages(bench: Bench) -> None:
    tags = [{"type": "tag", "id": id, "attributes": {"name": f"tag {id}"}} for id in ("T1", "T2")]
    bench.server.will(ok(page(tags[0], next=f"{bench.server.url}/api/tags?c=2")), ok(page(tags[1])))
    pages = list(bench.client.pages(TAGS, TAGS.queries(None, None, NOON)[0]))
    assert [record.values["name"] for one in pages for record in one.records] == ["tag T1", "tag T2"]
    assert bench.server.requested[0].query == {"sort": "id", "page[size]": "50"}
