"""The sandbox at revision 2026-10-15 matches the description of that revision. Skipped without a copy of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest

from klaviyo_pipeline.sandbox.endpoints import ENDPOINTS, Endpoint
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.report_kinds import REPORTS, Report
from klaviyo_pipeline.sandbox.revisions import NEWEST
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline.sandbox.statistics import STATISTICS
from klaviyo_pipeline.sandbox.timestamps import read_time
from klaviyo_pipeline_tests.sandbox.conftest import client_of
from klaviyo_pipeline_tests.sandbox.described import assert_filters
from klaviyo_pipeline_tests.sandbox.test_sandbox_openapi import NOW

DESCRIPTION = Path(__file__).parents[3] / "shared" / "klaviyo-2026-10-15.json"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DESCRIPTION.exists(), reason="there is no description of revision 2026-10-15"),
]


@cache
def description() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DESCRIPTION.read_text())
    return loaded


def operation(endpoint: Endpoint) -> dict[str, Any]:
    described: dict[str, Any] = description()["operations"][endpoint.name]
    return described


def names(parameter: dict[str, Any]) -> set[str]:
    return set(description()["fieldsets"][parameter["enum_of"]] if "enum_of" in parameter else parameter["enum"])


def named(*, method: str | None = None) -> list[Any]:
    known = [endpoint for endpoint in ENDPOINTS[NEWEST] if method in (None, endpoint.method)]
    return [pytest.param(endpoint, id=endpoint.name) for endpoint in known]


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator | None:
    """The validator of resources of this type. Included resources (custom metrics) have none in the description."""
    schema = description()["resources"].get(kind)
    if schema is None:
        return None
    checker = jsonschema.FormatChecker([])
    checker.checks("date-time")(lambda text: not isinstance(text, str) or read_time(text) is not None)
    return jsonschema.Draft202012Validator(schema["schema"], format_checker=checker)


def valid_resource(resource: dict[str, Any]) -> None:
    if (described := validator(resource["type"])) is not None:
        described.validate(resource)


def validate(endpoint: Endpoint, answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-klaviyo-api-revision"] == "2026-10-15"
    described, document = operation(endpoint)["answer"], answer.json()
    assert document["meta"]["agent_hints"]["next_steps"]
    data = document["data"]
    if described["data"] == "many":
        assert isinstance(data, list)
    resources = data if isinstance(data, list) else [data] if data is not None else []
    assert data is not None or described["data"] == "one or null"
    assert {one["type"] for one in resources} <= {described["type"]}
    if described.get("ids_only"):
        assert all(one.keys() == {"type", "id"} for one in resources)
        return
    for one in (*resources, *document.get("included", [])):
        valid_resource(one)


@pytest.fixture(scope="module")
def shop() -> Iterator[httpx.Client]:
    """The whole generated account, after the last of its changes."""
    with (
        SandboxServer(generate_account(), clock=lambda: NOW, rate_scale=0) as server,
        client_of(server, revision="2026-10-15") as client,
    ):
        yield client


@pytest.fixture(scope="module")
def first_ids(shop: httpx.Client) -> dict[str, str]:
    """An id of each kind that has a path."""
    found = {}
    listed = ("accounts", "metrics", "mapped-metrics", "flows", "forms", "segments", "lists", "tags", "templates")
    for kind in (*listed, "campaigns", "campaign-messages"):
        found[kind] = shop.get(f"/api/{kind}").json()["data"][0]["id"]
    versions = shop.get(f"/api/forms/{found['forms']}/relationships/form-versions")
    found["form-versions"] = versions.json()["data"][0]["id"]
    for kind, owner in (("campaign-audiences", "campaigns"), ("campaign-variations", "campaign-messages")):
        rows = shop.get(f"/api/{owner}").json()["data"]
        linked = (shop.get(f"/api/{owner}/{row['id']}/{kind}").json()["data"] for row in rows)
        found[kind] = next(data[0]["id"] for data in linked if data)
    return found


@pytest.mark.parametrize("endpoint", named())
def test_the_operation_is_described_with_this_path_and_these_scopes_and_rates(endpoint: Endpoint) -> None:
    described = operation(endpoint)
    assert (described["method"], described["path"]) == (endpoint.method, endpoint.path)
    assert sorted(described["scopes"]) == sorted(endpoint.scopes)
    kinds = ("burst", "steady", "daily")
    assert described["ratelimit"] == {name: rate.requests for name, rate in zip(kinds, endpoint.rates, strict=False)}


@pytest.mark.parametrize("endpoint", named(method="GET"))
def test_the_parameters_are_those_described(endpoint: Endpoint) -> None:
    described, accepted = operation(endpoint)["params"], endpoint.parameters
    ours = {f"fields[{kind}]" for kind in accepted.fields}
    ours |= {"filter"} if accepted.filters else set()
    ours |= {accepted.cursor} if accepted.cursor else set()
    ours |= {"page[size]"} if accepted.page_size else set()
    ours |= {"sort"} if accepted.sorts else set()
    ours |= {"include"} if accepted.includes else set()
    ours |= {f"additional-fields[{accepted.additional[0]}]"} if accepted.additional else set()
    assert ours == described.keys()
    if accepted.page_size:
        size = described["page[size]"]
        assert (accepted.page_size, size["minimum"]) == ((size["default"], size["maximum"]), 1)
    if accepted.sorts:
        assert {name.removeprefix("-") for name in described["sort"]["enum"]} == set(accepted.sorts)
    if accepted.includes:
        assert set(described["include"]["enum"]) == set(accepted.includes)
    for kind, accepted_names in accepted.fields.items():
        fields = names(described[f"fields[{kind}]"])
        if kind.startswith("campaign"):
            assert fields == set(accepted_names), kind
        assert {name.partition(".")[0] for name in fields} == {name.partition(".")[0] for name in accepted_names}, kind


@pytest.mark.parametrize("endpoint", named(method="GET"))
def test_the_filters_are_those_described(endpoint: Endpoint) -> None:
    assert_filters(endpoint, operation(endpoint).get("filters", {}))


@pytest.mark.parametrize("report", [pytest.param(report, id=report.type) for report in REPORTS])
def test_the_report_bodies_are_those_described(report: Report) -> None:
    endpoint = next(endpoint for endpoint in ENDPOINTS[NEWEST] if endpoint.path == f"/api/{report.type}s")
    attributes = operation(endpoint)["body"]["attributes"]
    assert set(attributes["statistics"]["items"]) == set(STATISTICS[report.kind.kind])
    assert set(attributes.get("group_by", {"items": []})["items"]) == set(report.kind.group_by)


@pytest.mark.parametrize("endpoint", [p for p in named(method="GET") if "{id}" in p.values[0].path])
def test_an_answer_about_one_object_is_valid(endpoint: Endpoint, shop: httpx.Client, first_ids: dict[str, str]) -> None:
    path = endpoint.path.replace("{id}", first_ids[endpoint.path.split("/")[2]])
    validate(endpoint, shop.get(path))
    if endpoint.parameters.includes:
        validate(endpoint, shop.get(path, params={"include": ",".join(endpoint.parameters.includes)}))


@pytest.mark.parametrize("endpoint", [p for p in named(method="GET") if "{id}" not in p.values[0].path])
def test_every_page_of_a_listing_is_valid(endpoint: Endpoint, shop: httpx.Client) -> None:
    includes = endpoint.parameters.includes
    params = {"include": ",".join(includes)} if includes else {}
    archived = ["equals(archived,true)", "equals(archived,false)"] if endpoint.name == "get_campaigns" else [""]
    for filter in archived:
        answer = shop.get(endpoint.path, params=params | ({"filter": filter} if filter else {}))
        validate(endpoint, answer)
        while link := answer.json()["links"]["next"]:
            answer = shop.get(link)
            validate(endpoint, answer)
