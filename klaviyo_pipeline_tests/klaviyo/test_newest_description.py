"""The declarations match the description of revision 2026-10-15. Skipped without a copy of the description.

`test_openapi.py` does the same for revision 2026-07-15, which differs in campaigns alone.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from klaviyo_pipeline.catalog import ENTITIES
from klaviyo_pipeline.klaviyo.listings import CAMPAIGN_MESSAGE_TIMES, Listing
from klaviyo_pipeline.klaviyo.rates import ENDPOINTS, Endpoint
from klaviyo_pipeline.klaviyo.report_types import Report
from klaviyo_pipeline.klaviyo.tags import TAGS

from .fakes import NOON
from .test_openapi import CONDITION, REPORTS

DESCRIPTION = Path(__file__).parents[2].parent / "shared" / "klaviyo-2026-10-15.json"
SPANS = {"burst": 1, "steady": 60, "daily": 24 * 60 * 60}
LISTINGS = {**ENTITIES, "tags": TAGS, "messages of campaigns": CAMPAIGN_MESSAGE_TIMES}

pytestmark = pytest.mark.skipif(not DESCRIPTION.exists(), reason="there is no description of revision 2026-10-15")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return dict(json.loads(DESCRIPTION.read_text()))


def fields(described: dict[str, Any], parameter: dict[str, Any]) -> set[str]:
    return set(described["fieldsets"][parameter["enum_of"]] if "enum_of" in parameter else parameter["enum"])


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_rates_and_scopes_are_the_published_ones(described: dict[str, Any], endpoint: Endpoint) -> None:
    one = described["operations"][endpoint.name]
    published = {(count, SPANS[name]) for name, count in one["ratelimit"].items()}
    assert {(rate.requests, rate.seconds) for rate in endpoint.rates} == published
    assert sorted(endpoint.scopes) == sorted(one["scopes"])


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
def test_listings_request_what_their_endpoint_takes(described: dict[str, Any], listing: Listing) -> None:
    one = described["operations"][listing.list_endpoint.name]
    assert one["path"] == f"/api{listing.path.removeprefix('/api')}"
    assert one["params"]["page[size]"]["maximum"] == listing.page_size
    assert listing.sort in one["params"]["sort"]["enum"]
    assert set(listing.include) <= set(one["params"].get("include", {"enum": []})["enum"])
    known = fields(described, one["params"][f"fields[{listing.resource_type}]"])
    assert {column.path for column in listing.columns if not column.path.startswith("@")} <= {*known, "id"}


@pytest.mark.parametrize(
    "listing", [one for name, one in LISTINGS.items() if name != "tags"], ids=lambda one: one.entity
)
def test_every_condition_is_one_that_the_endpoint_takes(described: dict[str, Any], listing: Listing) -> None:
    one = described["operations"][listing.list_endpoint.name]
    window = (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC))
    for query in listing.queries(*window, NOON) + listing.queries(None, None, NOON):
        for operator, field, value in CONDITION.findall(dict(query.params).get("filter", "")):
            reported = one["filters"][field]
            assert operator in reported["operators"]["single"]
            assert value.strip("'") in reported["value"].get("enum", [value.strip("'")])


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_report_requests_what_its_endpoint_takes(described: dict[str, Any], report: Report) -> None:
    one = described["operations"][report.endpoint.name]
    attributes = one["body"]["attributes"]
    assert one["path"] == f"/api{report.path.removeprefix('/api')}"
    assert sorted(report.statistics) == sorted(attributes["statistics"]["items"])
    assert set(report.group_by) <= set(attributes.get("group_by", {"items": []})["items"])
