"""Values of campaigns with several messages, channels and send days are stored on the day of the message."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline

pytestmark = pytest.mark.slow

RANGE = ("2025-03-01", "2025-03-10")
DATED = (
    "SELECT campaign_id, campaign_message_id, send_channel, date::text, recipients FROM campaign_report "
    "ORDER BY 1, 2, 3"
)
UNDATED = "SELECT campaign_id, recipients FROM campaign_report_undated"


def at(day: int) -> datetime:
    return datetime(2025, 3, day, 9, 30, tzinfo=UTC)


@pytest.fixture
def canvas(shop: SandboxAccount) -> SandboxAccount:
    """A campaign that sends an email on March 5, a WhatsApp message on March 7 and a push message on March 9."""
    shop.put("campaigns", "C", name="Sale", builder="canvas", messages=[], created_at=at(1), updated_at=at(1))
    for day, (id, channel) in zip((5, 7, 9), (("M1", "email"), ("M2", "whatsapp"), ("M3", "push")), strict=True):
        shop.put("campaign-messages", id, campaign="C", status="sent", send_time=at(day), updated=at(1))
        shop.put("campaign-variations", f"V{id}", message=id, channel=channel, updated=at(1))
    return shop


def send(shop: SandboxAccount, message: str, channel: str, day: int, recipients: float, campaign: str = "C") -> None:
    groupings = {"campaign_id": campaign, "campaign_message_id": message, "send_channel": channel}
    shop.set_figures("campaign", groupings, date(2025, 3, day), {"recipients": recipients, "delivered": recipients})


def sync(pipeline: Pipeline) -> None:
    for asset in ("campaigns", "campaign_report", "campaign_metrics"):
        pipeline.run(asset, *RANGE)


def test_each_message_s_values_stand_on_its_own_day(pipeline: Pipeline, canvas: SandboxAccount) -> None:
    for id, channel, day, recipients in (
        ("M1", "email", 5, 100),
        ("M2", "whatsapp", 7, 20),
        ("M3", "push-notification", 9, 3),
    ):
        send(canvas, id, channel, day, recipients)
    sync(pipeline)
    assert pipeline.rows(DATED) == [
        ("C", "M1", "email", "2025-03-05", 100),
        ("C", "M2", "whatsapp", "2025-03-07", 20),
        ("C", "M3", "push-notification", "2025-03-09", 3),
    ]
    metrics = "SELECT date::text, channel, recipients, delivery_rate FROM campaign_metrics ORDER BY 1"
    assert pipeline.rows(metrics) == [
        ("2025-03-05", "email", 100, 1),
        ("2025-03-07", "email", 20, 1),
        ("2025-03-09", "email", 3, 1),
    ]
    matched = "SELECT message_id, matched_by FROM campaign_report_messages ORDER BY 1"
    assert pipeline.rows(matched) == [(id, "message id") for id in ("M1", "M2", "M3")]


def test_values_under_the_campaign_s_id_stand_on_the_day_of_the_message_in_their_channel(
    pipeline: Pipeline, canvas: SandboxAccount
) -> None:
    for channel, day, recipients in (("email", 5, 100), ("whatsapp", 7, 20), ("push-notification", 9, 3)):
        send(canvas, "C", channel, day, recipients)
    sync(pipeline)
    days = [(row[2], row[3], row[4]) for row in pipeline.rows(DATED)]
    assert days == [
        ("email", "2025-03-05", 100),
        ("push-notification", "2025-03-09", 3),
        ("whatsapp", "2025-03-07", 20),
    ]
    matched = "SELECT send_channel, message_id, matched_by FROM campaign_report_messages ORDER BY 1"
    assert pipeline.rows(matched) == [
        ("email", "M1", "only message"),
        ("push-notification", "M3", "only message"),
        ("whatsapp", "M2", "only message"),
    ]
    canvas.delete("campaigns", "C")
    pipeline.run("campaigns_census")
    pipeline.run("campaign_report", *RANGE)
    assert [(row[2], row[3], row[4]) for row in pipeline.rows(DATED)] == days


def test_values_of_variations_that_go_out_on_several_days_stand_on_the_first(
    pipeline: Pipeline, canvas: SandboxAccount
) -> None:
    times = {"VM1": at(6).isoformat(), "VX": at(4).isoformat()}
    canvas.put("campaign-variations", "VX", message="M1", channel="email", updated=at(1))
    canvas.put("campaign-messages", "M1", send_options={"send_time": None, "send_times": times}, updated=at(2))
    send(canvas, "M1", "email", 4, 60)
    send(canvas, "M1", "email", 6, 40)
    sync(pipeline)
    assert pipeline.rows(DATED) == [("C", "M1", "email", "2025-03-04", 100)]


@pytest.mark.parametrize("older", ["each", "first", "none"])
def test_values_of_a_campaign_that_the_older_revision_may_hide_are_kept_once_and_find_their_days(
    older: str, pipeline: Pipeline, canvas: SandboxAccount
) -> None:
    canvas.older_revision_lists = older  # type: ignore[assignment]
    send(canvas, "M1", "email", 5, 100)
    send(canvas, "M2", "whatsapp", 7, 20)
    pipeline.configure(revision="2026-07-15")
    sync(pipeline)
    everything = sum(row[-1] for query in (DATED, UNDATED) for row in pipeline.rows(query))
    assert everything == 120
    pipeline.configure(revision="2026-10-15")
    sync(pipeline)
    pipeline.run("campaigns_census")
    sync(pipeline)
    assert [(row[1], row[3], row[4]) for row in pipeline.rows(DATED)] == [
        ("M1", "2025-03-05", 100),
        ("M2", "2025-03-07", 20),
    ]
    assert pipeline.rows(UNDATED) == []
