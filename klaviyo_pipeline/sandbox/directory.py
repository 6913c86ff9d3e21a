"""The account itself, its metrics, mapped metrics and tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from klaviyo_pipeline.sandbox.api_errors import not_found
from klaviyo_pipeline.sandbox.documents import Related, Resource, resource, tag_resource
from klaviyo_pipeline.sandbox.entity_kinds import TEXT_SEARCH, FilterField
from klaviyo_pipeline.sandbox.filter_matching import passes, read_filter
from klaviyo_pipeline.sandbox.pagination import collection_links, cut_page
from klaviyo_pipeline.sandbox.request_context import Call
from klaviyo_pipeline.sandbox.sandbox_account import MappedMetric, Metric
from klaviyo_pipeline.sandbox.timestamps import write_time

CURSOR = "page[cursor]"
METRIC_FILTERS = {
    "integration.name": FilterField("string", ("equals",)),
    "integration.category": FilterField("string", ("equals",)),
}
TAG_FILTERS = {"name": FilterField("string", TEXT_SEARCH, ("equals",))}
MAPPINGS = (
    "added_to_cart",
    "cancelled_sales",
    "ordered_product",
    "refunded_sales",
    "revenue",
    "started_checkout",
    "viewed_product",
)
_TAG_GROUP = ("tag-group", "5f2c1f3e-0000-4000-8000-000000000001")


def list_accounts(call: Call) -> dict[str, Any]:
    return {"data": [_account(call)], "links": {"self": call.self_link(), "next": None, "prev": None}}


def get_account(call: Call) -> dict[str, Any]:
    if call.id != call.account.id:
        raise not_found(f"An account with id {call.id} does not exist.")
    return {"data": _account(call), "links": {"self": call.self_link()}}


def _account(call: Call) -> Resource:
    address = {"address1": "1 Loopback Lane", "address2": None, "city": "Boston", "country": "US"}
    attributes = {
        "test_account": True,
        "contact_information": {
            "default_sender_name": call.account.name,
            "default_sender_email": "hello@sandbox.example",
            "website_url": "https://sandbox.example",
            "organization_name": call.account.name,
            "street_address": {**address, "region": "MA", "zip": "02111"},
        },
        "industry": "Apparel",
        "timezone": call.account.timezone,
        "preferred_currency": call.account.currency,
        "public_api_key": call.account.id,
        "locale": "en-US",
    }
    return resource(call, "account", "accounts", call.account.id, attributes, {})


def list_metrics(call: Call) -> dict[str, Any]:
    requested = call.query.filter
    criteria = read_filter(requested, METRIC_FILTERS, call.now) if requested is not None else []
    fields = {"integration.name": "integration", "integration.category": "category"}
    rows = [
        metric
        for metric in call.account.metrics.values()
        if all(passes(criterion, metric.id, getattr(metric, fields[criterion.field]), True) for criterion in criteria)
    ]
    page, cursor = cut_page(call, CURSOR, rows, lambda metric: (metric.id,), size=call.page_size)
    return _collection(call, [_metric(call, metric) for metric in page], cursor)


def get_metric(call: Call) -> dict[str, Any]:
    metric = call.account.metrics.get(call.id)
    if metric is None:
        raise not_found(f"A metric with id {call.id} does not exist.")
    return _single(call, _metric(call, metric))


def _metric(call: Call, metric: Metric) -> Resource:
    attributes = {
        "name": metric.name,
        "created": write_time(metric.created),
        "updated": write_time(metric.created),
        "integration": {
            "object": "integration",
            "id": f"int-{metric.integration.lower().replace(' ', '-')}",
            "name": metric.integration,
            "category": {"id": 1, "category": metric.category} if call.account.category_is_object else metric.category,
        },
    }
    triggers: Related = [] if "flow-triggers" in call.query.includes else None
    return resource(call, "metric", "metrics", metric.id, attributes, {"flow-triggers": triggers})


def list_mapped_metrics(call: Call) -> dict[str, Any]:
    mapped = [(name, call.account.mapped_metrics.get(name)) for name in MAPPINGS]
    document = _collection(call, [_mapped_metric(call, name, target) for name, target in mapped], None)
    return _with_targets(call, document, [target for _, target in mapped])


def get_mapped_metric(call: Call) -> dict[str, Any]:
    if call.id not in MAPPINGS:
        raise not_found(f"A mapped metric with id {call.id} does not exist.")
    target = call.account.mapped_metrics.get(call.id)
    return _with_targets(call, _single(call, _mapped_metric(call, call.id, target)), [target])


def _mapped_metric(call: Call, name: str, target: MappedMetric | None) -> Resource:
    if target is None:
        # A mapping that was never made is there all the same, without relationships.
        return resource(call, "mapped-metric", "mapped-metrics", name, {"updated": None}, {})
    requested = call.query.includes
    metric = ("metric", target.metric_id) if target.metric_id and "metric" in requested else None
    custom = (
        ("custom-metric", target.custom_metric_id) if target.custom_metric_id and "custom-metric" in requested else None
    )
    related: dict[str, Related] = {"metric": metric, "custom-metric": custom}
    return resource(call, "mapped-metric", "mapped-metrics", name, {"updated": write_time(target.updated)}, related)


def _with_targets(call: Call, document: dict[str, Any], targets: Sequence[MappedMetric | None]) -> dict[str, Any]:
    if not call.query.includes:
        return document
    found: dict[str, Resource] = {}
    for target in filter(None, targets):
        metric = call.account.metrics.get(target.metric_id or "")
        if metric is not None and "metric" in call.query.includes:
            found.setdefault(metric.id, _metric(call, metric))
        if target.custom_metric_id and "custom-metric" in call.query.includes:
            found.setdefault(target.custom_metric_id, _custom_metric(call, target.custom_metric_id, target))
    return {**document, "included": list(found.values())}


def _custom_metric(call: Call, id: str, target: MappedMetric) -> Resource:
    attributes = {
        "name": "Custom revenue",
        "created": write_time(target.updated),
        "updated": write_time(target.updated),
        "definition": {"aggregation_method": "value", "metric_groups": []},
    }
    return resource(call, "custom-metric", "custom-metrics", id, attributes, {"metrics": None})


def list_tags(call: Call) -> dict[str, Any]:
    requested = call.query.filter
    criteria = read_filter(requested, TAG_FILTERS, call.now) if requested is not None else []
    rows = [
        (id, name)
        for id, name in call.account.tags.items()
        if all(passes(criterion, id, name, True) for criterion in criteria)
    ]
    by_name = call.query.sort is not None and call.query.sort[0] == "name"
    page, cursor = cut_page(
        call,
        CURSOR,
        rows,
        lambda tag: (tag[1], tag[0]) if by_name else (tag[0],),
        size=call.page_size,
        descending=call.query.sort is not None and call.query.sort[1],
        text=lambda tag: f"next::id::{tag[0]}",
    )
    document = _collection(call, [tag_resource(call, id, _group(call)) for id, _ in page], cursor)
    if call.account.full_pages_lack_links and len(page) == call.page_size:
        del document["links"]
    return _with_group(call, document)


def get_tag(call: Call) -> dict[str, Any]:
    if call.id not in call.account.tags:
        raise not_found(f"A tag with id {call.id} does not exist.")
    return _with_group(call, _single(call, tag_resource(call, call.id, _group(call))))


def _group(call: Call) -> tuple[str, str] | None:
    return _TAG_GROUP if call.query.includes else None


def _with_group(call: Call, document: dict[str, Any]) -> dict[str, Any]:
    if not call.query.includes:
        return document
    attributes = {"name": "Default", "exclusive": False, "default": True}
    return {**document, "included": [resource(call, _TAG_GROUP[0], "tag-groups", _TAG_GROUP[1], attributes, {})]}


def _collection(call: Call, data: list[Resource], cursor: str | None) -> dict[str, Any]:
    return {"data": data, "links": collection_links(call, CURSOR, cursor)}


def _single(call: Call, data: Resource) -> dict[str, Any]:
    return {"data": data, "links": {"self": call.self_link()}}
