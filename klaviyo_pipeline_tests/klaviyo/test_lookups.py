"""Lookups of an object by id, and the metrics."""

import pytest

from klaviyo_pipeline.klaviyo import errors
from klaviyo_pipeline.klaviyo.listing_revisions import FLAT_CAMPAIGNS
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS, FLOWS, FORMS

from .conftest import Bench
from .fakes import NOON
from .resources import campaign, flow, page
from .scripted_server import Scripted, absent, failed, html, ok, refused


def message(*places: dict[str, object]) -> dict[str, object]:
    attributes: dict[str, object] = {}
    for place in places:
        attributes |= place
    return {"type": "campaign-message", "id": "M", "attributes": attributes}


def test_an_object_is_found_by_its_id(bench: Bench) -> None:
    bench.server.will(ok({"data": flow("F1")}))
    lookup = bench.client.get(FLOWS, "F1")
    assert lookup.record is not None
    assert lookup.record.values["name"] == "Welcome"
    assert lookup.observed_at == NOON
    assert (bench.server.requested[0].path, bench.server.requested[0].query) == (
        "/api/flows/F1",
        {"include": "flow-actions"},
    )


def test_an_id_is_quoted_in_the_path(bench: Bench) -> None:
    bench.server.will(ok({"data": flow("a/b?c d")}))
    bench.client.get(FLOWS, "a/b?c d")
    assert bench.server.requested[0].path == "/api/flows/a%2Fb%3Fc%20d"


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_rejected(bench: Bench, id: str) -> None:
    with pytest.raises(ValueError, match="is not a valid flow id"):
        bench.client.get(FLOWS, id)
    assert bench.server.requested == []


def not_found(detail: str, **more: object) -> dict[str, object]:
    return {"id": "r", "status": 404, "code": "not_found", "title": "Not found.", "detail": detail, **more}


DATA = {"pointer": "/data/"}
MISSING = {
    "as recorded": absent("flow", "F1"),
    "no source": failed(404, not_found("A flow with id F1 does not exist.")),
    "another place": failed(404, not_found("A flow with id F1 does not exist.", source={"parameter": "id"})),
    "other words": failed(404, not_found("Not here.", source={"pointer": "/data"})),
}


@pytest.mark.parametrize("answer", MISSING.values(), ids=MISSING)
def test_a_404_that_names_the_id_or_points_to_the_data_means_that_the_object_is_missing(
    bench: Bench, answer: Scripted
) -> None:
    bench.server.will(answer)
    lookup = bench.client.get(FLOWS, "F1")
    assert (lookup.record, lookup.observed_at) == (None, NOON)


DOUBTFUL_404S = {
    "a page": html(404),
    "another code": refused(404, "No route.", code="no_route"),
    "a path": failed(404, not_found("The path /api/flows/F1 could not be found")),
    "a path with a source": failed(404, not_found("The path /api/flows/F1 could not be found", source=DATA)),
    "another id": failed(404, not_found("A flow with id F12 does not exist.")),
    "no id and no source": failed(404, not_found("Not here.")),
    "two errors": failed(404, not_found("A flow with id F1 does not exist.", source=DATA), not_found("No route.")),
    "no errors": Scripted(404, b'{"errors": []}'),
}


@pytest.mark.parametrize("answer", DOUBTFUL_404S.values(), ids=DOUBTFUL_404S)
def test_any_other_404_is_an_error_and_not_a_missing_object(bench: Bench, answer: Scripted) -> None:
    bench.server.will(answer)
    with pytest.raises(errors.NotFound):
        bench.client.get(FLOWS, "F1")


def test_an_answer_about_another_object_is_malformed(bench: Bench) -> None:
    bench.server.will(ok({"data": flow("F2")}))
    with pytest.raises(errors.MalformedAnswer, match="returned flow F2 instead of F1"):
        bench.client.get(FLOWS, "F1")


@pytest.mark.parametrize(
    ("included", "channel"),
    [
        ([message({"definition": {"channel": "sms"}})], "sms"),
        ([message({"channel": "email"})], "email"),
        ([message({"channel": "mobile_push"}), message({"definition": {"channel": "email"}})], "email"),
        ([message({"definition": None})], None),
        ([message({"channel": "whatsapp"})], "whatsapp"),
        ([message({"channel": 7})], None),
        ([{"type": "tag", "id": "T", "attributes": {"channel": "sms"}}], None),
        ([], None),
        (None, None),
    ],
)
def test_a_campaign_s_channel_is_read_from_its_messages(bench: Bench, included: object, channel: str | None) -> None:
    bench.server.will(ok({"data": campaign("C1"), "included": included}))
    record = bench.client.get(FLAT_CAMPAIGNS, "C1").record
    assert record is not None
    assert record.values["channel"] == channel
    assert bench.server.requested[0].query == {"include": "campaign-messages"}


def test_a_lookup_and_a_listing_give_the_same_record(bench: Bench) -> None:
    two = [{"type": "campaign-message", "id": id} for id in ("M", "N")]
    tags = {"links": {"related": "https://x/tags"}}
    by_id = campaign("C1") | {"relationships": {"campaign-messages": {"data": two}, "tags": tags}}
    listed = campaign("C1") | {"relationships": {"campaign-messages": {"data": two[::-1]}}}
    included = [message({"definition": {"channel": "email"}})]
    bench.server.will(ok({"data": by_id, "included": included}), ok(page(listed) | {"included": included}))
    found = bench.client.get(FLAT_CAMPAIGNS, "C1").record
    (other,) = next(bench.client.pages(FLAT_CAMPAIGNS, FLAT_CAMPAIGNS.queries(None, None, NOON)[0])).records
    assert found == other
    assert found is not None
    assert found.children["campaign_messages"].ids == ("M", "N")


def test_raw_contains_a_forms_version_ids_from_a_lookup_and_a_listing(bench: Bench) -> None:
    versions = [{"type": "form-version", "id": id} for id in ("7", "6")]
    related = {"form-versions": {"data": versions, "links": {"self": "https://x"}}}
    form = {"type": "form", "id": "X", "attributes": {"name": "Pop-up"}, "relationships": related}
    by_id = {**form, "attributes": {"name": "Pop-up", "definition": {"versions": []}}}
    bench.server.will(ok(page(form)), ok({"data": by_id}))
    [listed] = next(bench.client.pages(FORMS, FORMS.queries(None, None, NOON)[0])).records
    found = bench.client.get(FORMS, "X").record
    assert found == listed
    assert listed.values["raw"] == {
        "id": "X",
        "type": "form",
        "attributes": {"name": "Pop-up"},
        "relationships": {"form-versions": ["6", "7"]},
    }
    assert all("include" not in requested.query for requested in bench.server.requested)


def test_metrics_are_listed_over_all_pages(bench: Bench) -> None:
    shop = {"name": "Placed Order", "integration": {"name": "Shopify", "category": {"name": "eCommerce"}}}
    bench.server.will(
        ok(page({"type": "metric", "id": "A", "attributes": shop}, next=f"{bench.server.url}/api/metrics?c=2")),
        ok(page({"type": "metric", "id": "B", "attributes": {"name": None, "integration": None}})),
    )
    first, second = bench.client.metrics()
    assert (first.id, first.name, first.integration, first.category) == (
        "A",
        "Placed Order",
        "Shopify",
        "eCommerce",
    )
    assert (second.id, second.name, second.integration) == ("B", None, None)
    assert bench.server.requested[0].target == "/api/metrics"


@pytest.mark.parametrize(
    ("relationships", "included", "found"),
    [
        ({"metric": {"data": {"type": "metric", "id": "M1"}}}, None, "M1"),
        ({"metric": {"links": {}}}, [{"type": "metric", "id": "M2"}], "M2"),
        ({"custom-metric": {"data": {"type": "custom-metric", "id": "X"}}, "metric": {"data": None}}, None, None),
        ({}, [{"type": "custom-metric", "id": "X"}], None),
    ],
)
def test_a_mapped_metric_is_the_metric_that_it_refers_to(
    bench: Bench, relationships: object, included: object, found: str | None
) -> None:
    data = {"type": "mapped-metric", "id": "revenue", "attributes": {}, "relationships": relationships}
    bench.server.will(ok({"data": data, "included": included}))
    assert bench.client.mapped_metric() == found
    assert bench.server.requested[0].target == "/api/mapped-metrics/revenue?include=metric"


def test_a_missing_mapping_is_none(bench: Bench) -> None:
    bench.server.will(absent("mapped-metric", "revenue"))
    assert bench.client.mapped_metric() is None


@pytest.mark.parametrize("answer", [html(404), failed(404, not_found("The path /api/mapped-metrics/revenue is not"))])
def test_an_unknown_path_is_not_a_missing_mapping(bench: Bench, answer: Scripted) -> None:
    bench.server.will(answer)
    with pytest.raises(errors.NotFound):
        bench.client.mapped_metric()


REFUSALS = {
    "a parameter": {"detail": "Not allowed.", "source": {"parameter": "include"}},
    "its place": {"detail": "Not allowed.", "source": {"parameter": "include[1]"}},
    "the body": {"detail": "'campaign-variations' is not an allowed include.", "source": {"pointer": "/data/"}},
    "no source": {"detail": "'campaign-variations' is not an allowed include."},
}


@pytest.mark.parametrize("error", REFUSALS.values(), ids=REFUSALS)
def test_variations_whose_include_is_refused_are_requested_by_message(bench: Bench, error: dict[str, object]) -> None:
    names = {"campaign-messages": {"data": [{"type": "campaign-message", "id": "M"}]}}
    bench.server.will(
        ok(
            {"data": {"type": "campaign", "id": "C", "attributes": {}, "relationships": names}, "included": [message()]}
        ),
        failed(400, {"id": "r", "status": 400, "code": "invalid", "title": "Invalid input.", **error}),
        ok({"data": [{"type": "campaign-variation", "id": "V", "attributes": {}}]}),
    )
    assert bench.client.get(CAMPAIGNS, "C").record is not None
    assert bench.server.requested[-1].path == "/api/campaign-messages/M/campaign-variations"
