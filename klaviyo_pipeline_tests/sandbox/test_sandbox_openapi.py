"""The sandbox at revision 2026-07-15 matches the API's own description. Skipped without a copy of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest

from klaviyo_pipeline.klaviyo.aggregates import body
from klaviyo_pipeline.sandbox.aggregate_requests import DIMENSIONS, MEASUREMENTS, SORTS
from klaviyo_pipeline.sandbox.aggregate_requests import INTERVALS as AGGREGATE_INTERVALS
from klaviyo_pipeline.sandbox.endpoints import ENDPOINTS, Endpoint
from klaviyo_pipeline.sandbox.entity_kinds import ENTITIES
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.report_kinds import INTERVALS, REPORTS, Report
from klaviyo_pipeline.sandbox.revisions import OLDER
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline.sandbox.statistics import STATISTICS
from klaviyo_pipeline.sandbox.timeframes import KEYS
from klaviyo_pipeline.sandbox.timestamps import read_time
from klaviyo_pipeline_tests.sandbox.conftest import client_of
from klaviyo_pipeline_tests.sandbox.described import assert_filters

DESCRIPTION = Path(__file__).parents[3] / "shared" / "klaviyo-openapi.json"
NOW = datetime(2027, 2, 1, 12, 0, tzinfo=UTC)
MEDIA = "application/vnd.api+json"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DESCRIPTION.exists(), reason="there is no copy of the API's description"),
]


@cache
def description() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DESCRIPTION.read_text())
    return loaded


def operation(endpoint: Endpoint) -> dict[str, Any]:
    described: dict[str, Any] = description()["paths"][endpoint.path][endpoint.method.lower()]
    return described


def parameters(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    return {found["name"]: found["schema"] for found in operation(endpoint)["parameters"] if found["in"] == "query"}


def as_json_schema(schema: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: `nullable` becomes an alternative with null.

    `oneOf` becomes `anyOf`: some of its alternatives, such as the send options, have the same schema.
    """
    if isinstance(schema, list):
        return [as_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    words = {"oneOf": "anyOf"}
    kept = {name: value for name, value in schema.items() if name not in ("nullable", "example")}
    plain = {words.get(name, name): as_json_schema(value) for name, value in kept.items()}
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain


@cache
def schemas() -> dict[str, Any]:
    converted: dict[str, Any] = as_json_schema(description()["components"]["schemas"])
    # In recordings, `next` and `prev` are null on the last and first page. The description does not allow this.
    for name in ("next", "prev"):
        link = converted["CollectionLinks"]["properties"]
        link[name] = {"anyOf": [link[name], {"type": "null"}]}
    return converted


@cache
def validator(path: str, method: str) -> jsonschema.Draft202012Validator:
    """The validator of this operation's answers."""
    reference = description()["paths"][path][method.lower()]["responses"]["200"]["content"][MEDIA]["schema"]
    checker = jsonschema.FormatChecker([])
    checker.checks("date-time")(lambda text: not isinstance(text, str) or read_time(text) is not None)
    schema = {**as_json_schema(reference), "components": {"schemas": schemas()}}
    return jsonschema.Draft202012Validator(schema, format_checker=checker)


def validate(endpoint: Endpoint, answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    validator(endpoint.path, endpoint.method).validate(answer.json())


@pytest.fixture(scope="module")
def shop() -> Iterator[httpx.Client]:
    """The whole generated account, after its last change."""
    account = generate_account()
    with SandboxServer(account, clock=lambda: NOW, rate_scale=0) as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def first_ids(shop: httpx.Client) -> dict[str, str]:
    """An id for each path with an id."""
    found = {}
    for path in ("accounts", "metrics", "mapped-metrics", "flows", "forms", "segments", "lists", "tags", "templates"):
        found[f"/api/{path}/{{id}}"] = shop.get(f"/api/{path}").json()["data"][0]["id"]
    versions = shop.get(f"/api/forms/{found['/api/forms/{id}']}/relationships/form-versions")
    found["/api/form-versions/{id}"] = versions.json()["data"][0]["id"]
    campaigns = shop.get("/api/campaigns", params={"filter": "equals(messages.channel,'email')"})
    found["/api/campaigns/{id}"] = campaigns.json()["data"][0]["id"]
    messages = shop.get(f"/api/campaigns/{found['/api/campaigns/{id}']}/campaign-messages")
    found["/api/campaign-messages/{id}"] = messages.json()["data"][0]["id"]
    return found


def named(*, method: str | None = None, ends: str = "") -> list[Any]:
    return [
        pytest.param(endpoint, id=endpoint.name)
        for endpoint in ENDPOINTS[OLDER]
        if method in (None, endpoint.method) and endpoint.path.endswith(ends)
    ]


@pytest.mark.parametrize("endpoint", named())
def test_the_operation_is_described_with_these_scopes_and_rates(endpoint: Endpoint) -> None:
    described = operation(endpoint)
    assert described["operationId"] == endpoint.name
    assert described["x-klaviyo-scopes"] == list(endpoint.scopes)
    names = ("burst", "steady", "daily")
    signs = ("s", "m", "d")
    reported = {name: f"{rate.requests}/{sign}" for name, sign, rate in zip(names, signs, endpoint.rates, strict=False)}
    assert described["x-klaviyo-ratelimit"] == reported


@pytest.mark.parametrize("endpoint", named())
def test_the_parameters_match_the_description(endpoint: Endpoint) -> None:
    described, accepted = parameters(endpoint), endpoint.parameters
    ours = {f"fields[{kind}]" for kind in accepted.fields}
    ours |= {"filter"} if accepted.filters else set()
    ours |= {accepted.cursor} if accepted.cursor else set()
    ours |= {"page[size]"} if accepted.page_size else set()
    ours |= {"sort"} if accepted.sorts else set()
    ours |= {"include"} if accepted.includes else set()
    ours |= {f"additional-fields[{accepted.additional[0]}]"} if accepted.additional else set()
    assert ours == described.keys()


@pytest.mark.parametrize("endpoint", named(method="GET"))
def test_sizes_sorts_includes_and_fields_match_the_description(endpoint: Endpoint) -> None:
    described, accepted = parameters(endpoint), endpoint.parameters
    if accepted.page_size:
        size = described["page[size]"]
        assert (accepted.page_size, size["minimum"]) == ((size["default"], size["maximum"]), 1)
    if accepted.sorts:
        assert {name.removeprefix("-") for name in described["sort"]["enum"]} == set(accepted.sorts)
    if accepted.includes:
        assert set(described["include"]["items"]["enum"]) == set(accepted.includes)
    for kind, names in accepted.fields.items():
        top = {name.partition(".")[0] for name in described[f"fields[{kind}]"]["items"]["enum"]}
        assert top == set(names), kind
    if accepted.additional:
        kind, extra = accepted.additional
        assert described[f"additional-fields[{kind}]"]["items"]["enum"] == list(extra)


@pytest.mark.parametrize("endpoint", [p for p in named(method="GET") if p.values[0].parameters.filters])
def test_the_filters_match_the_description(endpoint: Endpoint) -> None:
    assert_filters(endpoint, operation(endpoint)["x-klaviyo-filters"])


@pytest.mark.parametrize("report", [pytest.param(report, id=report.type) for report in REPORTS])
def test_the_report_bodies_are_those_described(report: Report) -> None:
    endpoint = next(endpoint for endpoint in ENDPOINTS[OLDER] if endpoint.path == f"/api/{report.type}s")
    name = operation(endpoint)["requestBody"]["content"][MEDIA]["schema"]["$ref"].rpartition("/")[2]
    every = description()["components"]["schemas"]
    described = every[f"{name}ResourceObject"]["properties"]["attributes"]
    properties = described["properties"]
    assert set(properties["statistics"]["items"]["enum"]) == set(STATISTICS[report.kind.kind])
    assert set(properties.get("group_by", {"items": {"enum": []}})["items"]["enum"]) == set(report.kind.group_by)
    assert ("interval" in properties) == report.series
    if report.series:
        assert set(properties["interval"]["enum"]) == set(INTERVALS)
    assert ("conversion_metric_id" in described["required"]) == report.kind.needs_conversion_metric
    assert set(every["Timeframe"]["properties"]["key"]["enum"]) == set(KEYS)


@pytest.mark.parametrize("entity", ENTITIES.values(), ids=ENTITIES)
def test_a_new_object_has_every_attribute_described(entity: Any) -> None:
    fields = parameters(next(e for e in ENDPOINTS[OLDER] if e.name == f"get_{entity.name}"))
    top = {name.partition(".")[0] for name in fields[f"fields[{entity.type}]"]["items"]["enum"]}
    assert entity.blank().keys() == top - {"id", *entity.additional}


@pytest.mark.parametrize("endpoint", named(method="GET", ends="{id}"))
def test_an_answer_by_id_is_valid(endpoint: Endpoint, shop: httpx.Client, first_ids: dict[str, str]) -> None:
    path = endpoint.path.replace("{id}", first_ids[endpoint.path])
    params = {"include": ",".join(endpoint.parameters.includes)} if endpoint.parameters.includes else {}
    validate(endpoint, shop.get(path))
    validate(endpoint, shop.get(path, params=params))


@pytest.mark.parametrize("endpoint", [p for p in named(method="GET") if "{id}/" in p.values[0].path])
def test_what_a_campaign_or_a_form_is_linked_to_is_valid(
    endpoint: Endpoint, shop: httpx.Client, first_ids: dict[str, str]
) -> None:
    path = endpoint.path.replace("{id}", first_ids[f"{endpoint.path.partition('{id}')[0]}{{id}}"])
    validate(endpoint, shop.get(path))
    if endpoint.parameters.includes:
        validate(endpoint, shop.get(path, params={"include": ",".join(endpoint.parameters.includes)}))


@pytest.mark.parametrize("endpoint", [p for p in named(method="GET") if "{id}" not in p.values[0].path])
def test_every_page_of_a_listing_is_valid(endpoint: Endpoint, shop: httpx.Client) -> None:
    params = {"include": ",".join(endpoint.parameters.includes)} if endpoint.parameters.includes else {}
    filters = [""]
    if endpoint.name == "get_campaigns":
        filters = [
            f"equals(messages.channel,'{channel}'),equals(archived,{archived})"
            for channel in ("email", "sms", "mobile_push")
            for archived in ("true", "false")
        ]
    for filter in filters:
        answer = shop.get(endpoint.path, params=params | ({"filter": filter} if filter else {}))
        validate(endpoint, answer)
        while link := answer.json()["links"]["next"]:
            answer = shop.get(link)
            validate(endpoint, answer)


@pytest.mark.parametrize("report", [pytest.param(report, id=report.type) for report in REPORTS])
def test_a_report_with_every_statistic_is_valid(report: Report, shop: httpx.Client) -> None:
    endpoint = next(endpoint for endpoint in ENDPOINTS[OLDER] if endpoint.path == f"/api/{report.type}s")
    timeframe = {"start": "2026-10-01T00:00:00+00:00", "end": "2026-11-28T23:59:59+00:00"}
    attributes: dict[str, Any] = {"statistics": list(STATISTICS[report.kind.kind]), "timeframe": timeframe}
    attributes |= {"interval": "daily"} if report.series else {}
    attributes |= {"conversion_metric_id": "RPlacd"} if report.kind.needs_conversion_metric else {}
    answer = shop.post(endpoint.path, json={"data": {"type": report.type, "attributes": attributes}})
    validate(endpoint, answer)
    results = answer.json()["data"]["attributes"]["results"]
    assert results
    for result in results:
        assert result["statistics"].keys() == set(STATISTICS[report.kind.kind])
        if report.series:
            assert {len(values) for values in result["statistics"].values()} == {59}


def test_metric_aggregates_accept_what_is_described_and_answer_validly(shop: httpx.Client) -> None:
    endpoint = next(endpoint for endpoint in ENDPOINTS[OLDER] if endpoint.name == "query_metric_aggregates")
    resource = description()["components"]["schemas"]["MetricAggregateQueryResourceObject"]
    described = resource["properties"]["attributes"]["properties"]
    assert set(described["by"]["items"]["enum"]) == set(DIMENSIONS)
    assert set(described["measurements"]["items"]["enum"]) == set(MEASUREMENTS)
    assert set(described["interval"]["enum"]) == set(AGGREGATE_INTERVALS)
    assert set(described["sort"]["enum"]) == set(SORTS)
    requested = body("RPlacd", date(2026, 10, 1), date(2026, 10, 31), ZoneInfo("America/New_York"), NOW)
    answer = shop.post(endpoint.path, json=requested)
    validate(endpoint, answer)
    assert len(answer.json()["data"]["attributes"]["data"]) > 20


def test_errors_are_valid(shop: httpx.Client) -> None:
    schema = description()["components"]["responses"]["ClientError"]["content"][MEDIA]["schema"]
    for path in ("/api/flows/nobody", "/api/flows?x=1", "/api/campaigns", "/api/nothing"):
        answer = shop.get(path)
        assert 400 <= answer.status_code < 500
        jsonschema.Draft202012Validator(as_json_schema(schema)).validate(answer.json())
