"""The answers of revision 2026-07-15 about the messages and tags of campaigns."""

from __future__ import annotations

from typing import Any

from klaviyo_pipeline.sandbox.api_errors import not_found
from klaviyo_pipeline.sandbox.documents import Resource, object_resource, older_message, tag_resource
from klaviyo_pipeline.sandbox.entity_kinds import CAMPAIGNS
from klaviyo_pipeline.sandbox.older_campaigns import OlderCampaign, older_campaign, older_campaigns
from klaviyo_pipeline.sandbox.request_context import Call


def get_message(call: Call) -> dict[str, Any]:
    """A message by id. Raises `ApiError` 404 if this revision shows no such message."""
    for campaign in older_campaigns(call.account, call.now):
        for message in campaign.messages:
            if message.id == call.id:
                document: dict[str, Any] = {"data": older_message(call, campaign, message)}
                return _with_campaign(call, {**document, "links": {"self": call.self_link()}}, campaign)
    raise not_found(f"A campaign-message with id {call.id} does not exist.")


def list_messages(call: Call) -> dict[str, Any]:
    """The messages of a campaign."""
    campaign = _campaign(call)
    data = [older_message(call, campaign, message) for message in campaign.messages]
    return _with_campaign(call, _collection(call, data), campaign)


def list_message_ids(call: Call) -> dict[str, Any]:
    return _collection(call, [{"type": "campaign-message", "id": message.id} for message in _campaign(call).messages])


def list_tags(call: Call) -> dict[str, Any]:
    return _collection(call, [tag_resource(call, tag) for tag in _campaign(call).tags])


def list_tag_ids(call: Call) -> dict[str, Any]:
    return _collection(call, [{"type": "tag", "id": tag} for tag in _campaign(call).tags])


def _campaign(call: Call) -> OlderCampaign:
    campaign = older_campaign(call.account, call.id, call.now)
    if campaign is None:
        raise not_found(f"A campaign with id {call.id} does not exist.")
    return campaign


def _collection(call: Call, data: list[Resource]) -> dict[str, Any]:
    return {"data": data, "links": {"self": call.self_link(), "next": None, "prev": None}}


def _with_campaign(call: Call, document: dict[str, Any], campaign: OlderCampaign) -> dict[str, Any]:
    if not call.query.includes:
        return document
    visible = (
        [object_resource(call, CAMPAIGNS, campaign, campaign.attributes)] if "campaign" in call.query.includes else []
    )
    return {**document, "included": visible}
