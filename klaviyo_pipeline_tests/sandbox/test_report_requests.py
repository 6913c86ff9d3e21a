from __future__ import annotations

from typing import Any

import httpx
import pytest

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.sandbox.conftest import error_of
from klaviyo_pipeline_tests.sandbox.reporting import ask, body, frame


@pytest.mark.parametrize(
    ("start", "end", "interval", "status"),
    [
        ("2026-01-01T00:00:00", "2026-03-01T23:59:59", "daily", 200),
        ("2026-01-01T00:00:00", "2026-03-02T00:00:00", "daily", 400),
        ("2026-03-01T00:00:00", "2026-03-07T23:59:59", "hourly", 200),
        ("2026-03-01T00:00:00", "2026-03-08T00:00:00", "hourly", 400),
        ("2025-01-01T00:00:00", "2025-12-30T23:59:59", "monthly", 200),
        ("2025-01-01T00:00:00", "2025-12-31T23:59:59", "monthly", 400),
        ("2025-01-01T00:00:00", "2025-12-31T23:59:59", "weekly", 200),
        ("2025-01-01T00:00:00", "2026-01-01T00:00:00", "weekly", 400),
        ("2024-02-29T00:00:00", "2025-02-28T23:59:59", "weekly", 200),
        ("2024-02-29T00:00:00", "2025-03-01T00:00:00", "weekly", 400),
        ("2026-03-02T10:30:00", "2026-03-02T10:30:00", "daily", 200),
        ("2026-03-02T10:30:01", "2026-03-02T10:30:00", "daily", 400),
    ],
)
def test_time_frames_have_their_limits(client: httpx.Client, start: str, end: str, interval: str, status: int) -> None:
    answer = ask(client, "flow-series", timeframe=frame(start, end), interval=interval)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(("start", "status"), [("2023-06-01T00:00:00", 200), ("2023-05-31T23:59:59", 400)])
def test_segment_data_begins_in_june_2023(client: httpx.Client, start: str, status: int) -> None:
    timeframe = frame(start, "2023-06-10T00:00:00")
    assert ask(client, "segment-series", timeframe=timeframe).status_code == status
    assert ask(client, "form-series", timeframe=timeframe).status_code == 200


@pytest.mark.parametrize(
    ("key", "first", "days"),
    [
        ("today", "2026-03-10", 1),
        ("yesterday", "2026-03-09", 1),
        ("last_7_days", "2026-03-03", 7),
        ("this_week", "2026-03-09", 2),
        ("last_week", "2026-03-02", 7),
        ("this_month", "2026-03-01", 10),
        ("last_month", "2026-02-01", 28),
    ],
)
def test_a_named_frame_is_read_in_the_zone_of_the_account(
    client: httpx.Client, key: str, first: str, days: int
) -> None:
    times = ask(client, "flow-series", timeframe={"key": key}).json()["data"]["attributes"]["date_times"]
    assert (times[0][:10], len(times)) == (first, days)


@pytest.mark.parametrize("key", ["last_12_months", "last_year", "this_year", "last_365_days"])
def test_the_long_named_frames_fit_into_weeks(client: httpx.Client, key: str) -> None:
    assert ask(client, "flow-series", timeframe={"key": key}, interval="weekly").status_code == 200
    assert ask(client, "flow-series", timeframe={"key": key}).status_code == 400


@pytest.mark.parametrize(
    ("report", "change", "pointer"),
    [
        ("flow-series", {"statistics": None}, "/statistics"),
        ("flow-series", {"statistics": []}, "/statistics"),
        ("flow-series", {"statistics": ["total_members"]}, "/statistics"),
        ("flow-series", {"timeframe": None}, "/timeframe"),
        ("flow-series", {"timeframe": "today"}, "/timeframe"),
        ("flow-series", {"timeframe": {"start": "2026-03-01T00:00:00Z"}}, "/timeframe"),
        ("flow-series", {"timeframe": {"key": "someday"}}, "/timeframe/key"),
        ("flow-series", {"timeframe": {"key": "today", "start": "x"}}, "/timeframe/key"),
        ("flow-series", {"timeframe": frame("2026-03-01", "2026-03-02")}, "/timeframe/start"),
        ("flow-series", {"interval": None}, "/interval"),
        ("flow-series", {"interval": "yearly"}, "/interval"),
        ("flow-values", {"interval": "daily"}, "/interval"),
        ("flow-series", {"conversion_metric_id": None}, "/conversion_metric_id"),
        ("form-series", {"conversion_metric_id": "RPlacd"}, "/conversion_metric_id"),
        ("flow-series", {"group_by": ["flow_id", "send_channel"]}, "/group_by"),
        ("flow-series", {"group_by": ["flow_message_id"]}, "/group_by"),
        ("flow-series", {"group_by": ["flow_id", "flow_message_id", "campaign_id"]}, "/group_by"),
        ("flow-series", {"group_by": []}, "/group_by"),
        ("campaign-values", {"group_by": ["campaign_id"]}, "/group_by"),
        ("form-series", {"group_by": ["form_version_id"]}, "/group_by"),
        ("segment-series", {"group_by": ["segment_id"]}, "/group_by"),
        ("flow-series", {"page_size": 10}, "/page_size"),
        ("flow-series", {"filter": "greater-than(flow_id,'F')"}, "/filter"),
        ("flow-series", {"filter": "any(flow_id,['F'])"}, "/filter"),
        ("flow-series", {"filter": "equals(send_channel,'mobile_push')"}, "/filter"),
        ("flow-series", {"filter": "equals(flow_id,'F'),equals(flow_id,'G')"}, "/filter"),
        ("flow-series", {"filter": "or(equals(flow_id,'F'),equals(flow_id,'G'))"}, "/filter"),
        ("flow-series", {"filter": f"contains-any(flow_id,{['F'] * 101})"}, "/filter"),
        ("flow-series", {"filter": 7}, "/filter"),
        ("form-series", {"filter": "contains-any(form_id,['F'])"}, "/filter"),
        ("segment-series", {"filter": "equals(form_id,'F')"}, "/filter"),
    ],
)
def test_a_body_that_the_description_does_not_allow_is_refused_by_pointer(
    client: httpx.Client, report: str, change: dict[str, Any], pointer: str
) -> None:
    error = error_of(ask(client, report, **change), 400)
    assert error["source"] == {"pointer": f"/data/attributes{pointer}"}


def test_a_hundred_items_may_be_listed(client: httpx.Client) -> None:
    assert ask(client, "flow-series", filter=f"contains-any(flow_id,{['F'] * 100})").status_code == 200


@pytest.mark.parametrize("metric", ["ROpend", "Placed Order", "NOBODY"])
def test_a_metric_that_cannot_be_converted_to_is_refused(client: httpx.Client, metric: str) -> None:
    error = error_of(ask(client, "flow-series", conversion_metric_id=metric), 400)
    assert error["detail"] == "Passed in conversion metric does not support querying for values data"


def test_statistics_that_no_metric_supports_are_refused_with_the_whole_report(
    account: SandboxAccount, client: httpx.Client
) -> None:
    account.refused_statistics = {"flow": {"conversion_value"}}
    error = error_of(ask(client, "flow-series", statistics=["opens", "conversion_value"]), 400)
    assert (error["code"], error["source"]) == ("invalid", {"pointer": "/data/attributes/conversion_metric_id"})
    assert ask(client, "flow-series", statistics=["opens", "conversions"]).status_code == 200
    assert ask(client, "campaign-values", statistics=["conversion_value"]).status_code == 200


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (b"{", "/"),
        (b"[]", "/"),
        (b"{}", "/data"),
        (b'{"data": {"attributes": {}}}', "/data/type"),
        (b'{"data": {"type": "flow-values-report", "attributes": {}}}', "/data/type"),
        (b'{"data": {"type": "flow-series-report", "attributes": {}, "id": "x"}}', "/data/id"),
    ],
)
def test_a_body_of_another_shape_is_refused(client: httpx.Client, content: bytes, pointer: str) -> None:
    answer = client.post(
        "/api/flow-series-reports", content=content, headers={"content-type": "application/vnd.api+json"}
    )
    assert error_of(answer, 400)["source"] == {"pointer": pointer}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/vnd.api+json", 200),
        ("application/json; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
def test_the_content_type_must_be_json(client: httpx.Client, content_type: str, status: int) -> None:
    content = httpx.Request("POST", "http://x", json=body("flow-series")).content
    answer = client.post("/api/flow-series-reports", content=content, headers={"content-type": content_type})
    assert answer.status_code == status


def test_form_and_segment_reports_take_no_page_cursor(client: httpx.Client) -> None:
    answer = client.post("/api/form-series-reports?page_cursor=x", json=body("form-series"))
    assert error_of(answer, 400)["source"] == {"parameter": "page_cursor"}


def test_campaigns_have_no_series(client: httpx.Client) -> None:
    assert client.post("/api/campaign-series-reports", json={}).status_code == 404
