"""Campaigns, audiences, messages and variations as JSON:API resources of revision 2026-10-15."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from klaviyo_pipeline.sandbox.campaign_kinds import CAMPAIGN_KINDS, Relation
from klaviyo_pipeline.sandbox.campaign_tree import CAMPAIGN_BLANK, OLDER_ATTRIBUTES, CampaignTrees, Node
from klaviyo_pipeline.sandbox.documents import Related, Resource, resource, tag_resource
from klaviyo_pipeline.sandbox.request_context import Call

_TIMES = ("created_at", "updated_at")
_DEFINED = tuple(name for name in CAMPAIGN_BLANK if name not in _TIMES)


def node_resource(call: Call, trees: CampaignTrees, node: Node, types: set[str]) -> Resource:
    """One object as a resource, with the ids of the related objects whose types are in `types`.

    With the option `relationship_data="always"`, it has the ids of all related objects.
    """
    kind = CAMPAIGN_KINDS[node.kind]
    related: dict[str, Related] = {}
    for name, relation in kind.relations.items():
        if name in kind.unnamed:
            continue
        named = relation.type in types or call.account.relationship_data == "always"
        related[name] = linkage(trees, node, relation) if named else None
    return resource(call, kind.type, kind.name, node.id, attributes_of(node), related)


def attributes_of(node: Node) -> Mapping[str, Any]:
    """The attributes as the revision shows them: a campaign's documented ones, except times, are in `definition`."""
    if node.kind != "campaigns":
        return node.attributes
    older = {*CAMPAIGN_BLANK, *OLDER_ATTRIBUTES}
    undocumented = {name: value for name, value in node.attributes.items() if name not in older}
    times = {name: node.attributes[name] for name in _TIMES if name in node.attributes}
    definition = {name: node.attributes[name] for name in _DEFINED if name in node.attributes}
    return {**times, "definition": definition, **undocumented}


def linkage(trees: CampaignTrees, node: Node, relation: Relation) -> Related:
    """The (type, id) of each object that is related to `node`. For a relation to a single object, one pair or None."""
    if relation.type == "tag":
        return [("tag", tag) for tag in node.object.tags]
    if relation.kind is None:
        return None
    found: list[tuple[str, str]] = [(relation.type, other.id) for other in trees.linked(node, relation.kind)]
    if relation.many:
        return found
    return found[0] if found else None


def related_resources(call: Call, trees: CampaignTrees, node: Node, name: str, types: set[str]) -> list[Resource]:
    """The objects that are related to `node` under this name, as resources."""
    relation = CAMPAIGN_KINDS[node.kind].relations[name]
    if relation.type == "tag":
        return [tag_resource(call, tag) for tag in node.object.tags]
    if relation.kind is None:
        return []
    return [node_resource(call, trees, other, types) for other in trees.linked(node, relation.kind)]


def included_resources(call: Call, trees: CampaignTrees, nodes: Sequence[Node], types: set[str]) -> list[Resource]:
    """The resources that `include` names, each one once. Their order has no meaning."""
    found: dict[tuple[str, str], Resource] = {}
    for node in nodes:
        for name in call.query.includes:
            for item in related_resources(call, trees, node, name, types):
                found.setdefault((item["type"], item["id"]), item)
    return [found[key] for key in sorted(found, key=lambda key: hashlib.blake2b(repr(key).encode()).digest())]
