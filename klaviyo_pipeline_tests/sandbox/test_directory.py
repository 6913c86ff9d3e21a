from __future__ import annotations

import httpx

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.sandbox.conftest import NOW, error_of, ids, walk


def test_the_account_reports_its_zone_and_currency(account: SandboxAccount, client: httpx.Client) -> None:
    account.timezone, account.currency = "Europe/Berlin", "EUR"
    [output] = client.get("/api/accounts").json()["data"]
    assert output == client.get("/api/accounts/ACC001").json()["data"]
    assert output["attributes"]["timezone"] == "Europe/Berlin"
    assert output["attributes"]["preferred_currency"] == "EUR"


def test_metrics_come_two_hundred_to_a_page(account: SandboxAccount, client: httpx.Client) -> None:
    placed = account.metrics["RPlacd"]
    account.metrics = {
        f"M{number:03}": type(placed)(f"M{number:03}", "Placed Order", "API", "API", NOW) for number in range(401)
    }
    assert [len(page) for page in walk(client, "/api/metrics")] == [200, 200, 1]


def test_metrics_can_be_filtered_by_integration(client: httpx.Client) -> None:
    answer = client.get("/api/metrics", params={"filter": "equals(integration.name,'Klaviyo')"})
    assert ids(answer) == ["RClckd", "ROpend", "RTextd"]
    assert error_of(client.get("/api/metrics", params={"filter": "equals(name,'Placed Order')"}), 400)


def test_a_metric_reports_its_integration(client: httpx.Client) -> None:
    output = client.get("/api/metrics/RPlacd").json()["data"]["attributes"]
    assert (output["name"], output["integration"]["name"]) == ("Placed Order", "Shopify")
    assert output["integration"]["category"] == {"id": 1, "category": "eCommerce"}


def test_a_mapping_that_was_never_made_is_visible_without_relationships(
    account: SandboxAccount, client: httpx.Client
) -> None:
    account.mapped_metrics = {}
    answer = client.get("/api/mapped-metrics/revenue", params={"include": "metric"})
    assert (answer.status_code, "relationships" in answer.json()["data"]) == (200, False)
    assert client.get("/api/mapped-metrics/nothing").status_code == 404


def test_the_mapped_revenue_metric_is_found(client: httpx.Client) -> None:
    answer = client.get("/api/mapped-metrics/revenue", params={"include": "metric"}).json()
    assert answer["data"]["relationships"]["metric"]["data"] == {"type": "metric", "id": "RPlacd"}
    assert [item["id"] for item in answer["included"]] == ["RPlacd"]


def test_a_mapping_to_a_custom_metric_names_no_metric(client: httpx.Client) -> None:
    params = {"include": "metric,custom-metric"}
    answer = client.get("/api/mapped-metrics/ordered_product", params=params).json()
    assert "data" not in answer["data"]["relationships"]["metric"]
    assert [item["type"] for item in answer["included"]] == ["custom-metric"]


def test_mapped_metrics_are_listed(client: httpx.Client) -> None:
    assert "revenue" in ids(client.get("/api/mapped-metrics"))


def test_a_tag_by_id_is_the_one_of_the_listing_and_another_is_not_found(
    account: SandboxAccount, client: httpx.Client
) -> None:
    account.tags = {"1": "b"}
    assert client.get("/api/tags/1").json()["data"] == client.get("/api/tags").json()["data"][0]
    assert client.get("/api/tags/1?include=tag-group").json()["included"][0]["type"] == "tag-group"
    missing = client.get("/api/tags/2")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (404, "not_found")


def test_tags_are_listed_sorted_and_searched(account: SandboxAccount, client: httpx.Client) -> None:
    account.tags = {"1": "b", "2": "a", "3": "ab"}
    assert ids(client.get("/api/tags")) == ["1", "2", "3"]
    assert ids(client.get("/api/tags?sort=-name")) == ["1", "3", "2"]
    assert ids(client.get("/api/tags", params={"filter": "starts-with(name,'a')"})) == ["2", "3"]
    answer = client.get("/api/tags?include=tag-group").json()
    assert [item["type"] for item in answer["included"]] == ["tag-group"]
