"""The endpoint of metric aggregates."""

from __future__ import annotations

from datetime import date
from typing import Any

import httpx
import pytest

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.sandbox.conftest import error_of

BOUNDS = ["greater-or-equal(datetime,2026-03-01T00:00:00)", "less-than(datetime,2026-03-03T00:00:00)"]


def ask(client: httpx.Client, **attributes: Any) -> httpx.Response:
    whole = {"metric_id": "RPlacd", "measurements": ["count"], "filter": BOUNDS} | attributes
    return client.post("/api/metric-aggregates", json={"data": {"type": "metric-aggregate", "attributes": whole}})


def rows(answer: httpx.Response) -> dict[tuple[str, ...], Any]:
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]["attributes"]["data"]
    return {tuple(row["dimensions"]): row["measurements"]["count"] for row in data}


@pytest.fixture
def orders(account: SandboxAccount) -> None:
    for flow, count in (("", 4), ("F1", 10), ("F2", 1)):
        account.set_figures("order", {"$attributed_flow": flow}, date(2026, 3, 2), {"conversions": count})


@pytest.mark.usefixtures("orders")
def test_events_are_grouped_and_those_without_a_group_have_no_dimensions(client: httpx.Client) -> None:
    zone = {"timezone": "America/New_York"}
    assert rows(ask(client, **zone)) == {(): [0, 15]}
    assert rows(ask(client, by=["$attributed_flow"], **zone)) == {(): [0, 4], ("F1",): [0, 10], ("F2",): [0, 1]}


@pytest.mark.usefixtures("orders")
def test_an_interval_is_of_the_querys_zone(client: httpx.Client) -> None:
    [counts] = rows(ask(client, timezone="UTC")).values()
    assert 0 < sum(counts) < 15
    [counts] = rows(ask(client, timezone="America/New_York", interval="hour")).values()
    assert (len(counts), sum(counts)) == (48, 15)


@pytest.mark.usefixtures("orders")
def test_a_cursor_in_the_body_returns_the_next_page(client: httpx.Client) -> None:
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        more = {"page_cursor": cursor} if cursor else {}
        answer = ask(client, by=["$attributed_flow"], page_size=2, timezone="America/New_York", **more)
        found += list(rows(answer))
        pages += 1
        link = answer.json()["links"]["next"]
        cursor = httpx.URL(link).params["page_cursor"] if link else None
    assert (pages, found) == (2, [(), ("F1",), ("F2",)])


@pytest.mark.parametrize(
    ("attributes", "pointer"),
    [
        ({"filter": BOUNDS[:1]}, "filter"),
        ({"filter": ",".join(BOUNDS)}, "filter"),
        ({"filter": [BOUNDS[0], "less-than(datetime,2027-03-03T00:00:00)"]}, "filter"),
        ({"filter": [BOUNDS[0], "less-or-equal(datetime,2026-03-03T00:00:00)"]}, "filter"),
        ({"measurements": ["sum"]}, "measurements"),
        ({"by": ["$attributed_campaign"]}, "by"),
        ({"interval": "daily"}, "interval"),
        ({"timezone": "america/new_york"}, "timezone"),
        ({"page_size": 0}, "page_size"),
        ({"group_by": ["$flow"]}, "group_by"),
    ],
    ids=lambda param: str(param)[:30],
)
def test_a_query_that_the_description_does_not_allow_is_rejected(
    client: httpx.Client, attributes: dict[str, Any], pointer: str
) -> None:
    assert error_of(ask(client, **attributes), 400)["source"] == {"pointer": f"/data/attributes/{pointer}"}


def test_an_unknown_metric_is_not_found(client: httpx.Client) -> None:
    error_of(ask(client, metric_id="nothing"), 404)
