"""The endpoints of a form's versions. A version exists and changes together with its form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from klaviyo_pipeline.sandbox.api_errors import not_found
from klaviyo_pipeline.sandbox.documents import Resource, object_resource, resource
from klaviyo_pipeline.sandbox.entity_kinds import FORMS, TIME_ORDER, FilterField
from klaviyo_pipeline.sandbox.filter_matching import passes, read_filter
from klaviyo_pipeline.sandbox.pagination import collection_links, cut_page
from klaviyo_pipeline.sandbox.request_context import Call
from klaviyo_pipeline.sandbox.sandbox_account import SandboxObject

CURSOR = "page[cursor]"
FORM_TYPES = ("popup", "embed", "full_page", "flyout", "banner")
FIELDS = ("ab_test", "created_at", "form_type", "id", "status", "updated_at", "variation_name")
FILTERS = {
    "form_type": FilterField("string", ("equals",), ("any", "equals"), values=FORM_TYPES),
    "status": FilterField("string", ("equals",), values=("live", "draft")),
    "updated_at": FilterField("datetime", TIME_ORDER),
    "created_at": FilterField("datetime", TIME_ORDER),
}


def of_form(call: Call) -> dict[str, Any]:
    """One page of the versions of a form."""
    page, cursor = _page(call)
    data = [_version(call, id, attributes, None) for id, attributes in page]
    return {"data": data, "links": collection_links(call, CURSOR, cursor)}


def ids(call: Call) -> dict[str, Any]:
    """One page of the ids of a form's versions."""
    page, cursor = _page(call)
    data = [{"type": "form-version", "id": id} for id, _ in page]
    return {"data": data, "links": collection_links(call, CURSOR, cursor)}


def by_id(call: Call) -> dict[str, Any]:
    """One version by id. It contains the id of its form only if the request includes the form."""
    for form in call.account.objects["forms"].values():
        attributes = form.at(call.now)
        if call.id in form.versions and attributes is not None:
            found = version_attributes(form, attributes, call.id)
            asked = "form" in call.query.includes
            document: dict[str, Any] = {
                "data": _version(call, call.id, found, form.id if asked else None),
                "links": {"self": call.self_link()},
            }
            return {**document, "included": [object_resource(call, FORMS, form, attributes)]} if asked else document
    raise not_found(f"A form version with id {call.id} does not exist.")


def version_attributes(form: SandboxObject, attributes: Mapping[str, Any], id: str) -> dict[str, Any]:
    """The attributes of a version of a form that has these attributes."""
    name = f"Variation {form.versions.index(id) + 1}"
    return {
        "form_type": FORM_TYPES[len(form.id) % 2],
        "variation_name": name,
        "ab_test": {"variation_name": name} if attributes["ab_test"] else None,
        "status": attributes["status"],
        "created_at": attributes["created_at"],
        "updated_at": attributes["updated_at"],
    }


def _page(call: Call) -> tuple[list[tuple[str, dict[str, Any]]], str | None]:
    form = call.account.objects["forms"].get(call.id)
    attributes = form.at(call.now) if form else None
    if form is None or attributes is None:
        raise not_found(f"A form with id {call.id} does not exist.")
    criteria = read_filter(call.query.filter, FILTERS, call.now) if call.query.filter is not None else []
    rows = [(id, version_attributes(form, attributes, id)) for id in sorted(form.versions)]
    rows = [row for row in rows if all(passes(one, row[0], row[1][one.field], True) for one in criteria)]
    field, descending = call.query.sort or ("created_at", False)
    return cut_page(
        call,
        CURSOR,
        rows,
        lambda row: (row[1][field], row[0]),
        size=call.page_size,
        descending=descending,
        text=lambda row: f"next::{field}::{row[1][field]}::id::{row[0]}",
    )


def _version(call: Call, id: str, attributes: Mapping[str, Any], form: str | None) -> Resource:
    related = {"form": None if form is None else ("form", form)}
    return resource(call, "form-version", "form-versions", id, attributes, related)
