"""The columns of a campaign at each revision, read from Klaviyo's answers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from klaviyo_pipeline.klaviyo.channels import channel_named, first_channel, sorted_channels
from klaviyo_pipeline.klaviyo.children import Included
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS
from klaviyo_pipeline.klaviyo.nested_campaigns import campaign_status, message_send_time
from klaviyo_pipeline.klaviyo.records import Record, Resource

NEW, OLD = "2026-10-15", "2026-07-15"


def at(day: int, hour: int = 9) -> datetime:
    return datetime(2026, 10, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], "Draft"),
        (["draft"], "Draft"),
        (["sent"], "Sent"),
        (["sent", "draft"], "Sent"),
        (["sent", "cancelled"], "Sent"),
        (["sent", "scheduled"], "Sending"),
        (["sending", "draft"], "Sending"),
        (["scheduled", "draft", "cancelled"], "Scheduled"),
        (["cancelled"], "Cancelled"),
        (["cancelled", "draft"], "Draft"),
        ([None], "Draft"),
        (["paused"], "Paused"),
        (["paused", "sent"], "Sent"),
    ],
)
def test_a_campaigns_status_is_the_old_word_for_those_of_its_messages(statuses: list[object], expected: str) -> None:
    assert campaign_status(statuses) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, None),
        ({}, None),
        ({"send_time": None, "send_times": None}, None),
        ({"send_time": "2026-10-20T09:00:00+00:00"}, at(20)),
        ({"send_time": "2026-10-20T09:00:00Z", "send_times": {"v1": "2026-10-19T09:00:00+00:00"}}, at(19)),
        ({"send_times": {"v1": {"datetime": "2026-10-19T11:00:00+02:00", "is_local": False}, "v2": None}}, at(19)),
        ({"send_times": {"v1": ["2026-10-21T09:00:00Z", "2026-10-20T09:00:00Z"]}}, at(20)),
        ({"send_times": {"v1": "soon", "v2": 7}}, None),
        ({"send_times": "2026"}, None),
    ],
)
def test_a_message_goes_out_at_the_earliest_of_its_times(options: object, expected: datetime | None) -> None:
    assert message_send_time(options) == expected


def test_the_three_vocabularies_of_channels_are_one() -> None:
    words = ["push", "mobile_push", "push-notification", "whatsapp", "email", None, 3]
    assert sorted_channels(words) == ["email", "mobile_push", "whatsapp"]
    assert first_channel(["whatsapp", "sms"]) == "sms"
    assert first_channel(None) is None
    assert channel_named("carrier-pigeon") == "carrier-pigeon"


def link(*ids: str, kind: str) -> dict[str, object]:
    return {"data": [{"type": kind, "id": id} for id in ids]}


def variation(id: str, **details: object) -> Resource:
    return {
        "type": "campaign-variation",
        "id": id,
        "attributes": {
            "definition": {"name": f"Variation {id}", "details": details},
            "created": "2026-10-01T09:00:00+00:00",
            "updated": "2026-10-02T09:00:00+00:00",
        },
    }


def message(id: str, audience: str | None, variations: list[str], **definition: object) -> Resource:
    related: dict[str, object] = {"campaign-variations": link(*variations, kind="campaign-variation")}
    if audience:
        related["campaign-audience"] = {"data": {"type": "campaign-audience", "id": audience}}
    return {
        "type": "campaign-message",
        "id": id,
        "attributes": {
            "definition": {"name": f"Message {id}", **definition},
            "created": "2026-10-01T09:00:00+00:00",
            "updated": "2026-10-03T09:00:00+00:00",
        },
        "relationships": related,
    }


def audience(id: str, messages: list[str], **definition: object) -> Resource:
    return {
        "type": "campaign-audience",
        "id": id,
        "attributes": {"definition": definition, "created": "2026-10-01T09:00:00Z", "updated": "2026-10-01T09:00:00Z"},
        "relationships": {"campaign-messages": link(*messages, kind="campaign-message")},
    }


def campaign(audiences: list[str], messages: list[str], **definition: object) -> Resource:
    return {
        "type": "campaign",
        "id": "C1",
        "attributes": {
            "definition": {"name": "Launch", "archived": False, **definition},
            "created_at": "2026-10-01T09:00:00+00:00",
            "updated_at": "2026-10-04T09:00:00+00:00",
        },
        "relationships": {
            "campaign-audiences": link(*audiences, kind="campaign-audience"),
            "campaign-messages": link(*messages, kind="campaign-message"),
        },
    }


def read(resource: Resource, *included: Resource, revision: str = NEW, channel: str | None = None) -> Record:
    together: Included = {(str(one["type"]), str(one["id"])): one for one in included}
    return listing_at(revision, CAMPAIGNS).record(resource, channel, together)


def children(record: Record, table: str) -> list[dict[str, object]]:
    return [one.values for one in record.children[table].records]


def test_a_campaign_of_two_channels_has_both_and_the_status_and_time_of_its_messages() -> None:
    record = read(
        campaign(["A1", "A2"], ["M1", "M2"], builder="canvas", send_settings={"send_timezone": "UTC"}, color="ff0000"),
        audience("A1", ["M1"], name="All", included=["L1"], excluded=[], priority=1),
        audience("A2", ["M2"], name="VIP", included=["S1", "L2"], excluded=["L1"], priority=2),
        message("M1", None, ["V1"], status="sent", send_options={"send_time": "2026-10-20T09:00:00Z"}),
        message("M2", "A2", ["V2"], status="scheduled", send_options={"send_time": "2026-10-22T09:00:00Z"}),
        variation("V1", channel="whatsapp", template_id="T1"),
        variation("V2", channel="push", title="Hi", body="Come in"),
    )
    values = record.values
    assert values["channels"] == ["mobile_push", "whatsapp"]
    assert values["channel"] == "mobile_push"
    assert values["status"] == "Sending"
    assert values["send_time"] == at(20)
    assert values["scheduled_at"] is None
    assert values["builder"] == "canvas"
    assert values["send_settings"] == {"send_timezone": "UTC"}
    audiences = {one["id"]: one for one in children(record, "campaign_audiences")}
    assert audiences["A2"]["included"] == ["S1", "L2"]
    assert audiences["A2"]["excluded"] == ["L1"]
    assert audiences["A2"]["priority"] == 2
    messages = {one["id"]: one for one in children(record, "campaign_messages")}
    assert {id: one["audience_id"] for id, one in messages.items()} == {"M1": "A1", "M2": "A2"}
    assert messages["M1"]["channel"] == "whatsapp"
    [first, _] = record.children["campaign_messages"].records
    [only] = children(first, "campaign_variations")
    assert only["template_id"] == "T1"
    assert only["campaign_id"] == "C1"
    assert only["message_id"] == "M1"


def test_a_message_with_several_variations_has_no_content_of_its_own() -> None:
    record = read(
        campaign([], ["M1"]),
        message("M1", None, ["V1", "V2"], status="draft", ab_test={"winner_metric": "opens_unique"}),
        variation("V1", channel="email", subject="A"),
        variation("V2", channel="email", subject="B"),
    )
    [values] = children(record, "campaign_messages")
    assert values["subject"] is None
    assert values["channel"] is None
    assert values["ab_test"] == {"winner_metric": "opens_unique"}
    assert record.values["channels"] == ["email"]


def test_every_attribute_may_be_missing_or_null() -> None:
    bare: Resource = {"type": "campaign", "id": "C1", "attributes": {"definition": None}}
    assert read(bare).values["status"] is None
    record = read(
        campaign([], ["M1"], name=None),
        {**message("M1", None, ["V1"]), "attributes": {}},
        {**variation("V1"), "attributes": {"definition": {"details": None}}},
    )
    assert record.problems == []
    assert record.values["status"] == "Draft"
    assert record.values["channels"] is None


def test_children_that_only_name_their_parent_are_found() -> None:
    bare = campaign([], [])
    del bare["relationships"]  # type: ignore[attr-defined]
    back = {"data": {"type": "campaign", "id": "C1"}}
    one, other = message("M1", None, ["V1"], status="sent"), message("M2", None, [], status="sent")
    one["relationships"]["campaign"] = back  # type: ignore[index]
    of_message = {"campaign-message": {"data": {"type": "campaign-message", "id": "M1"}}}
    del one["relationships"]["campaign-variations"]  # type: ignore[attr-defined, index]
    record = read(bare, one, other, {**variation("V1", channel="email"), "relationships": of_message})
    assert record.children["campaign_messages"].ids == ("M1",)
    assert (record.values["status"], record.values["channels"]) == ("Sent", ["email"])
    assert "campaign_audiences" not in record.children


def test_an_audience_that_is_not_the_campaigns_is_not_the_messages() -> None:
    record = read(campaign(["A1"], ["M1"]), audience("A1", []), audience("A9", []), message("M1", "A9", []))
    assert children(record, "campaign_messages")[0]["audience_id"] is None


def test_the_id_of_an_audience_is_escaped_like_any_other() -> None:
    record = read(campaign(["A\0"], ["M1"]), audience("A\0", ["M1"]), message("M1", "A\0", []))
    [stored] = children(record, "campaign_audiences")
    assert children(record, "campaign_messages")[0]["audience_id"] == stored["id"] == "A␛u0000"


def test_a_campaign_whose_message_did_not_come_along_has_no_status() -> None:
    record = read(campaign([], ["M1"]))
    assert record.values["status"] is None
    assert record.values["send_time"] is None


def old_campaign(**attributes: object) -> Resource:
    return {
        "type": "campaign",
        "id": "C1",
        "attributes": {
            "name": "Launch",
            "status": "Sent",
            "archived": False,
            "audiences": {"included": ["L1"], "excluded": []},
            "scheduled_at": "2026-10-01T09:00:00+00:00",
            "send_time": "2026-10-20T09:00:00+00:00",
            "created_at": "2026-10-01T09:00:00+00:00",
            "updated_at": "2026-10-04T09:00:00+00:00",
            **attributes,
        },
        "relationships": {"campaign-messages": link("M1", kind="campaign-message")},
    }


def old_message(id: str, channel: str, label: str | None, **content: object) -> Resource:
    return {
        "type": "campaign-message",
        "id": id,
        "attributes": {
            "definition": {"channel": channel, "label": label, "content": content},
            "send_times": [{"datetime": "2026-10-20T09:00:00+00:00", "is_local": False}],
            "created_at": "2026-10-01T09:00:00+00:00",
            "updated_at": "2026-10-03T09:00:00+00:00",
        },
    }


def test_a_campaign_of_the_older_revision_fills_the_same_tables() -> None:
    message = old_message("M1", "email", "First", subject="Hello", from_email="a@example.com")
    record = read(old_campaign(), message, revision=OLD, channel="email")
    assert record.values["channels"] == ["email"]
    assert record.values["builder"] is None
    [audience] = children(record, "campaign_audiences")
    assert (audience["id"], audience["included"], audience["excluded"]) == ("C1", ["L1"], [])
    [values] = children(record, "campaign_messages")
    assert (values["name"], values["status"], values["send_time"]) == ("First", "sent", at(20))
    [only] = children(record.children["campaign_messages"].records[0], "campaign_variations")
    assert (only["id"], only["channel"], only["subject"]) == ("M1", "email", "Hello")


@pytest.mark.parametrize(
    ("status", "expected"),
    [("Cancelled: No Recipients", "cancelled"), ("Adding Recipients", None), (None, None), ("Sending", "sending")],
)
def test_an_old_message_has_the_status_of_its_campaign_where_there_is_a_word_for_it(
    status: str | None, expected: str | None
) -> None:
    record = read(old_campaign(status=status), old_message("M1", "sms", None), revision=OLD, channel="sms")
    assert children(record, "campaign_messages")[0]["status"] == expected


def test_both_revisions_fill_the_same_columns() -> None:
    new, old = listing_at(NEW, CAMPAIGNS), listing_at(OLD, CAMPAIGNS)
    assert [column.name for column in new.columns] == [column.name for column in old.columns]
    for one, other in zip(new.children, old.children, strict=True):
        assert one.table == other.table
        assert [(c.name, c.kind) for c in one.columns] == [(c.name, c.kind) for c in other.columns]
