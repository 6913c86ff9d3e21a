"""The answers of revision 2026-10-15 about campaigns, their audiences, messages and variations."""

from __future__ import annotations

from typing import Any

from klaviyo_pipeline.sandbox.api_errors import bad_parameter, not_found
from klaviyo_pipeline.sandbox.campaign_kinds import CAMPAIGN_KINDS, CAMPAIGNS, MESSAGES, CampaignKind
from klaviyo_pipeline.sandbox.campaign_resources import (
    included_resources,
    linkage,
    node_resource,
    related_resources,
)
from klaviyo_pipeline.sandbox.campaign_tree import CampaignTrees, Node
from klaviyo_pipeline.sandbox.filter_matching import Criterion, passes, read_filter
from klaviyo_pipeline.sandbox.listing_endpoints import CURSOR, jumbled
from klaviyo_pipeline.sandbox.pagination import Place, collection_links, cut_page
from klaviyo_pipeline.sandbox.request_context import Call
from klaviyo_pipeline.sandbox.timestamps import read_time


def list_campaign_objects(call: Call, kind: CampaignKind) -> dict[str, Any]:
    """One page of the listing of campaigns or of messages."""
    _check_includes(call, kind)
    criteria = read_filter(call.query.filter, kind.filters, call.now) if call.query.filter is not None else []
    trees = CampaignTrees(call.account, call.now)
    rows = [node for node in trees.all(kind.name) if _matches(call, trees, node, criteria)]
    field, descending = call.query.sort or ("id", False)
    page, cursor = cut_page(
        call,
        CURSOR,
        sorted(rows, key=lambda node: node.id),
        lambda node: _place(node, field),
        size=call.page_size,
        descending=descending,
        text=lambda node: f"next::{field}::{_value(node, field)}::id::{node.id}",
    )
    if kind is CAMPAIGNS and any(criterion.field == "archived" and criterion.values[0] for criterion in criteria):
        page = jumbled(page, lambda node: node.id)
    document = _document(
        call, trees, kind, page, [node_resource(call, trees, node, _types(call, kind)) for node in page]
    )
    document["links"] = collection_links(call, CURSOR, cursor)
    if call.account.full_pages_lack_links and len(page) == call.page_size:
        del document["links"]
    return document


def get_campaign_object(call: Call, kind: CampaignKind) -> dict[str, Any]:
    """One object by id. Raises `ApiError` 404 if the object or its owner does not exist."""
    trees = CampaignTrees(call.account, call.now)
    node = _find(call, trees, kind)
    document = _document(call, trees, kind, [node], node_resource(call, trees, node, _types(call, kind)))
    return {**document, "links": {"self": call.self_link()}}


def get_related(call: Call, kind: CampaignKind, name: str) -> dict[str, Any]:
    """The objects that are related to an object, as resources."""
    trees = CampaignTrees(call.account, call.now)
    node = _find(call, trees, kind)
    relation = kind.relations[name]
    types = {relation.type} | ({"campaign"} if "campaign" in call.query.includes else set())
    found = related_resources(call, trees, node, name, types)
    if not relation.many:
        return {"data": found[0] if found else None, "links": {"self": call.self_link()}}
    page, cursor = cut_page(call, CURSOR, found, lambda one: (one["id"],), size=call.page_size)
    document: dict[str, Any] = {"data": page, "links": collection_links(call, CURSOR, cursor)}
    if call.query.includes:
        nodes = [other for one in page if (other := trees.find(str(relation.kind), one["id"])) is not None]
        document["included"] = included_resources(call, trees, nodes, types)
    return document


def get_related_ids(call: Call, kind: CampaignKind, name: str) -> dict[str, Any]:
    """The objects that are related to an object, as types and ids."""
    trees = CampaignTrees(call.account, call.now)
    found = linkage(trees, _find(call, trees, kind), kind.relations[name])
    if not isinstance(found, list):
        data = {"type": found[0], "id": found[1]} if found else None
        return {"data": data, "links": {"self": call.self_link()}}
    page, cursor = cut_page(call, CURSOR, found, lambda one: (one[1],), size=call.page_size)
    data_list = [{"type": type, "id": id} for type, id in page]
    return {"data": data_list, "links": collection_links(call, CURSOR, cursor)}


def _find(call: Call, trees: CampaignTrees, kind: CampaignKind) -> Node:
    node = trees.find(kind.name, call.id)
    if node is None:
        raise not_found(f"A {kind.type} with id {call.id} does not exist.")
    return node


def _types(call: Call, kind: CampaignKind) -> set[str]:
    return {kind.type, *(kind.relations[name].type for name in call.query.includes)} if call.query.includes else set()


def _document(call: Call, trees: CampaignTrees, kind: CampaignKind, nodes: list[Node], data: Any) -> dict[str, Any]:
    document = {"data": data}
    if call.query.includes:
        document["included"] = included_resources(call, trees, nodes, _types(call, kind))
    return document


def _check_includes(call: Call, kind: CampaignKind) -> None:
    if kind is not MESSAGES or call.account.messages_include_variations:
        return
    if "campaign-variations" in call.query.includes:
        raise bad_parameter("include", "'campaign-variations' is not a valid value of 'include'.")
    if "campaign-variation" in call.query.fields:
        name = "fields[campaign-variation]"
        raise bad_parameter(name, f"'{name}' is not a valid parameter for this endpoint.")


def _matches(call: Call, trees: CampaignTrees, node: Node, criteria: list[Criterion]) -> bool:
    if not all(passes(one, node.id, _value(node, one.field), call.account.gt_includes_bound) for one in criteria):
        return False
    if node.kind == "campaigns":
        wanted = any(criterion.field == "archived" for criterion in criteria)
        return wanted or call.account.unfiltered_campaigns == "all" or not node.attributes.get("archived")
    owner = trees.find("campaigns", node.object.parents.get("campaigns"))
    return call.account.messages_of_archived or (owner is not None and not owner.attributes.get("archived"))


def _value(node: Node, field: str) -> Any:
    if field == "id":
        return node.id
    if field == "campaign_id":
        return node.object.parents.get("campaigns")
    if node.kind == "campaigns" or field in CAMPAIGN_KINDS[node.kind].time_fields:
        return node.attributes.get(field)
    return node.definition.get(field)


def _place(node: Node, field: str) -> Place:
    value = _value(node, field)
    if field in CAMPAIGN_KINDS[node.kind].time_fields:
        value = read_time(value)
    elif value is not None:
        value = str(value)
    return value is None, value if value is not None else "", node.id
