"""No row of a report is lost, and none is stored twice: groups without ids, without a day, on another day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import pytest

from klaviyo_pipeline.sandbox.sandbox_account import Message, SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, put, utc

pytestmark = pytest.mark.slow

OLD = utc("2024-06-01T12:00:00")
DAY = date(2025, 3, 10)
FLOW = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"}
CAMPAIGN = {"campaign_id": "C1", "campaign_message_id": "M1", "send_channel": "email"}
UNDATED = "SELECT campaign_id, campaign_message_id, recipients FROM campaign_report_undated ORDER BY 1, 2"
DATED = "SELECT campaign_id, date, recipients FROM campaign_report ORDER BY 1, 2"


def send(shop: SandboxAccount, recipients: float, day: date = DAY, **groupings: str) -> None:
    """Messages of a campaign that was sent on that day."""
    counts = {"recipients": recipients, "conversion_value": recipients / 2}
    shop.set_figures("campaign", {**CAMPAIGN, **groupings}, day, counts)


def put_campaign(shop: SandboxAccount, sent: str | None, id: str = "C1") -> None:
    put(shop, "campaigns", id, OLD, status="Sent", send_time=utc(sent) if sent else None, created_at=OLD)


def ask(pipeline: Pipeline, kind: str, first: str, last: str | None = None) -> None:
    for table in ("report", "metrics"):
        pipeline.run(f"{kind}_{table}", first, last)


# Groups without ids.


def test_groups_without_a_message_id_are_added_and_their_rates_are_computed_from_the_sums(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(shop, "flows", "F1", OLD, status="live")
    for message, recipients in (("M1", 100), ("M2", 11)):
        counts = {"recipients": recipients, "delivered": recipients, "opens_unique": 10}
        shop.set_figures("flow", {**FLOW, "flow_message_id": message}, DAY, counts)
    shop.ids_left_out = {"M1", "M2"}
    ask(pipeline, "flow", "2025-03-10")
    found = pipeline.rows("SELECT flow_id, flow_message_id, recipients, open_rate, groups FROM flow_report")
    assert found == [("F1", "", 111, None, 2)]
    assert pipeline.rows("SELECT recipients, round(open_rate, 6) FROM flow_metrics") == [(111, Decimal("0.18018"))]


@pytest.mark.parametrize(
    ("kind", "groupings", "counts"),
    [
        ("flow", FLOW, {"recipients": 100}),
        ("form", {"form_id": "W1"}, {"submits": 100}),
        ("segment", {"segment_id": "S1"}, {"members_added": 100}),
    ],
)
def test_a_group_without_an_object_id_is_stored_with_the_others(
    kind: str, groupings: Mapping[str, str], counts: Mapping[str, float], shop: SandboxAccount, pipeline: Pipeline
) -> None:
    [(statistic, _)] = counts.items()
    shop.set_figures(kind, groupings, DAY, counts)
    shop.set_figures(kind, {**groupings, f"{kind}_id": "known"}, DAY, {statistic: 7})
    put(shop, f"{kind}s", "known", OLD)
    shop.ids_left_out = {groupings[f"{kind}_id"]}
    with pipeline.requested() as requests:
        ask(pipeline, kind, "2025-03-10")
    for table in ("report", "metrics"):
        assert pipeline.rows(f"SELECT {kind}_id, {statistic} FROM {kind}_{table} ORDER BY 1") == [
            ("", 100),
            ("known", 7),
        ]
    looked_up = [request.path for request in requests if request.path.startswith(f"/api/{kind}s/")]
    assert looked_up == [f"/api/{kind}s/known"]


def test_a_group_without_a_campaign_id_is_stored_and_reported(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put_campaign(shop, "2025-03-10T15:00:00")
    send(shop, 100)
    for message, recipients in (("M8", 5), ("M9", 6)):
        send(shop, recipients, campaign_id="gone", campaign_message_id=message)
    shop.ids_left_out = {"gone", "M8", "M9"}
    ask(pipeline, "campaign", "2025-03-10")
    assert pipeline.rows(DATED) == [("C1", DAY, 100)]
    assert pipeline.rows(UNDATED) == [("", "", 11)]
    assert pipeline.rows("SELECT groups, conversion_value FROM campaign_report_undated") == [(2, Decimal("5.5"))]


# Values under the campaign's id instead of the message's.


def test_values_under_the_campaigns_id_are_not_attributed_to_one_of_several_messages(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(
        shop,
        "campaigns",
        "C1",
        OLD,
        channels=["email", "sms"],
        messages=[Message("M1", "email", "A"), Message("M2", "email", "B"), Message("M3", "sms", "C")],
    )
    put(shop, "campaigns", "C2", OLD, messages=[Message("M4", "email", "D")])
    for id in ("C1", "C2"):
        put_campaign(shop, "2025-03-10T15:00:00", id)
    for message, channel in (("M1", "email"), ("M2", "email"), ("M3", "sms")):
        send(shop, 10, campaign_message_id=message, send_channel=channel)
    send(shop, 5, campaign_id="C2", campaign_message_id="M4")
    pipeline.run("campaigns_census")
    attributed = (
        "SELECT campaign_id, send_channel, message_id, matched_by FROM campaign_report_messages ORDER BY 1, 2, 3"
    )
    named, single = "message id", "only message"
    for habit, expected in (
        ("message", [("email", "M1", named), ("email", "M2", named), ("sms", "M3", named), ("email", "M4", named)]),
        ("campaign", [("email", None, "unknown"), ("sms", "M3", single), ("email", "M4", single)]),
    ):
        shop.report_message_ids = habit  # type: ignore[assignment]
        pipeline.run("campaign_report", "2025-03-10")
        assert [row[1:] for row in pipeline.rows(attributed)] == expected


# Values without a day.


def test_values_without_a_day_are_stored_once_however_the_ranges_overlap(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put_campaign(shop, None)
    send(shop, 40)
    send(shop, 60, date(2025, 3, 30))
    for first, last in (("2025-03-01", "2025-04-05"), ("2025-03-09", "2025-03-10"), ("2025-03-20", "2025-04-10")):
        pipeline.run("campaign_report", first, last)
        assert pipeline.rows(UNDATED) == [("C1", "M1", 100)]
    assert pipeline.rows(DATED) == []
    assert pipeline.rows("SELECT status, count(*) FROM sync_windows GROUP BY 1") == [("synced", 41)]


def test_a_run_over_some_days_removes_no_undated_values_and_a_restatement_of_all_days_does(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put_campaign(shop, None)
    send(shop, 40)
    send(shop, 60, date(2025, 4, 20))
    requested = "SELECT asked_from::text, asked_to::text FROM campaign_report_undated"
    pipeline.run("campaign_report", "2025-03-10", "2025-04-20")
    pipeline.run("campaign_report", "2025-04-19", "2025-04-20")
    assert pipeline.rows(UNDATED) == [("C1", "M1", 100)]
    assert pipeline.rows(requested) == [("2025-02-24", "2025-05-04")]
    send(shop, 30)
    pipeline.run("campaign_report", "2025-03-10", "2025-04-20")
    assert pipeline.rows(UNDATED) == [("C1", "M1", 90)]
    for day in (DAY, date(2025, 4, 20)):
        send(shop, 0, day)
    pipeline.run("campaign_report", "2025-03-10")
    assert pipeline.rows(UNDATED) == [("C1", "M1", 90)]
    pipeline.run("campaign_report", "2025-03-10", "2025-04-20")
    assert pipeline.rows(UNDATED) == []


def test_values_move_to_their_day_when_the_campaign_gets_a_send_time(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put_campaign(shop, None)
    send(shop, 40)
    ask(pipeline, "campaign", "2025-03-10")
    put_campaign(shop, "2025-03-10T15:00:00")
    pipeline.run("campaigns_census")
    ask(pipeline, "campaign", "2025-05-01")
    assert pipeline.rows(UNDATED) == []
    for table in ("report", "metrics"):
        assert pipeline.rows(f"SELECT date, recipients FROM campaign_{table}") == [(DAY, 40)]


# A send time that changes.


@pytest.mark.parametrize(
    ("moved", "requested"),
    [
        ("2025-03-20T15:00:00", "2025-03-20"),
        ("2025-03-20T15:00:00", "2025-05-01"),
        ("2025-03-02T15:00:00", "2025-03-10"),
    ],
    ids=["later, the new day is synced", "later, another day is synced", "earlier, the old day is synced"],
)
def test_values_follow_a_changed_send_time_whichever_day_is_synced(
    moved: str, requested: str, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put_campaign(shop, "2025-03-10T15:00:00")
    put_campaign(shop, "2025-03-10T16:00:00", "C2")
    send(shop, 40)
    send(shop, 7, campaign_id="C2")
    ask(pipeline, "campaign", "2025-03-01", "2025-03-20")
    put_campaign(shop, moved)
    pipeline.run("campaigns_census")
    ask(pipeline, "campaign", requested)
    for table in ("report", "metrics"):
        found = pipeline.rows(f"SELECT campaign_id, date, recipients FROM campaign_{table} ORDER BY 1")
        assert found == [("C1", utc(moved).date(), 40), ("C2", DAY, 7)]
    earlier = pipeline.rows("SELECT campaign_id, date, recipients FROM campaign_report_superseded")
    assert earlier == [("C1", DAY, 40)]
    counted = pipeline.rows(
        "SELECT entity, rows_fetched FROM sync_windows WHERE window_start = '2025-03-10' AND entity LIKE 'campaign%' "
        "ORDER BY 1"
    )
    assert counted == [("campaign_metrics", 1), ("campaign_report", 1)]


def test_a_send_that_is_cancelled_and_started_again_has_the_values_of_both_days_on_the_second(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put_campaign(shop, "2025-03-10T15:00:00")
    send(shop, 40)
    ask(pipeline, "campaign", "2025-03-10")
    put_campaign(shop, "2025-03-20T15:00:00")
    send(shop, 60, date(2025, 3, 20))
    pipeline.run("campaigns_census")
    ask(pipeline, "campaign", "2025-03-20")
    assert pipeline.rows(DATED) == [("C1", date(2025, 3, 20), 100)]
    assert pipeline.rows("SELECT date, recipients FROM campaign_metrics") == [(date(2025, 3, 20), 100)]


def test_values_that_move_away_and_back_can_change_on_their_first_day(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put_campaign(shop, "2025-03-10T15:00:00")
    send(shop, 40)
    ask(pipeline, "campaign", "2025-03-10")
    for moved in ("2025-03-20T15:00:00", "2025-03-10T15:00:00"):
        put_campaign(shop, moved)
        pipeline.run("campaigns_census")
        # The answers for these days have nothing of this campaign.
        ask(pipeline, "campaign", "2025-05-01")
    send(shop, 60)
    ask(pipeline, "campaign", "2025-03-10")
    assert pipeline.rows(DATED) == [("C1", DAY, 60)]
    earlier = pipeline.rows("SELECT date, recipients FROM campaign_report_superseded ORDER BY valid_from")
    assert earlier == [(DAY, 40), (date(2025, 3, 20), 40), (DAY, 40)]


def test_values_of_a_campaign_that_loses_its_send_time_are_stored_once_without_a_day(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put_campaign(shop, "2025-03-10T15:00:00")
    send(shop, 40)
    ask(pipeline, "campaign", "2025-03-10")
    put_campaign(shop, None)
    pipeline.run("campaigns_census")
    ask(pipeline, "campaign", "2025-03-08")
    assert pipeline.rows(UNDATED) == [("C1", "M1", 40)]
    assert pipeline.rows("SELECT 1 FROM campaign_report UNION ALL SELECT 1 FROM campaign_metrics") == []


# Levels of zero.


def test_a_segment_without_members_has_rows_from_the_day_it_was_created(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(shop, "segments", "S1", OLD, is_active=True, created=utc("2025-03-09T12:00:00"))
    shop.zero_groups = True
    shop.set_figures("segment", {"segment_id": "S1"}, DAY, {"total_members": 0})
    ask(pipeline, "segment", "2025-03-08", "2025-03-10")
    for table in ("report", "metrics"):
        found = pipeline.rows(f"SELECT segment_id, date, total_members FROM segment_{table} ORDER BY date")
        assert found == [("S1", date(2025, 3, 9), 0), ("S1", DAY, 0)]
