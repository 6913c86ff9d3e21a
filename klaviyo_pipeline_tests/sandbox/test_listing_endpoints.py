from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from klaviyo_pipeline.sandbox.sandbox_account import Message, SandboxAccount
from klaviyo_pipeline_tests.sandbox.conftest import NOW, error_of, ids, walk

START = datetime(2026, 1, 1, tzinfo=UTC)
EMAIL = "equals(messages.channel,'email')"


def put_many(account: SandboxAccount, entity: str, count: int, **more: Any) -> list[str]:
    """Objects with three to a second of `updated`."""
    field = "updated_at" if entity in ("campaigns", "forms") else "updated"
    names = [f"X{number:03}" for number in range(count)]
    for number, id in enumerate(names):
        account.put(entity, id, **{field: START + timedelta(seconds=number // 3)}, **more)
    return names


@pytest.mark.parametrize(
    ("entity", "sort", "size"),
    [
        ("flows", "updated", 50),
        ("campaigns", "updated_at", 100),
        ("forms", "updated_at", 20),
        ("segments", "updated", 10),
    ],
)
def test_pages_contain_the_default_number_and_every_row_once(
    account: SandboxAccount, client: httpx.Client, entity: str, sort: str, size: int
) -> None:
    account.cursors_without_id = frozenset()
    names = put_many(account, entity, 2 * size + 5)
    filter = {"filter": EMAIL} if entity == "campaigns" else {}
    pages = walk(client, f"/api/{entity}", sort=sort, **filter)
    assert [len(page) for page in pages] == [size, size, 5]
    assert [id for page in pages for id in page] == names


@pytest.mark.parametrize(("repeats", "second"), [(False, ["X006", "X007"]), (True, ["X003", "X004", "X005", "X006"])])
def test_a_cursor_of_forms_contains_times_and_no_id_and_passes_over_ties_or_repeats_them(
    account: SandboxAccount, client: httpx.Client, repeats: bool, second: list[str]
) -> None:
    account.repeats_ties = repeats
    put_many(account, "forms", 8)
    first = client.get("/api/forms", params={"sort": "updated_at", "page[size]": 4})
    following = first.json()["links"]["next"]
    cursor = base64.urlsafe_b64decode(httpx.URL(following).params["page[cursor]"]).decode()
    assert cursor == "next::created::2024-01-01T12:00:00+00:00::updated::2026-01-01T00:00:01+00:00"
    assert ids(first) == ["X000", "X001", "X002", "X003"]
    assert ids(client.get(following)) == second


def test_other_cursors_name_the_last_object(account: SandboxAccount, client: httpx.Client) -> None:
    put_many(account, "segments", 11)
    for sort, text in (
        ("id", "next::id::X009"),
        ("updated", "next::updated::2026-01-01T00:00:03+00:00::id::X009"),
    ):
        following = client.get("/api/segments", params={"sort": sort}).json()["links"]["next"]
        assert base64.urlsafe_b64decode(httpx.URL(following).params["page[cursor]"]).decode() == text


def test_full_pages_may_lack_their_links(account: SandboxAccount, client: httpx.Client) -> None:
    account.full_pages_lack_links = True
    put_many(account, "segments", 11)
    account.tags = {f"T{number}": "tag" for number in range(3)}
    assert client.get("/api/segments").json().keys() == {"data"}
    assert client.get("/api/segments", params={"filter": "any(id,['X000'])"}).json()["links"]["next"] is None
    assert client.get("/api/tags", params={"page[size]": 3}).json().keys() == {"data"}


def test_a_descending_listing_runs_backwards_through_its_pages(account: SandboxAccount, client: httpx.Client) -> None:
    names = put_many(account, "flows", 25)
    pages = walk(client, "/api/flows", sort="-updated", **{"page[size]": 10})
    assert [id for page in pages for id in page] == names[::-1]


def test_null_times_come_last_and_no_page_loses_them(account: SandboxAccount, client: httpx.Client) -> None:
    names = put_many(account, "flows", 4)
    for id in ("A", "B", "C"):
        account.put("flows", id, updated=None)
    pages = walk(client, "/api/flows", sort="updated", **{"page[size]": 3})
    assert [id for page in pages for id in page] == [*names, "A", "B", "C"]


def test_the_next_link_is_absolute_and_carries_the_whole_question(
    account: SandboxAccount, client: httpx.Client
) -> None:
    put_many(account, "flows", 5)
    params = {"filter": "equals(archived,false)", "sort": "updated", "page[size]": "4", "include": "tags"}
    links = client.get("/api/flows", params=params).json()["links"]
    following = httpx.URL(links["next"])
    assert str(following).startswith(str(client.base_url).rstrip("/") + "/api/flows?")
    assert dict(following.params) == {**params, "page[cursor]": following.params["page[cursor]"]}
    assert dict(httpx.URL(links["self"]).params) == params
    assert client.get(following).json()["links"]["next"] is None


def test_a_full_last_page_has_no_next(account: SandboxAccount, client: httpx.Client) -> None:
    put_many(account, "flows", 10)
    assert len(walk(client, "/api/flows", **{"page[size]": 5})) == 2


def test_rows_that_move_between_pages_behave_as_in_a_living_account(
    account: SandboxAccount, client: httpx.Client
) -> None:
    names = put_many(account, "flows", 9)
    first = client.get("/api/flows", params={"sort": "updated", "page[size]": 4})
    account.put("flows", names[0], updated=START + timedelta(hours=1))
    account.delete("flows", names[5])
    account.put("flows", "LATE", updated=START - timedelta(hours=1))
    second = client.get(first.json()["links"]["next"])
    third = client.get(second.json()["links"]["next"])
    assert ids(second) + ids(third) == [names[4], *names[6:], names[0]]


@pytest.mark.parametrize("cursor", ["", "x", "bm90IGEgY3Vyc29y"])
def test_a_cursor_nobody_gave_out_is_invalid(client: httpx.Client, cursor: str) -> None:
    error = error_of(client.get("/api/flows", params={"page[cursor]": cursor}), 400)
    assert error["detail"] == "Invalid cursor provided."
    assert error["source"] == {"parameter": "page[cursor]"}


def test_a_cursor_belongs_to_its_question(account: SandboxAccount, client: httpx.Client) -> None:
    put_many(account, "flows", 5)
    link = client.get("/api/flows", params={"sort": "updated", "page[size]": 2}).json()["links"]["next"]
    assert client.get(link.replace("size%5D=2", "size%5D=3")).status_code == 200
    assert error_of(client.get(link.replace("sort=updated", "sort=name")), 400)["code"] == "invalid"


def test_a_cursor_dies_of_age_and_by_command(account: SandboxAccount, client: httpx.Client) -> None:
    put_many(account, "flows", 5)
    link = client.get("/api/flows", params={"page[size]": 2}).json()["links"]["next"]
    account.clock = lambda: NOW + timedelta(days=3)
    assert client.get(link).status_code == 200
    account.clock = lambda: NOW + timedelta(days=3, seconds=1)
    assert client.get(link).status_code == 400
    link = client.get("/api/flows", params={"page[size]": 2}).json()["links"]["next"]
    account.expire_cursors()
    assert client.get(link).status_code == 400


@pytest.mark.parametrize(("entity", "more"), [("flows", ""), ("campaigns", f",{EMAIL}")])
def test_archived_objects_are_listed_only_when_requested(
    account: SandboxAccount, client: httpx.Client, entity: str, more: str
) -> None:
    put_many(account, entity, 3)
    account.archive(entity, "X001")
    both = f"any(id,['X000','X001','X002']){more}"
    assert ids(client.get(f"/api/{entity}", params={"filter": both})) == ["X000", "X002"]
    for archived, found in (("true", ["X001"]), ("false", ["X000", "X002"])):
        filter = f"equals(archived,{archived}){more}"
        assert ids(client.get(f"/api/{entity}", params={"filter": filter})) == found
    assert client.get(f"/api/{entity}/X001").json()["data"]["attributes"]["archived"] is True


def test_archiving_leaves_updated_alone_unless_requested(account: SandboxAccount, client: httpx.Client) -> None:
    put_many(account, "campaigns", 1)
    before = client.get("/api/campaigns/X000").json()["data"]["attributes"]["updated_at"]
    account.archive("campaigns", "X000")
    assert client.get("/api/campaigns/X000").json()["data"]["attributes"]["updated_at"] == before
    account.archive("campaigns", "X000", archived=False, moves_updated=True)
    after = client.get("/api/campaigns/X000").json()["data"]["attributes"]["updated_at"]
    assert after == "2026-03-10T15:00:00.000000+00:00"


def test_a_deleted_object_vanishes_everywhere_until_it_is_restored(
    account: SandboxAccount, client: httpx.Client
) -> None:
    put_many(account, "forms", 2)
    account.delete("forms", "X000")
    assert ids(client.get("/api/forms")) == ["X001"]
    assert error_of(client.get("/api/forms/X000"), 404)["code"] == "not_found"
    account.restore("forms", "X000")
    assert ids(client.get("/api/forms")) == ["X000", "X001"]


def test_forms_name_their_versions_without_being_requested_to(account: SandboxAccount, client: httpx.Client) -> None:
    put_many(account, "forms", 1)
    account.objects["forms"]["X000"].versions = ["6", "7"]
    named = [{"type": "form-version", "id": id} for id in ("6", "7")]
    [listed] = client.get("/api/forms").json()["data"]
    by_id = client.get("/api/forms/X000").json()["data"]
    assert listed["relationships"]["form-versions"]["data"] == named
    assert by_id["relationships"]["form-versions"]["data"] == named


def test_archived_email_campaigns_come_slightly_out_of_order(account: SandboxAccount, client: httpx.Client) -> None:
    names = put_many(account, "campaigns", 60, archived=True, channels=["email", "sms"])
    pages = walk(
        client, "/api/campaigns", filter=f"{EMAIL},equals(archived,true)", sort="updated_at", **{"page[size]": 20}
    )
    listed = [id for page in pages for id in page]
    assert listed != names
    assert sorted(listed) == names
    assert max(abs(names.index(id) - place) for place, id in enumerate(listed)) == 1
    others = walk(client, "/api/campaigns", filter="equals(messages.channel,'sms'),equals(archived,true)")
    assert others == [names]


def test_a_campaign_of_two_channels_is_in_both_listings_and_reports_neither(
    account: SandboxAccount, client: httpx.Client
) -> None:
    account.put("campaigns", "C", channels=["email", "sms"])
    for channel, found in (("email", ["C"]), ("sms", ["C"]), ("mobile_push", [])):
        answer = client.get("/api/campaigns", params={"filter": f"equals(messages.channel,'{channel}')"})
        assert ids(answer) == found
        assert "channel" not in answer.text.replace("messages.channel", "")


def test_times_are_visible_to_the_second_and_for_campaigns_to_the_microsecond(
    account: SandboxAccount, client: httpx.Client
) -> None:
    moment = START + timedelta(microseconds=123_456)
    account.put("flows", "F", updated=moment)
    account.put("segments", "F", updated=moment)
    account.put("campaigns", "F", updated_at=moment)
    output = [client.get(f"/api/{path}/F").json()["data"]["attributes"] for path in ("flows", "segments", "campaigns")]
    assert [output[0]["updated"], output[1]["updated"]] == ["2026-01-01T00:00:00+00:00"] * 2
    assert output[2]["updated_at"] == "2026-01-01T00:00:00.123456+00:00"


def test_sparse_fields_leave_the_others_out(account: SandboxAccount, client: httpx.Client) -> None:
    account.put("campaigns", "C", name="n", undocumented=1)
    params = {"filter": EMAIL, "fields[campaign]": "name,send_strategy.method"}
    attributes = client.get("/api/campaigns", params=params).json()["data"][0]["attributes"]
    assert attributes == {"name": "n", "send_strategy": {"method": "immediate"}}
    assert client.get("/api/campaigns/C").json()["data"]["attributes"]["undocumented"] == 1


def test_a_row_has_links_always_and_related_ids_only_when_included(
    account: SandboxAccount, client: httpx.Client
) -> None:
    account.tags = {"T": "tag"}
    account.put("flows", "F", tags=["T"], messages=[Message("M1", "email", "Hi"), Message("M2", "sms", "Ho")])
    bare = client.get("/api/flows/F").json()
    assert bare["data"]["links"]["self"].endswith("/api/flows/F/")
    assert bare["data"]["relationships"]["tags"].keys() == {"links"}
    assert "included" not in bare
    full = client.get("/api/flows", params={"include": "tags,flow-actions"}).json()
    assert full["data"][0]["relationships"]["tags"]["data"] == [{"type": "tag", "id": "T"}]
    assert [item["type"] for item in full["included"]] == ["tag", *["flow-action"] * 3]
    assert full["data"][0]["relationships"]["flow-actions"]["data"] == [
        {"type": "flow-action", "id": item["id"]} for item in full["included"][1:]
    ]


def test_included_flow_actions_carry_the_messages_that_they_send(account: SandboxAccount, client: httpx.Client) -> None:
    variations = [Message(f"V{number}", "email", "Either", variation=f"V{number}") for number in (1, 2)]
    messages = [Message("M1", "email", "Hi"), Message("M2", "sms", "Ho", visible=False), *variations]
    account.put("flows", "F", status="live", messages=messages)
    answer = client.get("/api/flows/F", params={"include": "flow-actions"}).json()
    definitions = [item["attributes"]["definition"] for item in answer["included"]]
    assert [one and one["type"] for one in definitions] == ["send-email", "time-delay", None, "time-delay", "ab-test"]
    mail, test = definitions[0]["data"], definitions[4]["data"]
    assert (mail["status"], mail["message"]["id"], mail["message"]["subject_line"]) == ("live", "M1", "Hi")
    assert definitions[0]["links"]["next"] == definitions[1]["id"] == answer["included"][1]["id"]
    sent = [action["data"]["message"]["id"] for action in test["current_experiment"]["variations"]]
    assert (sent, test["main_action"]["data"]["message"]["id"]) == (["V1", "V2"], "V1")
    by_definition = client.get("/api/flows/F", params={"additional-fields[flow]": "definition"}).json()
    assert by_definition["data"]["attributes"]["definition"]["actions"] == [one for one in definitions if one]


def test_included_campaign_messages_report_channel_label_and_subject(
    account: SandboxAccount, client: httpx.Client
) -> None:
    messages = [Message("M1", "email", "Hello"), Message("M2", "mobile_push", "Ding")]
    account.put("campaigns", "C", channels=["email", "mobile_push"], messages=messages, send_time=START)
    answer = client.get("/api/campaigns/C", params={"include": "campaign-messages"}).json()
    mail, push = (item["attributes"] for item in answer["included"])
    assert mail["definition"]["channel"] == "email"
    assert mail["definition"]["label"] == mail["definition"]["content"]["subject"] == "Hello"
    assert mail["send_times"] == [{"datetime": "2026-01-01T00:00:00.000000+00:00", "is_local": False}]
    assert push["definition"]["channel"] == "mobile_push"
    related = answer["data"]["relationships"]["campaign-messages"]["data"]
    assert related == [{"type": "campaign-message", "id": id} for id in ("M1", "M2")]


def test_the_same_tag_on_many_rows_is_included_once(account: SandboxAccount, client: httpx.Client) -> None:
    account.tags = {"T": "tag"}
    put_many(account, "flows", 3, tags=["T"])
    assert len(client.get("/api/flows?include=tags").json()["included"]) == 1


def test_additional_fields_are_visible_by_id_when_requested(account: SandboxAccount, client: httpx.Client) -> None:
    account.put("segments", "S")
    account.put("flows", "F")
    segment = client.get("/api/segments/S", params={"additional-fields[segment]": "profile_count"}).json()
    flow = client.get("/api/flows/F", params={"additional-fields[flow]": "definition"}).json()
    assert isinstance(segment["data"]["attributes"]["profile_count"], int)
    assert flow["data"]["attributes"]["definition"]["actions"] == []
    assert "profile_count" not in client.get("/api/segments/S").json()["data"]["attributes"]


def test_a_form_carries_its_definition_by_id_and_not_in_the_listing(
    account: SandboxAccount, client: httpx.Client
) -> None:
    account.put("forms", "F")
    by_id = client.get("/api/forms/F").json()["data"]["attributes"]
    listed = client.get("/api/forms").json()["data"][0]["attributes"]
    assert by_id.keys() - listed.keys() == {"definition"}
    sparse = client.get("/api/forms/F", params={"fields[form]": "name"}).json()["data"]["attributes"]
    assert sparse.keys() == {"name"}


def test_text_that_json_can_only_escape_is_visible_all_the_same(account: SandboxAccount, client: httpx.Client) -> None:
    account.put("flows", "F", name="nul \x00 lone \ud800 emoji 🎁")
    assert client.get("/api/flows/F").json()["data"]["attributes"]["name"] == "nul \x00 lone \ud800 emoji 🎁"


def test_an_account_can_have_small_pages_whatever_is_requested(account: SandboxAccount, client: httpx.Client) -> None:
    account.largest_page = 2
    for number in range(3):
        account.put("flows", f"F{number}")
    first = client.get("/api/flows?page[size]=50").json()
    assert [one["id"] for one in first["data"]] == ["F0", "F1"]
    assert [one["id"] for one in client.get(first["links"]["next"]).json()["data"]] == ["F2"]
