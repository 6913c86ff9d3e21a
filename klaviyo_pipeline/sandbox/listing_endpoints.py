"""The endpoints that list the objects of an entity, such as flows, and that return one object by id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from klaviyo_pipeline.sandbox.api_errors import not_found
from klaviyo_pipeline.sandbox.documents import form_definition, included, object_resource
from klaviyo_pipeline.sandbox.entity_kinds import CAMPAIGNS, ENTITIES, FORMS, Entity
from klaviyo_pipeline.sandbox.filter_matching import Criterion, passes, read_filter, refused
from klaviyo_pipeline.sandbox.older_campaigns import OlderCampaign, older_campaign, older_campaigns
from klaviyo_pipeline.sandbox.pagination import Place, collection_links, cut_page
from klaviyo_pipeline.sandbox.request_context import Call
from klaviyo_pipeline.sandbox.sandbox_account import SandboxObject
from klaviyo_pipeline.sandbox.timestamps import read_time

CURSOR = "page[cursor]"
Row = tuple[SandboxObject | OlderCampaign, Mapping[str, Any]]
Item = TypeVar("Item")


def list_objects(call: Call, name: str) -> dict[str, Any]:
    """One page of the listing of the entity `name`."""
    entity = ENTITIES[name]
    criteria = read_filter(call.query.filter, entity.filters, call.now) if call.query.filter is not None else []
    if entity is CAMPAIGNS and not any(criterion.field == "messages.channel" for criterion in criteria):
        raise refused("A filter on messages.channel is required: equals(messages.channel,'email').")
    rows = [row for row in _present(call, entity) if _matches(call, row, criteria, entity)]
    field, descending = call.query.sort or ("id", False)
    page, cursor = cut_page(
        call,
        CURSOR,
        sorted(rows, key=lambda row: row[0].id),
        lambda row: _cursor_place(call, row, field, entity),
        size=call.page_size,
        descending=descending,
        text=lambda row: _cursor_text(call, row, field, entity),
        repeats=call.account.repeats_ties and _shares_places(call, field, entity),
    )
    if _comes_jumbled(criteria):
        page = jumbled(page, lambda row: row[0].id)
    document: dict[str, Any] = {
        "data": [object_resource(call, entity, visible, attributes) for visible, attributes in page],
        "links": collection_links(call, CURSOR, cursor),
    }
    if call.account.full_pages_lack_links and len(page) == call.page_size:
        del document["links"]
    if call.query.includes:
        document["included"] = included(call, entity, page)
    return document


def get_object(call: Call, name: str) -> dict[str, Any]:
    """One object by id, archived or not. Raises `ApiError` 404 if it does not exist or was deleted."""
    entity = ENTITIES[name]
    row = _by_id(call, entity)
    if row is None:
        raise not_found(f"A {entity.type} with id {call.id} does not exist.")
    visible, attributes = row
    if entity is FORMS:
        attributes = {**attributes, **form_definition()}
    document: dict[str, Any] = {"data": object_resource(call, entity, visible, attributes)}
    document["links"] = {"self": call.self_link()}
    if call.query.includes:
        document["included"] = included(call, entity, [(visible, attributes)])
    return document


def _by_id(call: Call, entity: Entity) -> Row | None:
    if entity is CAMPAIGNS:
        campaign = older_campaign(call.account, call.id, call.now)
        return (campaign, campaign.attributes) if campaign is not None else None
    found = call.account.objects[entity.name].get(call.id)
    attributes = found.at(call.now) if found else None
    return (found, attributes) if found is not None and attributes is not None else None


def _present(call: Call, entity: Entity) -> list[Row]:
    if entity is CAMPAIGNS:
        return [(campaign, campaign.attributes) for campaign in older_campaigns(call.account, call.now)]
    seen = ((visible, visible.at(call.now)) for visible in call.account.objects[entity.name].values())
    return [(visible, attributes) for visible, attributes in seen if attributes is not None]


def _matches(call: Call, row: Row, criteria: list[Criterion], entity: Entity) -> bool:
    visible, attributes = row
    requests_archived = any(criterion.field == "archived" for criterion in criteria)
    if not requests_archived and attributes.get("archived"):
        return False
    return all(
        passes(criterion, visible.id, _value(row, criterion.field), call.account.gt_includes_bound)
        for criterion in criteria
    )


def _value(row: Row, field: str) -> Any:
    visible, attributes = row
    if field == "id":
        return visible.id
    return visible.channels if field == "messages.channel" else attributes.get(field)


def _place(row: Row, field: str, entity: Entity) -> Place:
    value = _value(row, field)
    if field in entity.filters and entity.filters[field].kind == "datetime":
        value = read_time(value)
    elif value is not None:
        value = str(value)
    return value is None, value if value is not None else "", row[0].id


def _shares_places(call: Call, field: str, entity: Entity) -> bool:
    """Whether a cursor cannot distinguish objects with the same times."""
    return entity.name in call.account.cursors_without_id and field in (entity.created_field, entity.time_field)


def _cursor_place(call: Call, row: Row, field: str, entity: Entity) -> Place:
    """The position of a cursor after this row: with the row's id, or only with its times in whole seconds."""
    if not _shares_places(call, field, entity):
        return _place(row, field, entity)
    other = entity.created_field if field == entity.time_field else entity.time_field
    times = [_place(row, one, entity) for one in (field, other)]
    return tuple(
        (missing, value.replace(microsecond=0) if isinstance(value, datetime) else value) for missing, value, _ in times
    )


def _cursor_text(call: Call, row: Row, field: str, entity: Entity) -> str:
    visible, attributes = row
    if _shares_places(call, field, entity):
        created, updated = (attributes[one] for one in (entity.created_field, entity.time_field))
        return f"next::created::{created}::updated::{updated}"
    return f"next::id::{visible.id}" if field == "id" else f"next::{field}::{attributes.get(field)}::id::{visible.id}"


def _comes_jumbled(criteria: list[Criterion]) -> bool:
    requested = {criterion.field: criterion.values[0] for criterion in criteria}
    return bool(requested.get("archived")) and requested.get("messages.channel") == "email"


def jumbled(page: Sequence[Item], id_of: Callable[[Item], str]) -> list[Item]:
    """The page with some neighbors swapped, always the same ones, as the API lists archived email campaigns."""
    page = list(page)
    index = 0
    while index < len(page) - 1:
        if hashlib.blake2b(id_of(page[index]).encode(), digest_size=1).digest()[0] % 3 == 0:
            page[index], page[index + 1] = page[index + 1], page[index]
            index += 1
        index += 1
    return page
