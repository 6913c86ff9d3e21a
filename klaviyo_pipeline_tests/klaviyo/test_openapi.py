"""The declarations match Klaviyo's OpenAPI description. Skipped without a copy of the description."""

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from klaviyo_pipeline.catalog import BREAKDOWNS, ENTITIES, OBJECTS
from klaviyo_pipeline.klaviyo.children import FLOW_ACTIONS, FLOW_MESSAGES, ChildKind
from klaviyo_pipeline.klaviyo.flat_campaigns import FLAT_MESSAGES
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.rates import DAY, ENDPOINTS, GET_CAMPAIGNS, GET_FLOWS, MINUTE, SECOND, Endpoint
from klaviyo_pipeline.klaviyo.report_types import Report, SeriesReport
from klaviyo_pipeline.klaviyo.reports import API_REPORTS, body
from klaviyo_pipeline.klaviyo.tags import TAGS, with_tags

from .fakes import NOON

DESCRIPTION = Path(__file__).parents[2].parent / "shared" / "klaviyo-openapi.json"
LISTINGS = {listing.entity: listing_at("2026-07-15", listing) for listing in ENTITIES.values()}

REPORTS = API_REPORTS | {spec.report.name: spec.report for spec in BREAKDOWNS.values()}

NEW = ("get_campaign_messages", "get_variations_for_campaign_message")
SHARED = {name: endpoint for name, endpoint in ENDPOINTS.items() if name not in NEW}
"""The operations that revision 2026-07-15 has."""

UNITS = {"s": SECOND, "m": MINUTE, "d": DAY}
CONDITION = re.compile(r"([a-z-]+)\(([a-z_.]+),([^()]*)\)")

EVERY_LISTING = {listing.entity: listing_at("2026-07-15", listing) for listing in OBJECTS.values()}
pytestmark = pytest.mark.skipif(not DESCRIPTION.exists(), reason="there is no copy of Klaviyo's OpenAPI description")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return dict(json.loads(DESCRIPTION.read_text()))


def operation(described: dict[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    found = [
        (path, one)
        for path, methods in described["paths"].items()
        for one in methods.values()
        if one["operationId"] == name
    ]
    assert found, f"{DESCRIPTION} lacks the operation {name}: take a copy that has it"
    return found[0]


def parameter(one: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(next(reported["schema"] for reported in one["parameters"] if reported["name"] == name))


def resolved(described: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = described
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def report_attributes(described: dict[str, Any], report: Report) -> dict[str, Any]:
    _, one = operation(described, report.endpoint.name)
    schema: dict[str, Any] = one["requestBody"]["content"]["application/vnd.api+json"]["schema"]
    for step in ("data", "attributes"):
        schema = resolved(described, schema)["properties"][step]
    return resolved(described, schema)


def names_of(described: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    return list(resolved(described, schema["items"])["enum"])


@pytest.mark.parametrize("endpoint", SHARED.values(), ids=SHARED)
def test_rates_and_scopes_are_the_published_ones(described: dict[str, Any], endpoint: Endpoint) -> None:
    _, one = operation(described, endpoint.name)
    published = {
        (int(count), UNITS[unit]) for count, unit in (rate.split("/") for rate in one["x-klaviyo-ratelimit"].values())
    }
    assert {(rate.requests, rate.seconds) for rate in endpoint.rates} == published
    assert list(endpoint.scopes) == one["x-klaviyo-scopes"]


@pytest.mark.parametrize("listing", [*EVERY_LISTING.values(), TAGS], ids=[*EVERY_LISTING, "tags"])
def test_listings_have_the_described_path_and_the_largest_page_size(
    described: dict[str, Any], listing: Listing
) -> None:
    path, one = operation(described, listing.list_endpoint.name)
    assert path == listing.path
    assert operation(described, listing.get_endpoint.name)[0] == f"{listing.lookup_path or listing.path}/{{id}}"
    taken = {parameter["name"] for parameter in one["parameters"]}
    assert ("page[size]" in taken, "sort" in taken) == (not listing.page_size_is_fixed, listing.sort is not None)
    if not listing.page_size_is_fixed:
        assert parameter(one, "page[size]")["maximum"] == listing.page_size
    orders = {one_order for one_order in (listing.sort, listing.created_field, listing.time_field) if one_order}
    assert orders <= (set(parameter(one, "sort")["enum"]) if orders else set())


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
def test_the_endpoint_supports_every_condition(described: dict[str, Any], listing: Listing) -> None:
    _, one = operation(described, listing.list_endpoint.name)
    window = (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC))
    for query in listing.queries(*window, NOON) + listing.queries(None, None, NOON):
        for operator, field, value in CONDITION.findall(dict(query.params).get("filter", "")):
            reported = one["x-klaviyo-filters"][field]
            assert operator in reported["operators"]["single"]
            assert value.strip("'") in reported["value"].get("enum", [value.strip("'")])


@pytest.mark.parametrize("listing", [*EVERY_LISTING.values(), TAGS], ids=[*EVERY_LISTING, "tags"])
def test_every_column_reads_a_described_attribute(described: dict[str, Any], listing: Listing) -> None:
    _, one = operation(described, listing.list_endpoint.name)
    fields = parameter(one, f"fields[{listing.resource_type}]")["items"]["enum"]
    paths = {column.path for column in listing.columns if not column.path.startswith("@")}
    # The description does not say what an integration contains.
    assert {path.removesuffix(".name").removesuffix(".category") for path in paths} <= {*fields, "id"}
    assert set(listing.attributes) <= set(fields)


@pytest.mark.parametrize(
    "listing",
    [one for one in (*LISTINGS.values(), *map(with_tags, LISTINGS.values())) if one.include],
    ids=lambda one: str(one.include),
)
def test_listings_and_lookups_include_only_supported_relationships(described: dict[str, Any], listing: Listing) -> None:
    for endpoint in (listing.list_endpoint, listing.get_endpoint):
        _, one = operation(described, endpoint.name)
        assert set(listing.include) <= set(parameter(one, "include")["items"]["enum"])


@pytest.mark.parametrize(
    ("kind", "endpoint"), [(FLAT_MESSAGES, GET_CAMPAIGNS), (FLOW_ACTIONS, GET_FLOWS)], ids=lambda one: str(one)[:20]
)
def test_every_column_of_a_child_reads_a_described_attribute(
    described: dict[str, Any], kind: ChildKind, endpoint: Endpoint
) -> None:
    _, one = operation(described, endpoint.name)
    fields = parameter(one, f"fields[{kind.shape.resource_type}]")["items"]["enum"]
    paths = {column.path for column in kind.shape.columns if not column.path.startswith("@")}
    assert paths - {"id"} <= {path for field in fields for path in (field, *_heads(field))}


def test_every_column_of_a_flow_message_reads_an_attribute_of_some_action(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    kinds = ("FlowEmail", "FlowSms", "FlowPushNotification", "FlowWhatsApp", "FlowInternalAlert", "FlowWebhook")
    known = {name for kind in kinds for name in schemas[kind]["properties"]}
    assert {column.path for column in FLOW_MESSAGES.shape.columns if not column.path.startswith("@")} <= known


def _heads(field: str) -> list[str]:
    parts = field.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


@pytest.mark.parametrize("report", API_REPORTS.values(), ids=API_REPORTS)
def test_a_report_requests_every_described_statistic(described: dict[str, Any], report: Report) -> None:
    reported = report_attributes(described, report)["properties"]
    assert sorted(report.statistics) == sorted(names_of(described, reported["statistics"]))


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_report_request_matches_the_description(described: dict[str, Any], report: Report) -> None:
    schema = report_attributes(described, report)
    requested = body(report, date(2026, 6, 1), date(2026, 6, 2), "M1")["data"]
    assert isinstance(requested, dict)
    assert set(schema["required"]) <= set(requested["attributes"]) <= set(schema["properties"])
    assert operation(described, report.endpoint.name)[0] == report.path
    if report.group_by:
        assert set(report.group_by) <= set(names_of(described, schema["properties"]["group_by"]))
    if isinstance(report, SeriesReport):
        assert report.interval in resolved(described, schema["properties"]["interval"])["enum"]
