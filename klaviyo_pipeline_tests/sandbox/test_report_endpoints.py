from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import httpx
import pytest

from klaviyo_pipeline.sandbox.sandbox_account import Message, SandboxAccount
from klaviyo_pipeline_tests.sandbox.conftest import error_of
from klaviyo_pipeline_tests.sandbox.reporting import DAY, FLOW, ask, body, frame, results, set_flow

REPORTS = [
    "flow-series",
    "flow-values",
    "campaign-values",
    "form-series",
    "form-values",
    "segment-series",
    "segment-values",
]


@pytest.mark.parametrize("report", REPORTS)
def test_nothing_to_report_is_an_empty_list(client: httpx.Client, report: str) -> None:
    answer = ask(client, report)
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (data["type"], data["attributes"]["results"]) == (f"{report}-report", [])


def test_a_series_has_one_value_for_each_day_of_the_account(account: SandboxAccount, client: httpx.Client) -> None:
    set_flow(account, delivered=200, opens_unique=50)
    set_flow(account, date(2026, 3, 8), delivered=100, opens_unique=10)
    attributes = ask(client, "flow-series").json()["data"]["attributes"]
    assert attributes["date_times"][0] == "2026-03-02T00:00:00-05:00"
    assert attributes["date_times"][-1] == "2026-03-08T00:00:00-05:00"
    [result] = attributes["results"]
    assert result["groupings"] == FLOW
    assert result["statistics"] == {
        "delivered": [200.0, 0.0, 0.0, 0.0, 0.0, 0.0, 100.0],
        "opens_unique": [50.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0],
        "open_rate": [0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1],
    }


def test_the_date_times_follow_the_change_to_summer_time(account: SandboxAccount, client: httpx.Client) -> None:
    attributes = ask(client, "flow-series", timeframe=frame("2026-03-07T00:00:00", "2026-03-09T23:59:59")).json()
    assert attributes["data"]["attributes"]["date_times"] == [
        "2026-03-07T00:00:00-05:00",
        "2026-03-08T00:00:00-05:00",
        "2026-03-09T00:00:00-04:00",
    ]
    account.report_offset = "utc"
    attributes = ask(client, "flow-series").json()["data"]["attributes"]
    assert attributes["date_times"][0] == "2026-03-02T00:00:00+00:00"


@pytest.mark.parametrize("offset", ["Z", "+00:00", "-11:00", "+14:00", ""])
def test_the_offset_of_the_frame_is_ignored(account: SandboxAccount, client: httpx.Client, offset: str) -> None:
    set_flow(account, delivered=7)
    timeframe = frame("2026-03-02T00:00:00", "2026-03-02T23:59:59", offset)
    [result] = results(client, "flow-series", timeframe=timeframe)
    assert result["statistics"]["delivered"] == [7.0]


def test_the_end_is_included_and_rounded_up_to_the_end_of_its_hour(
    account: SandboxAccount, client: httpx.Client
) -> None:
    account.set_figures("segment", {"segment_id": "S"}, date(2026, 3, 3), {"members_added": 1000})
    [two_days] = results(client, "segment-series", timeframe=frame("2026-03-02T00:00:00", "2026-03-03T00:00:00"))
    assert two_days["statistics"]["members_added"] == [0.0, 8.0]
    values = [
        results(client, "segment-values", timeframe=frame("2026-03-03T00:00:00", f"2026-03-03T{end}"))
        for end in ("12:00:00", "12:59:59", "13:00:00", "23:00:00", "23:59:59")
    ]
    counted = [value[0]["statistics"]["members_added"] for value in values]
    assert counted[0] == counted[1] < counted[2] < counted[3] == counted[4] == 1000.0


def test_values_are_the_sum_of_the_series_for_counts(account: SandboxAccount, client: httpx.Client) -> None:
    for day in range(2, 9):
        set_flow(account, date(2026, 3, day), delivered=day * 10, opens=day * 1.10007, conversion_value=day * 12.34)
    statistics = ["delivered", "opens", "conversion_value"]
    [series] = results(client, "flow-series", statistics=statistics)
    [values] = results(client, "flow-values", statistics=statistics)
    for name in statistics:
        total = sum(Decimal(str(value)) for value in series["statistics"][name])
        assert total == Decimal(str(values["statistics"][name]))
    assert values["statistics"]["opens"] == 38.50245


@pytest.mark.parametrize("interval", ["hourly", "weekly", "monthly"])
def test_other_intervals_add_up_to_the_same(account: SandboxAccount, client: httpx.Client, interval: str) -> None:
    for day in range(2, 9):
        set_flow(account, date(2026, 3, day), delivered=day * 10)
    [series] = results(client, "flow-series", interval=interval, statistics=["delivered"])
    assert sum(series["statistics"]["delivered"]) == 350
    assert len(series["statistics"]["delivered"]) == {"hourly": 168, "weekly": 1, "monthly": 1}[interval]


def test_uniques_of_a_period_are_fewer_than_the_sum_of_its_days(account: SandboxAccount, client: httpx.Client) -> None:
    for day in range(2, 9):
        set_flow(account, date(2026, 3, day), delivered=100, opens_unique=40)
    [result] = results(client, "flow-values")
    unique = result["statistics"]["opens_unique"]
    assert 40 <= unique < 280
    assert result["statistics"]["open_rate"] == unique / 700


def test_days_after_today_are_not_counted(account: SandboxAccount, client: httpx.Client) -> None:
    set_flow(account, date(2026, 3, 10), delivered=3)
    set_flow(account, date(2026, 3, 11), delivered=5)
    timeframe = frame("2026-03-10T00:00:00", "2026-03-11T23:59:59")
    assert results(client, "flow-series", timeframe=timeframe)[0]["statistics"]["delivered"] == [3.0, 0.0]
    account.clock = lambda: datetime(2026, 3, 11, 3, 59, tzinfo=UTC)
    assert results(client, "flow-series", timeframe=timeframe)[0]["statistics"]["delivered"] == [3.0, 0.0]
    account.clock = lambda: datetime(2026, 3, 11, 4, 0, tzinfo=UTC)
    assert results(client, "flow-series", timeframe=timeframe)[0]["statistics"]["delivered"] == [3.0, 5.0]


def test_groups_of_zeros_are_left_out_or_visible_as_the_account_does(
    account: SandboxAccount, client: httpx.Client
) -> None:
    set_flow(account, delivered=0)
    assert results(client, "flow-series") == []
    account.zero_groups = True
    assert results(client, "flow-series")[0]["statistics"]["delivered"] == [0.0] * 7


def test_a_campaign_report_may_write_the_campaigns_id_for_its_messages(
    account: SandboxAccount, client: httpx.Client
) -> None:
    groups = [{"campaign_id": "C", "campaign_message_id": id, "send_channel": "email"} for id in ("M1", "M2")]
    for group in groups:
        account.set_figures("campaign", group, DAY, {"delivered": 5})
    assert [result["groupings"] for result in results(client, "campaign-values")] == groups
    account.report_message_ids = "campaign"
    [result] = results(client, "campaign-values")
    assert result["groupings"] == {"campaign_id": "C", "campaign_message_id": "C", "send_channel": "email"}
    assert result["statistics"]["delivered"] == 10.0


def test_groups_whose_ids_are_left_out_stay_apart_on_every_page(account: SandboxAccount, client: httpx.Client) -> None:
    for message in ("M1", "M2", "M3"):
        set_flow(account, groupings={**FLOW, "flow_message_id": message}, delivered=5)
    account.ids_left_out = {"F1", "M1", "M3"}
    account.report_page_size = 2
    page = ask(client, "flow-values").json()
    assert [result["groupings"]["flow_message_id"] for result in page["data"]["attributes"]["results"]] == [None, "M2"]
    assert page["data"]["relationships"]["flows"] == {"data": []}
    rest = client.post(page["links"]["next"], json=body("flow-values")).json()["data"]["attributes"]["results"]
    assert rest[0]["groupings"] == {"flow_id": None, "flow_message_id": None, "send_channel": "email"}


def test_groups_can_be_named_and_distinguished(account: SandboxAccount, client: httpx.Client) -> None:
    account.tags = {"T1": "one", "T2": "two"}
    account.put("flows", "F1", name="Welcome", tags=["T1", "T2"], messages=[Message("M1", "email", "Hi", "A")])
    set_flow(account, delivered=1)
    group_by = ["flow_id", "flow_message_id", "flow_name", "flow_message_name", "variation", "tag_name"]
    found = [result["groupings"] for result in results(client, "flow-values", group_by=group_by)]
    shared = {**dict(list(FLOW.items())[:2]), "flow_name": "Welcome", "flow_message_name": "Hi", "variation": "A"}
    assert found == [{**shared, "tag_name": "one"}, {**shared, "tag_name": "two"}]


def test_without_the_channel_in_the_group_by_a_message_is_one_group(
    account: SandboxAccount, client: httpx.Client
) -> None:
    for channel in ("email", "sms"):
        set_flow(account, groupings={**FLOW, "send_channel": channel}, delivered=10)
    [result] = results(client, "flow-values", group_by=["flow_id", "flow_message_id"])
    assert result["groupings"] == {"flow_id": "F1", "flow_message_id": "M1"}
    assert result["statistics"]["delivered"] == 20.0


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("equals(flow_id,'F1')", ["F1"]),
        ('contains-any(flow_id,["F1","F2"])', ["F1", "F2"]),
        ("and(contains-any(flow_id,['F1','F3']),equals(send_channel,'email'))", ["F1"]),
        ("equals(flow_name,'Second')", ["F2"]),
        ("contains-any(tag_id,['T1'])", ["F1", "F2"]),
        ("contains-all(tag_id,['T1','T2'])", ["F2"]),
    ],
)
def test_a_filter_chooses_groups(account: SandboxAccount, client: httpx.Client, filter: str, found: list[str]) -> None:
    account.put("flows", "F1", tags=["T1"])
    account.put("flows", "F2", name="Second", tags=["T1", "T2"])
    for id, channel in (("F1", "email"), ("F2", "email"), ("F3", "sms")):
        set_flow(account, groupings={"flow_id": id, "flow_message_id": "M", "send_channel": channel}, delivered=1)
    assert [result["groupings"]["flow_id"] for result in results(client, "flow-values", filter=filter)] == found


def test_flow_reports_page_by_a_cursor_in_the_query(account: SandboxAccount, client: httpx.Client) -> None:
    account.report_page_size = 2
    for number in range(5):
        set_flow(account, groupings={**FLOW, "flow_id": f"F{number}"}, delivered=1)
    requested = body("flow-series")
    url: str | None = "/api/flow-series-reports"
    pages = []
    while url:
        answer = client.post(url, json=requested).json()
        pages.append([result["groupings"]["flow_id"] for result in answer["data"]["attributes"]["results"]])
        last, url = url, answer["links"]["next"]
    assert pages == [["F0", "F1"], ["F2", "F3"], ["F4"]]
    assert "page_cursor=" in last
    assert error_of(client.post(last, json=body("flow-series", interval="weekly")), 400)["source"] == {
        "parameter": "page_cursor"
    }


def test_a_report_names_its_flows_and_messages(account: SandboxAccount, client: httpx.Client) -> None:
    set_flow(account, delivered=1)
    related = ask(client, "flow-series").json()["data"]["relationships"]
    assert related["flows"]["data"] == [{"type": "flow", "id": "F1"}]
    assert related["flow-messages"]["data"] == [{"type": "flow-message", "id": "M1"}]


def test_sparse_fields_leave_the_results_out(client: httpx.Client) -> None:
    answer = client.post(
        "/api/flow-series-reports", params={"fields[flow-series-report]": "date_times"}, json=body("flow-series")
    )
    assert answer.json()["data"]["attributes"].keys() == {"date_times"}


def test_form_reports_group_by_form_or_version(account: SandboxAccount, client: httpx.Client) -> None:
    for version, submits in (("1", 4), ("2", 6)):
        groupings = {"form_id": "A", "form_version_id": version}
        account.set_figures("form", groupings, DAY, {"submits": submits, "viewed_form": 100})
    [whole] = results(client, "form-values", statistics=["submits", "submit_rate"])
    assert whole == {"groupings": {"form_id": "A"}, "statistics": {"submits": 10.0, "submit_rate": 0.05}}
    assert len(results(client, "form-values", group_by=["form_id", "form_version_id"])) == 2
    assert len(results(client, "form-values", filter="any(form_version_id,['1'])")) == 1


def test_segment_members_are_a_level_and_not_a_sum(account: SandboxAccount, client: httpx.Client) -> None:
    for day, total in ((2, 50), (5, 80)):
        counts = {"members_added": 40, "members_removed": 10, "total_members": total}
        account.set_figures("segment", {"segment_id": "S"}, date(2026, 3, day), counts)
    [series] = results(client, "segment-series", statistics=["total_members", "net_members_changed"])
    assert series["statistics"]["total_members"] == [50.0, 50.0, 50.0, 80.0, 80.0, 80.0, 80.0]
    [values] = results(client, "segment-values", statistics=["total_members", "net_members_changed"])
    assert values["statistics"] == {"total_members": 80.0, "net_members_changed": 60.0}
