"""Objects as JSON:API resources: attributes, relationships and included resources."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from klaviyo_pipeline.sandbox.entity_kinds import TEMPLATES, Entity
from klaviyo_pipeline.sandbox.flow_actions import actions_of
from klaviyo_pipeline.sandbox.older_campaigns import OlderCampaign, OlderMessage
from klaviyo_pipeline.sandbox.request_context import Call
from klaviyo_pipeline.sandbox.sandbox_account import SandboxObject

Resource = dict[str, Any]
# The (type, id) of one related resource, or of many.
Related = list[tuple[str, str]] | tuple[str, str] | None


def resource(
    call: Call,
    type: str,
    path: str,
    id: str,
    attributes: Mapping[str, Any],
    related: Mapping[str, Related],
) -> Resource:
    """One resource. `related` contains the target of each relationship, None for a relationship with links only."""
    home = call.url(f"{path}/{id}")
    relationships: dict[str, Any] = {}
    for name, target in related.items():
        links = {"self": f"{home}/relationships/{name}/", "related": f"{home}/{name}/"}
        relationships[name] = {"links": links}
        if target is not None:
            relationships[name] = {"data": _linkage(target), "links": links}
    visible: Resource = {
        "type": type,
        "id": id,
        "attributes": sparse(attributes, call.query.fields.get(type)),
        "links": {"self": f"{home}/"},
    }
    return {**visible, "relationships": relationships} if relationships else visible


def _linkage(target: list[tuple[str, str]] | tuple[str, str]) -> Any:
    if isinstance(target, tuple):
        return {"type": target[0], "id": target[1]}
    return [{"type": type, "id": id} for type, id in target]


def sparse(attributes: Mapping[str, Any], names: tuple[str, ...] | None) -> dict[str, Any]:
    """The attributes that `fields[…]` names, or all without that parameter. A dotted name selects a nested one."""
    if names is None:
        return dict(attributes)
    kept: dict[str, Any] = {}
    for name in names:
        _keep(kept, attributes, name.split("."))
    return kept


def _keep(kept: dict[str, Any], attributes: Mapping[str, Any], path: list[str]) -> None:
    head, *rest = path
    if head not in attributes:
        return
    inner = attributes[head]
    if rest and isinstance(inner, Mapping):
        _keep(kept.setdefault(head, {}), inner, rest)
    else:
        kept[head] = inner


Visible = SandboxObject | OlderCampaign


def object_resource(call: Call, entity: Entity, visible: Visible, attributes: Mapping[str, Any]) -> Resource:
    """An object of an entity as a resource.

    It contains the ids of related objects that the request includes, and always the ids of a form's versions.
    """
    related: dict[str, Related] = {
        name: _related(visible, attributes, name) if name in call.query.includes or name == "form-versions" else None
        for name in entity.relationships
    }
    requested = {name: _ADDITIONAL[name](call, visible, attributes) for name in call.query.additional}
    if entity is TEMPLATES:
        requested = dict.fromkeys(requested)
    return resource(call, entity.type, entity.name, visible.id, {**attributes, **requested}, related)


def _related(visible: Visible, attributes: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    if name == "tags":
        return [("tag", tag) for tag in visible.tags]
    if isinstance(visible, OlderCampaign):
        return [("campaign-message", message.id) for message in visible.messages]
    if name == "form-versions":
        return [("form-version", version) for version in visible.versions]
    if name == "flow-actions":
        return [("flow-action", id) for id in actions_of(visible.messages, attributes.get("status"), "")]
    return []


def included(call: Call, entity: Entity, rows: Sequence[tuple[Visible, Mapping[str, Any]]]) -> list[Resource]:
    """The resources that `include` requests, each one once, in the order of the rows."""
    found: dict[tuple[str, str], Resource] = {}
    for visible, attributes in rows:
        for name in call.query.includes:
            for item in _included(call, entity, name, visible, attributes):
                found.setdefault((item["type"], item["id"]), item)
    return list(found.values())


def _included(call: Call, entity: Entity, name: str, visible: Visible, attributes: Mapping[str, Any]) -> list[Resource]:
    if name == "tags":
        return [tag_resource(call, tag) for tag in visible.tags]
    if isinstance(visible, OlderCampaign):
        return [older_message(call, visible, message) for message in visible.messages]
    if name == "flow-actions":
        return [_flow_action(call, visible, id, made, attributes) for id, made in _actions(call, visible, attributes)]
    return []


def tag_resource(call: Call, tag: str, group: tuple[str, str] | None = None) -> Resource:
    related: dict[str, Related] = {
        "tag-group": group,
        "lists": None,
        "segments": None,
        "campaigns": None,
        "flows": None,
    }
    return resource(call, "tag", "tags", tag, {"name": call.account.tags.get(tag, tag)}, related)


def older_message(call: Call, campaign: OlderCampaign, message: OlderMessage) -> Resource:
    """A campaign's message at revision 2026-07-15."""
    related: dict[str, Related] = {"campaign": ("campaign", campaign.id), "template": None, "image": None}
    return resource(call, "campaign-message", "campaign-messages", message.id, message.attributes, related)


def _actions(call: Call, flow: SandboxObject, attributes: Mapping[str, Any]) -> list[tuple[str, dict[str, Any] | None]]:
    return list(actions_of(flow.messages, attributes.get("status"), call.account.name).items())


def _flow_action(
    call: Call, flow: SandboxObject, id: str, definition: dict[str, Any] | None, attributes: Mapping[str, Any]
) -> Resource:
    visible = {"definition": definition, "created": attributes.get("created"), "updated": attributes.get("updated")}
    related: dict[str, Related] = {"flow": ("flow", flow.id), "flow-messages": None}
    return resource(call, "flow-action", "flow-actions", id, visible, related)


def form_definition() -> dict[str, Any]:
    """The additional attributes of a form that is looked up by id."""
    return {"definition": {"versions": []}}


def _definition(call: Call, flow: SandboxObject, attributes: Mapping[str, Any]) -> dict[str, Any]:
    actions = _actions(call, flow, attributes)
    entry = actions[0][0] if actions else None
    visible = [definition for _, definition in actions if definition is not None]
    return {"triggers": [], "profile_filter": None, "actions": visible, "entry_action_id": entry}


def _profile_count(call: Call, members: Visible, attributes: Mapping[str, Any]) -> int:
    return int.from_bytes(hashlib.blake2b(members.id.encode(), digest_size=2).digest(), "big")


_ADDITIONAL: dict[str, Any] = {"definition": _definition, "profile_count": _profile_count}
