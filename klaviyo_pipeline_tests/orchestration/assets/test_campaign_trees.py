"""Campaigns of every kind equal the account after a sync, whatever the answers to the open questions are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from klaviyo_pipeline.sandbox.campaign_tree import CampaignTrees, send_moments, status_of
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, utc

pytestmark = pytest.mark.slow

OLD = "2026-07-15"
WORDS = {"push": "mobile_push"}
PREFERRED = ("email", "sms", "mobile_push", "whatsapp")
TABLES = ("campaigns", "campaign_audiences", "campaign_messages", "campaign_variations")


def day(number: int, hour: int = 9) -> datetime:
    return datetime(2025, 3, number, hour, 30, tzinfo=UTC)


def put_trees(shop: SandboxAccount) -> None:
    """One channel, WhatsApp, several channels, audiences and days, an A/B test, an archived one, a bare one."""
    shop.put("campaigns", "mail", name="Mail", channels=["email"], status="Sent", send_time=day(2), updated_at=day(2))
    shop.put("campaigns", "push", name="Push", channels=["mobile_push"], status="Draft", updated_at=day(3))
    shop.put("campaigns", "past", name="Past", channels=["sms"], archived=True, status="Cancelled", updated_at=day(4))
    for id in ("whatsapp", "canvas", "test", "bare"):
        shop.put("campaigns", id, name=id.title(), builder="canvas", messages=[], created_at=day(1), updated_at=day(1))
    shop.put(
        "campaign-messages",
        "W1",
        campaign="whatsapp",
        audience="whatsapp-audience",
        status="sent",
        send_time=day(3),
        updated=day(1),
    )
    shop.put("campaign-variations", "W1V", message="W1", channel="whatsapp", template_id="T9", updated=day(1))
    shop.put("campaign-audiences", "A2", campaign="canvas", name="VIP", included=["L2"], excluded=["L1"], priority=2)
    shop.put(
        "campaign-messages",
        "M1",
        campaign="canvas",
        audience="canvas-audience",
        status="sent",
        send_time=day(5),
        updated=day(1),
    )
    shop.put("campaign-messages", "M2", campaign="canvas", audience="A2", status="scheduled", send_time=day(7))
    shop.put("campaign-variations", "V1", message="M1", channel="email", subject="One", updated=day(1))
    shop.put("campaign-variations", "V2", message="M2", channel="sms", body="Two", updated=day(1))
    shop.put("campaign-variations", "V3", message="M2", channel="push", title="Hi", body="Three", updated=day(1))
    shop.put(
        "campaign-messages",
        "T1",
        campaign="test",
        audience="test-audience",
        status="sent",
        ab_test={"winner_metric": "opens_unique"},
        send_options={"send_time": None, "send_times": {"TA": day(6).isoformat(), "TB": day(5).isoformat()}},
        updated=day(1),
    )
    shop.put("campaign-variations", "TA", message="T1", channel="email", subject="A", updated=day(1))
    shop.put("campaign-variations", "TB", message="T1", channel="email", subject="B", updated=day(1))


def truth(shop: SandboxAccount) -> dict[str, dict[str, Any]]:
    """The content of the account at this moment, by table and id."""
    trees = CampaignTrees(shop, shop.clock())
    found: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
    for campaign in trees.all("campaigns"):
        messages = trees.linked(campaign, "campaign-messages")
        channels = sorted(WORDS.get(word, word) for word in trees.channels(campaign))
        found["campaigns"][campaign.id] = (
            campaign.attributes["name"],
            status_of(messages),
            campaign.attributes["archived"],
            channels or None,
            next((word for word in PREFERRED if word in channels), None),
            campaign.attributes["builder"],
            min((moment for one in messages for moment, _ in send_moments(one)), default=None),
            utc(campaign.attributes["updated_at"]),
        )
    for audience in trees.all("campaign-audiences"):
        definition = audience.definition
        [campaign] = trees.linked(audience, "campaigns")
        names = ("name", "included", "excluded", "priority")
        found["campaign_audiences"][audience.id] = (campaign.id, *(definition[name] for name in names))
    for message in trees.all("campaign-messages"):
        [campaign] = trees.linked(message, "campaigns")
        audiences = [one.id for one in trees.linked(message, "campaign-audiences")]
        moments = send_moments(message)
        variations = trees.linked(message, "campaign-variations")
        found["campaign_messages"][message.id] = (
            campaign.id,
            audiences[0] if audiences else None,
            message.definition["name"],
            message.definition["status"],
            moments[0][0] if moments else None,
            message.definition["ab_test"],
            variations[0].details.get("subject") if len(variations) == 1 else None,
        )
    for variation in trees.all("campaign-variations"):
        [message] = trees.linked(variation, "campaign-messages")
        [campaign] = trees.linked(message, "campaigns")
        channel = variation.details.get("channel")
        found["campaign_variations"][variation.id] = (
            message.id,
            campaign.id,
            WORDS.get(channel, channel),
            *(variation.details.get(name) for name in ("subject", "body", "template_id")),
        )
    return found


def shown_at_the_older(shop: SandboxAccount) -> dict[str, Any]:
    """The campaigns that revision 2026-07-15 lists, by id."""
    found = {}
    for id in shop.objects["campaigns"]:
        older = shop.older_campaign(id)
        if older is None or not older.channels:
            continue
        given = older.attributes
        channel = next(word for word in PREFERRED if word in older.channels)
        times = [None if given[name] is None else utc(given[name]) for name in ("send_time", "updated_at")]
        found[id] = (given["name"], given["status"], given["archived"], channel, *times)
    return found


COLUMNS = {
    "campaigns": "name, status, archived, channels, channel, builder, send_time, updated_at",
    "campaign_audiences": "campaign_id, name, included, excluded, priority",
    "campaign_messages": "campaign_id, audience_id, name, status, send_time, ab_test, subject",
    "campaign_variations": "message_id, campaign_id, channel, subject, body, template_id",
}


def stored(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """The content of the tables, in the form of `truth`."""
    return {
        table: {
            row[0]: row[1:]
            for row in pipeline.rows(f"SELECT id, {columns} FROM {table} WHERE deleted_at IS NULL ORDER BY id")
        }
        for table, columns in COLUMNS.items()
    }


def states(pipeline: Pipeline) -> dict[str, int]:
    return {table: pipeline.one(f"SELECT count(*) FROM {table}_history") for table in TABLES}


QUESTIONS: list[Mapping[str, Any]] = [
    {},
    {"parts_move_campaigns": True},
    {"variations_move_messages": False, "parts_move_campaigns": True},
    {"messages_include_variations": False},
    {"unfiltered_campaigns": "all", "messages_of_archived": False},
    {"relationship_data": "always", "agent_hints": False},
]


@pytest.fixture(params=QUESTIONS, ids=lambda options: ", ".join(options) or "as assumed")
def answered(request: pytest.FixtureRequest, shop: SandboxAccount) -> SandboxAccount:
    """An account with campaigns of every kind that answers an open question in one way."""
    for name, value in request.param.items():
        setattr(shop, name, value)
    put_trees(shop)
    return shop


def test_windows_and_census_end_as_the_account_has_it(pipeline: Pipeline, answered: SandboxAccount) -> None:
    pipeline.run("campaigns", "2025-02-01", "2025-03-31")
    assert stored(pipeline) == truth(answered)
    answered.put("campaign-messages", "M2", status="sent", updated=day(8))
    answered.put("campaign-variations", "V1", subject="Once more", updated=day(8))
    answered.put("campaign-messages", "W1", name="Renamed", updated=day(8, 23))
    pipeline.run("campaigns", "2025-03-08")
    expected = truth(answered)
    if not answered.variations_move_messages and not answered.parts_move_campaigns:
        expected["campaign_variations"]["V1"] = stored(pipeline)["campaign_variations"]["V1"]
    assert stored(pipeline) == expected
    answered.put("campaign-variations", "V2", body="Unseen by any window")
    answered.delete("campaign-variations", "V3")
    answered.delete("campaign-audiences", "A2")
    answered.delete("campaigns", "test")
    answered.archive("campaigns", "canvas")
    pipeline.run("campaigns_census")
    assert stored(pipeline) == truth(answered)
    before = states(pipeline)
    pipeline.run("campaigns_census")
    assert states(pipeline) == before


def test_a_window_contains_what_only_a_message_moved_into_it(pipeline: Pipeline, shop: SandboxAccount) -> None:
    put_trees(shop)
    pipeline.run("campaigns", "2025-02-01", "2025-03-31")
    shop.put("campaign-messages", "M2", status="sent", updated=day(8))
    pipeline.run("campaigns", "2025-03-08")
    assert pipeline.one("SELECT status FROM campaigns WHERE id = 'canvas'") == "Sent"
    window = pipeline.rows(
        "SELECT rows_fetched, rows_updated FROM sync_windows WHERE entity = 'campaigns' AND window_start = '2025-03-08'"
    )
    assert window == [(1, 1)]


def test_a_census_counts_a_campaign_in_both_listings_once(pipeline: Pipeline, shop: SandboxAccount) -> None:
    shop.unfiltered_campaigns = "all"
    put_trees(shop)
    shop.archive("campaigns", "canvas")
    pipeline.run("campaigns_census")
    campaigns = len(pipeline.ids("campaigns"))
    counts = "SELECT rows_listed, rows_inserted, rows_unchanged FROM census_runs"
    assert pipeline.rows(counts) == [(campaigns, campaigns, 0)]


def test_a_window_counts_a_campaign_of_two_channels_once(pipeline: Pipeline, shop: SandboxAccount) -> None:
    put_trees(shop)
    pipeline.configure(revision=OLD)
    pipeline.run("campaigns", "2025-03-01")
    counts = "SELECT rows_fetched, rows_inserted, rows_unchanged FROM sync_windows WHERE entity = 'campaigns'"
    campaigns = len(pipeline.ids("campaigns"))
    assert campaigns == 3
    assert pipeline.one("SELECT channels FROM campaigns WHERE id = 'canvas'") == ["email", "mobile_push", "sms"]
    assert pipeline.rows(counts) == [(campaigns, campaigns, 0)]


def test_a_campaign_without_a_time_is_in_the_window_of_its_message(pipeline: Pipeline, shop: SandboxAccount) -> None:
    put_trees(shop)
    shop.put("campaigns", "canvas", updated_at=None)
    shop.put("campaign-messages", "M2", status="sent", updated=day(8))
    pipeline.run("campaigns", "2025-03-08", "2025-03-10")
    fetched = "SELECT rows_fetched FROM sync_windows WHERE entity = 'campaigns' ORDER BY window_start"
    assert pipeline.rows(fetched) == [1, 0, 0]


def test_the_older_revision_fills_the_same_tables(pipeline: Pipeline, shop: SandboxAccount) -> None:
    put_trees(shop)
    pipeline.configure(revision=OLD)
    pipeline.run("campaigns", "2025-02-01", "2025-03-31")
    row = pipeline.rows("SELECT status, channel, channels, builder, revision FROM campaigns WHERE id = 'mail'")
    assert row == [("Sent", "email", ["email"], None, OLD)]
    query = (
        "SELECT m.status, m.send_time, v.channel, v.subject, a.included FROM campaigns c "
        "JOIN campaign_messages m ON m.campaign_id = c.id JOIN campaign_variations v ON v.message_id = m.id "
        "JOIN campaign_audiences a ON a.campaign_id = c.id WHERE c.id = 'mail'"
    )
    [(status, send_time, channel, subject, included)] = pipeline.rows(query)
    assert (status, send_time, channel, included) == ("sent", day(2), "email", [])
    assert subject


@pytest.mark.parametrize("older", ["each", "first", "none"])
def test_the_older_revision_ends_as_it_shows_the_account(pipeline: Pipeline, shop: SandboxAccount, older: Any) -> None:
    shop.older_revision_lists = older
    put_trees(shop)
    pipeline.configure(revision=OLD)
    query = "SELECT id, name, status, archived, channel, send_time, updated_at FROM campaigns WHERE deleted_at IS NULL"
    pipeline.run("campaigns", "2025-02-01", "2025-03-31")
    assert {row[0]: row[1:] for row in pipeline.rows(query)} == shown_at_the_older(shop)
    shop.put("campaigns", "mail", name="Renamed")
    shop.archive("campaigns", "canvas")
    shop.delete("campaigns", "push")
    pipeline.run("campaigns_census")
    assert {row[0]: row[1:] for row in pipeline.rows(query)} == shown_at_the_older(shop)


@pytest.mark.parametrize("older", ["each", "first", "none"])
def test_an_account_moves_over_and_back_without_false_states(
    pipeline: Pipeline, shop: SandboxAccount, older: Any
) -> None:
    shop.older_revision_lists = older
    for id, channel in (("mail", "email"), ("text", "sms"), ("note", "mobile_push")):
        shop.put("campaigns", id, name=id, channels=[channel], status="Sent", send_time=day(2), updated_at=day(2))
    shop.put("campaigns", "off", name="Off", status="Cancelled: No Recipients", updated_at=day(3))
    shop.put("campaigns", "busy", name="Busy", status="Adding Recipients", updated_at=day(3))
    pipeline.configure(revision=OLD)
    pipeline.run("campaigns_census")
    old = states(pipeline)
    times = pipeline.rows("SELECT id, observed_at FROM campaigns ORDER BY id")
    pipeline.configure(revision="2026-10-15")
    pipeline.run("campaigns_census")
    assert stored(pipeline) == truth(shop)
    assert states(pipeline) == old
    assert pipeline.rows("SELECT id, observed_at FROM campaigns ORDER BY id") == times
    put_trees(shop)
    pipeline.run("campaigns_census")
    known = truth(shop)
    assert stored(pipeline) == known
    new = states(pipeline)
    pipeline.configure(revision=OLD)
    pipeline.run("campaigns_census")
    for table, rows in stored(pipeline).items():
        assert rows.keys() >= known[table].keys()
    assert states(pipeline)["campaign_audiences"] == new["campaign_audiences"]
    pipeline.configure(revision="2026-10-15")
    pipeline.run("campaigns_census")
    assert stored(pipeline) == known


def test_an_answer_of_another_revision_ends_the_run_before_anything_is_written(
    pipeline: Pipeline, shop: SandboxAccount
) -> None:
    put_trees(shop)
    shop.retired_revisions = frozenset({OLD})
    pipeline.configure(revision=OLD)
    assert "no longer serves this" in pipeline.fail("campaigns", "2025-03-01")
    assert pipeline.one("SELECT count(*) FROM campaigns") == 0


def test_a_window_costs_no_more_than_its_pages(pipeline: Pipeline, shop: SandboxAccount) -> None:
    for number in range(250):
        shop.put("campaigns", f"C{number:03}", name="N", channels=["email"], created_at=day(1), updated_at=day(2))
    with pipeline.requested() as requests:
        pipeline.run("campaigns", "2025-03-01", "2025-03-03")
    listed = [entry.path for entry in requests if entry.path.startswith("/api/campaign")]
    assert len(listed) <= 3 + 3 + 1 + 2
    with pipeline.requested() as requests:
        pipeline.run("campaigns_census")
    listed = [entry.path for entry in requests if entry.path.startswith("/api/campaign")]
    assert len(listed) <= 3 + 3 + 1 + 2
