from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from klaviyo_pipeline.sandbox.app import create_app
from klaviyo_pipeline.sandbox.campaign_tree import CampaignTrees, send_moments
from klaviyo_pipeline.sandbox.entity_kinds import ENTITIES
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline.sandbox.shop import EDGE_CASE_NAMES
from klaviyo_pipeline.sandbox.timestamps import read_time
from klaviyo_pipeline_tests.sandbox.conftest import client_of, walk

NEW_YORK = ZoneInfo("America/New_York")
AFTERWARDS = datetime(2027, 6, 1, tzinfo=UTC)
DAY = date(2026, 2, 4)


def picture(account: SandboxAccount) -> Any:
    """The content of the account and its counts on one day."""
    stored = {
        entity: {id: dataclasses.asdict(output) for id, output in objects.items()}
        for entity, objects in account.objects.items()
    }
    counted = {
        kind: [(group.groupings, dict(group.counts(DAY))) for group in groups]
        for kind, groups in account.figures.groups.items()
    }
    return account.id, stored, counted


def last_states(account: SandboxAccount, entity: str) -> list[dict[str, Any]]:
    return [output.attributes for output in account.objects[entity].values()]


def test_the_account_depends_only_on_the_seed() -> None:
    assert picture(generate_account(3)) == picture(generate_account(3))
    assert picture(generate_account(3)) != picture(generate_account(4))


def test_the_account_has_the_requested_size() -> None:
    account = generate_account(flows=60, campaigns=30, forms=4, segments=22, lists=11, templates=5)
    assert {entity: len(account.objects[entity]) for entity in ENTITIES} == {
        "flows": 59,
        "campaigns": 30,
        "forms": 4,
        "segments": 22,
        "lists": 11,
        "templates": 5,
    }
    assert len(account.deleted["flows"]) == 1


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_small_account_can_be_generated(size: int) -> None:
    account = generate_account(flows=size, campaigns=size, forms=size, segments=size, lists=size, templates=size)
    assert [len(account.objects[entity]) for entity in ENTITIES] == [size] * 6


def test_the_timeline_must_run_forwards() -> None:
    with pytest.raises(ValueError, match="until"):
        generate_account(start=date(2026, 1, 1), until=date(2026, 1, 1))


def test_a_later_clock_has_more_of_the_same_account() -> None:
    account = generate_account()
    early, late = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    campaigns = account.objects["campaigns"].values()
    output = {now: [campaign.id for campaign in campaigns if campaign.at(now)] for now in (early, late)}
    assert 0 < len(output[early]) < len(output[late]) < 260
    assert set(output[early]) <= set(output[late])


def test_only_one_object_has_an_update_time_in_the_future() -> None:
    account = generate_account()
    now = datetime(2025, 7, 1, tzinfo=UTC)
    ahead = []
    for entity, field in (("flows", "updated"), ("campaigns", "updated_at"), ("segments", "updated")):
        for output in account.objects[entity].values():
            attributes = output.at(now) or {}
            moment = read_time(attributes.get(field))
            if moment is not None and moment > now:
                ahead.append(attributes[field])
    assert ahead == ["2031-05-17T08:00:00+00:00"]


def test_every_state_begins_at_its_update_time_except_for_edge_cases() -> None:
    account = generate_account()
    late = 0
    for output in account.objects["campaigns"].values():
        for state in output.states:
            moment = read_time(state.attributes["updated_at"])
            assert moment is not None
            assert state.since is not None
            assert moment <= state.since
            late += moment < state.since
    assert 0 < late == sum(1 for attributes in last_states(account, "campaigns") if attributes["archived"])


def test_a_generated_account_contains_the_edge_cases_of_real_accounts() -> None:
    account = generate_account()
    flows = last_states(account, "flows")
    for field in ("name", "status", "trigger_type", "updated"):
        assert any(flow[field] is None for flow in flows), field
    for entity in ("flows", "campaigns", "segments"):
        assert set(EDGE_CASE_NAMES) <= {attributes["name"] for attributes in last_states(account, entity)}
        assert any("smart_optimizer" in attributes for attributes in last_states(account, entity))
    updates = [flow["updated"] for flow in flows if flow["updated"]]
    moments = [moment for text in updates if (moment := read_time(text))]
    assert any(" " in text for text in updates)
    assert any(text.endswith("+05:30") for text in updates)
    assert any((moment.hour, moment.minute, moment.second) == (0, 0, 0) for moment in moments)
    local = [moment.astimezone(NEW_YORK) for moment in moments]
    assert any((moment.hour, moment.minute, moment.second) == (0, 0, 0) for moment in local)
    assert any(read_time(c["updated_at"]).microsecond for c in last_states(account, "campaigns"))  # type: ignore[union-attr]
    assert any(flow["archived"] for flow in flows)


def test_campaigns_of_every_kind_are_there() -> None:
    account = generate_account()
    trees = CampaignTrees(account, AFTERWARDS)
    channels = [trees.channels(campaign) for campaign in trees.all("campaigns")]
    assert {("email",), ("sms",), ("push",), ("whatsapp",), ("email", "sms", "whatsapp")} <= {*map(tuple, channels)}
    assert 0.7 < sum(1 for words in channels if words in (["email"], ["sms"], ["push"])) / len(channels) < 0.95
    linked = [trees.linked(campaign, "campaign-messages") for campaign in trees.all("campaigns")]
    assert any(len(trees.linked(campaign, "campaign-audiences")) > 1 for campaign in trees.all("campaigns"))
    messages = [message for several in linked for message in several]
    assert any(message.options["send_times"] for message in messages)
    assert any(message.definition["ab_test"] for message in messages)
    days = [{moment.date() for message in several for moment, _ in send_moments(message)} for several in linked]
    assert {len(several) for several in days} == {1, 2}


def test_a_draft_of_the_builder_for_several_channels_begins_without_messages() -> None:
    account = generate_account()
    empty = []
    for campaign in account.objects["campaigns"].values():
        trees = CampaignTrees(account, campaign.states[0].since or AFTERWARDS)
        node = trees.find("campaigns", campaign.id)
        assert node is not None
        if not trees.linked(node, "campaign-messages"):
            empty.append(node.attributes["builder"])
    assert empty
    assert set(empty) == {"canvas"}


def test_three_equal_times_are_on_both_sides_of_a_page_border() -> None:
    account = generate_account(flows=80)
    with SandboxServer(account, clock=lambda: AFTERWARDS, rate_scale=0) as server, client_of(server) as client:
        for entity, size in (("flows", 50), ("segments", 10)):
            pages = walk(client, f"/api/{entity}", sort="updated")
            states = {id: output.attributes for id, output in account.objects[entity].items()}
            around = [states[id]["updated"] for id in (*pages[0][size - 2 : size], pages[1][0])]
            assert len(set(around)) == 1, entity


def test_counts_of_sends_are_consistent() -> None:
    account = generate_account()
    seen = 0
    for group in account.figures.groups["flow"]:
        counts = group.counts(DAY)
        if not counts:
            continue
        seen += 1
        assert counts["delivered"] + counts["bounced_or_failed"] == counts["recipients"]
        assert counts["opens_unique"] <= min(counts["opens"], counts["delivered"])
        assert counts["clicks_unique"] <= counts["clicks"]
        assert counts["conversion_uniques"] <= counts["conversions"]
        assert all(value >= 0 for value in counts.values())
    assert seen > 20


def test_some_flows_send_nothing_and_weekdays_differ() -> None:
    account = generate_account()
    groups = account.figures.groups["flow"]
    days = [date(2026, 1, 5) + timedelta(days=offset) for offset in range(28)]
    recipients = {day: sum(group.counts(day).get("recipients", 0) for group in groups) for day in days}
    weekend = sum(count for day, count in recipients.items() if day.weekday() >= 5) / 8
    workdays = sum(count for day, count in recipients.items() if day.weekday() < 5) / 20
    assert weekend < 0.9 * workdays
    assert any(not any(group.counts(day) for day in days) for group in groups)


def test_campaign_values_belong_to_the_day_of_the_send() -> None:
    account = generate_account()
    sent = [group for group in account.figures.groups["campaign"] if group.groupings["send_channel"] == "email"]
    for group in sent:
        options = account.objects["campaign-messages"][group.groupings["campaign_message_id"]].attributes["definition"][
            "send_options"
        ]
        text = (options["send_times"] or {}).get(group.groupings.get("variation")) or options["send_time"]
        moment = read_time(text)
        assert moment is not None
        day = moment.astimezone(NEW_YORK).date()
        assert group.counts(day)
        assert not group.counts(day + timedelta(days=1))
        assert not group.counts(day - timedelta(days=1))
    assert any(group.groupings["campaign_message_id"] == group.groupings["campaign_id"] for group in sent)


def test_segment_members_add_up_from_day_to_day() -> None:
    account = generate_account()
    for group in account.figures.groups["segment"][:5]:
        before, today = group.counts(DAY - timedelta(days=1)), group.counts(DAY)
        if before:
            moved = today["members_added"] - today["members_removed"]
            assert today["total_members"] == before["total_members"] + moved >= 0


def test_values_of_a_day_never_change() -> None:
    account = generate_account(campaigns=0, forms=0, segments=0)
    moments = [datetime(2026, 2, 4, hour, tzinfo=NEW_YORK) for hour in (0, 23)]
    moments.append(datetime(2026, 2, 20, 12, tzinfo=NEW_YORK))
    body = {
        "data": {
            "type": "flow-series-report",
            "attributes": {
                "statistics": ["recipients", "opens", "conversion_value"],
                "timeframe": {"start": "2026-02-01T00:00:00", "end": "2026-02-04T23:59:59"},
                "interval": "daily",
                "conversion_metric_id": "RPlacd",
            },
        }
    }
    answers = []
    with SandboxServer(create_app(account, rate_scale=0)) as server, client_of(server) as client:
        for moment in moments:
            account.clock = lambda moment=moment: moment.astimezone(UTC)  # type: ignore[misc]
            answers.append(client.post("/api/flow-series-reports", json=body).json()["data"])
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["attributes"]["results"]


def test_another_conversion_metric_has_other_conversions() -> None:
    account = generate_account(campaigns=0, forms=0, segments=0)
    account.clock = lambda: datetime(2026, 2, 20, tzinfo=UTC)
    totals = {}
    with SandboxServer(account, rate_scale=0) as server, client_of(server) as client:
        for metric in ("RPlacd", "RChkot"):
            attributes = {
                "statistics": ["conversions", "conversion_value"],
                "timeframe": {"key": "last_7_days"},
                "conversion_metric_id": metric,
            }
            body = {"data": {"type": "flow-values-report", "attributes": attributes}}
            answer = client.post("/api/flow-values-reports", json=body).json()["data"]["attributes"]["results"]
            totals[metric] = [sum(line["statistics"][name] for line in answer) for name in attributes["statistics"]]
    assert totals["RChkot"][0] == 2 * totals["RPlacd"][0] > 0
    assert totals["RPlacd"][1] > totals["RChkot"][1] == 0
