"""Campaigns at revision 2026-10-15, how revision 2026-07-15 shows them, and both answers to each open question."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from klaviyo_pipeline.sandbox.sandbox_account import Message, SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.sandbox.conftest import client_of, error_of, ids, walk

START = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
LATER = START + timedelta(days=2)
LATER_TEXT = "2026-03-03T12:00:00.250000+00:00"


@pytest.fixture
def new(server: SandboxServer) -> Iterator[httpx.Client]:
    with client_of(server, revision="2026-10-15") as client:
        yield client


def put_tree(account: SandboxAccount) -> None:
    """Two audiences; a test of two emails on the first day, WhatsApp and a text on the second."""
    account.put("campaigns", "C", name="Sale", builder="canvas", messages=[], created_at=START, updated_at=START)
    account.delete("campaign-audiences", "C-audience")
    account.put("campaign-audiences", "A1", campaign="C", included=["L1"], created=START, updated=START)
    account.put("campaign-audiences", "A2", campaign="C", included=["L2"], excluded=["L1"], priority=2)
    account.put("campaign-messages", "M1", campaign="C", audience="A1", status="sent", send_time=START, updated=START)
    account.put("campaign-messages", "M2", campaign="C", audience="A2", status="scheduled", send_time=LATER)
    account.put("campaign-variations", "V1", message="M1", channel="email", subject="One", updated=START)
    account.put("campaign-variations", "V2", message="M1", channel="email", subject="Two", older_message="M1b")
    account.put("campaign-variations", "V3", message="M2", channel="whatsapp", updated=START - timedelta(days=1))
    account.put("campaign-variations", "V4", message="M2", channel="sms", body="Hi")


def linked(resource: dict[str, Any], name: str) -> Any:
    data = resource["relationships"][name].get("data")
    return [one["id"] for one in data] if isinstance(data, list) else data and data["id"]


def older_ids(client: httpx.Client, channel: str) -> list[str]:
    return ids(client.get("/api/campaigns", params={"filter": f"equals(messages.channel,'{channel}')"}))


def test_a_campaign_comes_as_a_tree(account: SandboxAccount, new: httpx.Client) -> None:
    put_tree(account)
    document = new.get("/api/campaigns?include=campaign-audiences,campaign-messages,tags").json()
    [campaign] = document["data"]
    assert campaign["attributes"]["definition"] | {"send_settings": None} == {
        "name": "Sale",
        "archived": False,
        "description": None,
        "color": None,
        "builder": "canvas",
        "send_settings": None,
    }
    assert campaign["attributes"].keys() == {"definition", "created_at", "updated_at"}
    assert (linked(campaign, "campaign-audiences"), linked(campaign, "campaign-messages")) == (
        ["A1", "A2"],
        ["M1", "M2"],
    )
    found = {one["id"]: one for one in document["included"]}
    assert found.keys() == {"A1", "A2", "M1", "M2"}
    assert found["A2"]["attributes"]["definition"]["excluded"] == ["L1"]
    assert (linked(found["M2"], "campaign-audience"), linked(found["A2"], "campaign-messages")) == ("A2", ["M2"])
    assert found["M1"]["attributes"]["definition"]["send_options"]["send_time"] == "2026-03-01T12:00:00.250000+00:00"


def test_messages_of_the_account_come_with_their_variations(account: SandboxAccount, new: httpx.Client) -> None:
    put_tree(account)
    document = new.get("/api/campaign-messages?include=campaign,campaign-variations&sort=id").json()
    assert [linked(one, "campaign-variations") for one in document["data"]] == [["V1", "V2"], ["V3", "V4"]]
    found = {one["id"]: one for one in document["included"]}
    channels = {id: one["attributes"]["definition"]["details"]["channel"] for id, one in found.items() if id[0] == "V"}
    assert channels == {"V1": "email", "V2": "email", "V3": "whatsapp", "V4": "sms"}
    assert linked(found["V1"], "campaign-message") == "M1"


def test_what_a_campaign_consists_of_can_be_had_one_by_one(account: SandboxAccount, new: httpx.Client) -> None:
    put_tree(account)
    assert ids(new.get("/api/campaigns/C/campaign-audiences")) == ["A1", "A2"]
    assert ids(new.get("/api/campaigns/C/relationships/campaign-messages")) == ["M1", "M2"]
    assert ids(new.get("/api/campaign-messages/M1/campaign-variations")) == ["V1", "V2"]
    assert new.get("/api/campaign-messages/M2/campaign-audience").json()["data"]["id"] == "A2"
    assert new.get("/api/campaign-variations/V2?include=campaign-message").json()["included"][0]["id"] == "M1"
    assert new.get("/api/campaign-audiences/A1").json()["data"]["attributes"]["definition"]["included"] == ["L1"]


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("any(id,['M2','nobody'])", ["M2"]),
        ("equals(id,['M1','M2'])", ["M1", "M2"]),
        ("equals(campaign_id,'C'),equals(status,'sent')", ["M1"]),
        ("greater-or-equal(updated,2026-03-01T12:00:00.25Z),less-than(updated,2026-03-01T12:00:01Z)", ["M1"]),
        ("less-than(updated,2026-03-01T12:00:00Z)", ["M2"]),
    ],
)
def test_messages_are_filtered(account: SandboxAccount, new: httpx.Client, filter: str, found: list[str]) -> None:
    put_tree(account)
    assert ids(new.get("/api/campaign-messages", params={"filter": filter, "sort": "id"})) == found


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/api/campaigns?filter=equals(messages.channel,'email')", "filter"),
        ("/api/campaigns?filter=equals(status,'Sent')", "filter"),
        ("/api/campaigns?filter=less-than(scheduled_at,2026-01-01T00:00:00Z)", "filter"),
        ("/api/campaigns?include=campaign-variations", "include"),
        ("/api/campaigns?sort=scheduled_at", "sort"),
        ("/api/campaigns?fields[campaign]=name", "fields[campaign]"),
        ("/api/campaigns?fields[campaign]=definition.channel", "fields[campaign]"),
        ("/api/campaigns?page[size]=101", "page[size]"),
        ("/api/campaign-messages?page[size]=101", "page[size]"),
        ("/api/campaign-messages?include=campaign-audience", "include"),
        ("/api/campaign-messages?filter=equals(archived,true)", "filter"),
        ("/api/campaign-messages/M?include=template", "include"),
        ("/api/campaigns/C/campaign-messages?page[size]=10", "page[size]"),
        ("/api/campaigns/C/campaign-audiences?page[cursor]=x", "page[cursor]"),
        ("/api/campaign-messages/M/campaign-variations?include=campaign-message", "include"),
    ],
)
def test_what_the_revision_does_not_take_is_refused(new: httpx.Client, path: str, parameter: str) -> None:
    assert error_of(new.get(path), 400)["source"] == {"parameter": parameter}


@pytest.mark.parametrize("path", ["campaign-messages", "campaign-variations/V1", "campaign-audiences/A1"])
def test_the_older_revision_has_no_paths_for_parts(account: SandboxAccount, client: httpx.Client, path: str) -> None:
    put_tree(account)
    assert error_of(client.get(f"/api/{path}"), 404)["code"] == "not_found"


def test_the_older_revision_still_needs_a_channel(client: httpx.Client) -> None:
    assert error_of(client.get("/api/campaigns"), 400)["source"] == {"parameter": "filter"}


def test_the_older_revision_shows_one_status_and_a_message_for_each_variation(
    account: SandboxAccount, client: httpx.Client
) -> None:
    put_tree(account)
    document = client.get("/api/campaigns/C?include=campaign-messages").json()
    attributes = document["data"]["attributes"]
    assert (attributes["name"], attributes["status"]) == ("Sale", "Sending")
    assert attributes["send_time"] == "2026-03-01T12:00:00.250000+00:00"
    assert attributes["audiences"] == {"included": ["L1", "L2"], "excluded": ["L1"]}
    messages = {one["id"]: one["attributes"]["definition"]["channel"] for one in document["included"]}
    assert messages == {"M1": "email", "M1b": "email", "V4": "sms"}
    assert client.get("/api/campaign-messages/M1b").json()["data"]["id"] == "M1b"


def test_the_older_revision_lists_what_it_has_no_words_for_under_each_channel_the_first_or_not_at_all(
    account: SandboxAccount, client: httpx.Client
) -> None:
    put_tree(account)
    account.put("campaigns", "plain")
    found = {}
    for shown in ("each", "first", "none"):
        account.older_revision_lists = shown  # type: ignore[assignment]
        found[shown] = [older_ids(client, channel) for channel in ("email", "sms", "mobile_push")]
    assert found == {
        "each": [["C", "plain"], ["C"], []],
        "first": [["C", "plain"], [], []],
        "none": [["plain"], [], []],
    }
    assert error_of(client.get("/api/campaigns/C"), 404)


def test_whatsapp_is_in_no_listing_of_the_older_revision(
    account: SandboxAccount, client: httpx.Client, new: httpx.Client
) -> None:
    account.put("campaigns", "W", channels=["whatsapp"], status="Sent", send_time=START)
    assert [older_ids(client, channel) for channel in ("email", "sms", "mobile_push")] == [[], [], []]
    assert error_of(client.get("/api/campaigns?filter=equals(messages.channel,'whatsapp')"), 400)
    assert ids(new.get("/api/campaigns")) == ["W"]


def test_a_campaign_in_the_older_words_is_a_tree_too(account: SandboxAccount, new: httpx.Client) -> None:
    messages = [Message("M1", "email", "Hello", variation="A"), Message("M2", "email", "Hullo", variation="B")]
    account.put("campaigns", "C", status="Cancelled: No Recipients", send_time=START, messages=messages)
    document = new.get("/api/campaigns/C?include=campaign-audiences,campaign-messages").json()
    message = next(one for one in document["included"] if one["type"] == "campaign-message")
    assert message["id"] == "M1"
    assert message["attributes"]["definition"]["status"] == "cancelled"
    assert message["attributes"]["definition"]["ab_test"]["winner_metric"] == "opens_unique"
    assert ids(new.get("/api/campaign-messages/M1/campaign-variations")) == ["M1-variation", "M2-variation"]
    older = account.older_campaign("C")
    assert older is not None
    assert [one.id for one in older.messages] == ["M1", "M2"]
    assert older.attributes["status"] == "Cancelled: No Recipients"
    account.put("campaign-messages", "M1", status="sending")
    changed = account.older_campaign("C")
    assert changed is not None
    assert changed.attributes["status"] == "Sending"


def test_a_message_that_is_left_out_and_put_again_comes_back_whole(account: SandboxAccount) -> None:
    messages = [Message("M1", "email", "Hello"), Message("M2", "email", "Again")]
    found = []
    for put in (messages, messages[:1], messages):
        account.put("campaigns", "C", messages=put)
        older = account.older_campaign("C")
        assert older is not None
        found.append([message.id for message in older.messages])
    assert found == [["M1", "M2"], ["M1"], ["M1", "M2"]]


@pytest.mark.parametrize("moves", [True, False])
@pytest.mark.parametrize(
    ("kind", "id"), [("campaign-audiences", "A1"), ("campaign-messages", "M1"), ("campaign-variations", "V1")]
)
def test_a_change_of_a_part_moves_its_campaign_or_not(
    account: SandboxAccount, new: httpx.Client, kind: str, id: str, moves: bool
) -> None:
    put_tree(account)
    account.parts_move_campaigns = moves
    account.put(kind, id, name="changed", updated=LATER)
    attributes = new.get("/api/campaigns/C").json()["data"]["attributes"]
    assert (attributes["updated_at"] == LATER_TEXT) is moves
    assert new.get(f"/api/{kind}/{id}").json()["data"]["attributes"]["updated"] == LATER_TEXT
    account.put("campaigns", "C", updated_at=START)
    account.delete(kind, id, at=LATER)
    attributes = new.get("/api/campaigns/C").json()["data"]["attributes"]
    assert (attributes["updated_at"] == LATER_TEXT) is moves


@pytest.mark.parametrize("moves", [True, False])
def test_a_change_of_a_variation_moves_its_message_or_not(
    account: SandboxAccount, new: httpx.Client, moves: bool
) -> None:
    put_tree(account)
    account.variations_move_messages = moves
    account.put("campaign-variations", "V1", subject="changed", updated=LATER)
    assert (new.get("/api/campaign-messages/M1").json()["data"]["attributes"]["updated"] == LATER_TEXT) is moves


def test_variations_can_be_included_in_the_listing_of_messages_or_not(
    account: SandboxAccount, new: httpx.Client
) -> None:
    put_tree(account)
    account.messages_include_variations = False
    path = "/api/campaign-messages?include=campaign,campaign-variations"
    assert error_of(new.get(path), 400)["source"] == {"parameter": "include"}
    assert new.get("/api/campaign-messages?include=campaign").status_code == 200
    assert new.get("/api/campaign-messages/M1?include=campaign-variations").status_code == 200
    account.messages_include_variations = True
    assert new.get(path).status_code == 200


@pytest.mark.parametrize(("listed", "found"), [("current", ["C"]), ("all", ["C", "old"])])
def test_a_listing_without_a_filter_has_archived_campaigns_or_not(
    account: SandboxAccount, new: httpx.Client, listed: Any, found: list[str]
) -> None:
    account.unfiltered_campaigns = listed
    account.put("campaigns", "C")
    account.put("campaigns", "old", archived=True)
    assert ids(new.get("/api/campaigns?sort=id")) == found
    assert ids(new.get("/api/campaigns?filter=equals(archived,true)")) == ["old"]
    assert ids(new.get("/api/campaigns?filter=equals(archived,false)")) == ["C"]


def test_the_listing_of_messages_has_those_of_archived_campaigns_or_not(
    account: SandboxAccount, new: httpx.Client
) -> None:
    account.put("campaigns", "old", archived=True)
    assert ids(new.get("/api/campaign-messages")) == ["old-message"]
    account.messages_of_archived = False
    assert ids(new.get("/api/campaign-messages")) == []


@pytest.mark.parametrize("shown", ["included", "always"])
def test_relationships_name_ids_without_the_include_or_not(
    account: SandboxAccount, new: httpx.Client, shown: Any
) -> None:
    put_tree(account)
    account.relationship_data = shown
    campaign = new.get("/api/campaigns/C").json()["data"]
    assert linked(campaign, "campaign-messages") == (["M1", "M2"] if shown == "always" else None)
    message = new.get("/api/campaign-messages/M1?include=campaign-variations").json()["data"]
    assert linked(message, "campaign-variations") == ["V1", "V2"]
    assert linked(message, "campaign-audience") == ("A1" if shown == "always" else None)


def test_without_its_owner_a_part_is_not_there(account: SandboxAccount, new: httpx.Client) -> None:
    put_tree(account)
    account.delete("campaign-messages", "M1")
    assert ids(new.get("/api/campaigns/C/campaign-messages")) == ["M2"]
    assert error_of(new.get("/api/campaign-variations/V1"), 404)["code"] == "not_found"
    account.delete("campaigns", "C")
    for path in ("campaign-messages/M2", "campaign-variations/V3", "campaign-audiences/A1", "campaigns/C"):
        assert error_of(new.get(f"/api/{path}"), 404)
    account.restore("campaigns", "C")
    account.restore("campaign-messages", "M1")
    assert ids(new.get("/api/campaign-messages/M1/campaign-variations")) == ["V1", "V2"]


def test_messages_of_a_deleted_audience_name_none(account: SandboxAccount, new: httpx.Client) -> None:
    put_tree(account)
    account.relationship_data = "always"
    account.delete("campaign-audiences", "A1")
    assert linked(new.get("/api/campaign-messages/M1").json()["data"], "campaign-audience") is None
    assert new.get("/api/campaign-messages/M1/campaign-audience").json()["data"] is None


def test_attributes_may_be_null_or_missing(account: SandboxAccount, new: httpx.Client) -> None:
    account.put("campaigns", "C", name=None, builder=..., archived=None, updated_at=None, messages=[])
    account.put("campaign-messages", "M", campaign="C", definition={})
    account.put("campaign-variations", "V", message="M", definition={"name": None, "details": None})
    attributes = new.get("/api/campaigns/C").json()["data"]["attributes"]
    assert (attributes["definition"]["name"], attributes["definition"]["archived"]) == (None, None)
    assert "builder" not in attributes["definition"]
    assert attributes["updated_at"] is None
    assert new.get("/api/campaign-messages/M").json()["data"]["attributes"]["definition"] == {}
    assert new.get("/api/campaign-variations/V").json()["data"]["attributes"]["definition"]["details"] is None
    older = account.older_campaign("C")
    assert older is not None
    assert (older.attributes["name"], older.attributes["status"], older.attributes["archived"]) == (
        "",
        "Unknown",
        False,
    )


def test_an_unknown_channel_is_shown_as_it_is(account: SandboxAccount, client: httpx.Client, new: httpx.Client) -> None:
    account.put("campaigns", "C", messages=[])
    account.put("campaign-messages", "M", campaign="C", status="paused")
    account.put("campaign-variations", "V", message="M", channel="rcs_business")
    details = new.get("/api/campaign-variations/V").json()["data"]["attributes"]["definition"]["details"]
    assert details["channel"] == "rcs_business"
    assert older_ids(client, "email") == []


def test_agent_hints_appear_or_not(account: SandboxAccount, new: httpx.Client, client: httpx.Client) -> None:
    assert new.get("/api/flows").json()["meta"]["agent_hints"]["next_steps"]
    assert "meta" not in client.get("/api/flows").json()
    account.agent_hints = False
    assert "meta" not in new.get("/api/flows").json()


@pytest.mark.parametrize(("path", "count"), [("campaigns", 100), ("campaign-messages", 20)])
def test_listings_come_in_pages(account: SandboxAccount, new: httpx.Client, path: str, count: int) -> None:
    for number in range(count + 1):
        account.put("campaigns", f"C{number:03}", updated_at=START + timedelta(seconds=number))
    field = "updated_at" if path == "campaigns" else "updated"
    pages = walk(new, f"/api/{path}", sort=f"-{field}")
    assert [len(page) for page in pages][:2] == [count, min(count, 1) if path == "campaigns" else 1]
    assert sorted(id for page in pages for id in page) == [id for page in pages[::-1] for id in page[::-1]]


def test_new_messages_of_an_existing_campaign_keep_its_send_time_and_their_own_channel(account: SandboxAccount) -> None:
    account.put("campaigns", "C", status="Sent", send_time=START)
    account.put("campaigns", "C", messages=[Message("M1", "sms", "Hi")])
    [message] = [found.attributes["definition"] for found in account.objects["campaign-messages"].values()]
    assert (message["status"], message["send_options"]["send_time"]) == ("sent", "2026-03-01T12:00:00.250000+00:00")
    assert account.objects["campaigns"]["C"].channels == ["sms"]
