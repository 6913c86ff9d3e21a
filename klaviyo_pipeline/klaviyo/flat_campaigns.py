"""Campaigns of revision 2026-07-15: a campaign has one channel, one send time, one audience, and its messages.

These campaigns are stored in the same tables as those of later revisions. This revision has no ids for audiences and
variations. So an audience has the id of its campaign, and a variation, which is the content of a message, has the id of
its message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from klaviyo_pipeline.klaviyo.channels import channel_named, sorted_channels
from klaviyo_pipeline.klaviyo.children import ChildKind, Found, Included, related
from klaviyo_pipeline.klaviyo.nested_campaigns import (
    AUDIENCE_SHAPE,
    CAMPAIGN_AUDIENCES,
    CAMPAIGN_STATUSES,
    CAMPAIGN_VARIATIONS,
    VARIATION_SHAPE,
)
from klaviyo_pipeline.klaviyo.records import (
    ABSENT,
    DERIVED,
    ID,
    RAW,
    REQUEST_VALUE,
    REVISION,
    Column,
    Record,
    Resource,
    Shape,
    children_of,
)


def _derive_campaign(campaign: Record) -> None:
    messages = children_of(campaign, "campaign_messages")
    channels = sorted_channels(message.values["channel"] for message in messages)
    campaign.values["channels"] = channels or sorted_channels([campaign.values["channel"]])
    for message in messages:
        message.values["status"] = _message_status(campaign.values["status"])
        message.values["send_time"] = campaign.values["send_time"]


def _derive_message(message: Record) -> None:
    message.values["channel"] = channel_named(message.values["channel"])


def _message_status(status: object) -> str | None:
    # The status of a cancelled campaign also contains the reason: "Cancelled: …".
    name = status.split(":")[0] if isinstance(status, str) else ""
    return name.lower() if name in CAMPAIGN_STATUSES else None


def _audience(campaign: Resource, included: Included) -> Found | None:
    audiences = _object(campaign.get("attributes")).get("audiences")
    if not isinstance(audiences, Mapping) or not isinstance(campaign.get("id"), str):
        return None
    definition = {"included": audiences.get("included"), "excluded": audiences.get("excluded")}
    return _only(campaign, "campaign-audience", {"definition": definition})


def _variation(message: Resource, included: Included) -> Found | None:
    attributes = _object(message.get("attributes"))
    definition = _object(attributes.get("definition"))
    details = {**_object(definition.get("content")), "channel": definition.get("channel")}
    times = {"created": attributes.get("created_at"), "updated": attributes.get("updated_at")}
    return _only(
        message, "campaign-variation", {"definition": {"name": definition.get("label"), "details": details}, **times}
    )


def _only(parent: Resource, resource_type: str, attributes: Resource) -> Found:
    id = str(parent["id"])
    return Found((id,), (({"id": id, "type": resource_type, "attributes": dict(attributes)}, None),))


def _object(value: object) -> Resource:
    return value if isinstance(value, Mapping) else {}


REVISION_NAME = "2026-07-15"

FLAT_VARIATIONS = replace(
    CAMPAIGN_VARIATIONS, find=_variation, shape=replace(VARIATION_SHAPE, revision=REVISION_NAME), are_stand_ins=True
)

FLAT_AUDIENCES = replace(
    CAMPAIGN_AUDIENCES, find=_audience, shape=replace(AUDIENCE_SHAPE, revision=REVISION_NAME), are_stand_ins=True
)

FLAT_MESSAGES = ChildKind(
    table="campaign_messages",
    parent_column="campaign_id",
    find=related("campaign-messages", "campaign-message"),
    shape=Shape(
        "campaign-message",
        (
            Column("id", ID, "text"),
            Column("audience_id", ABSENT, "text"),
            Column("name", "definition.label", "text"),
            Column("status", DERIVED, "text"),
            Column("send_time", DERIVED, "time"),
            Column("send_strategy", ABSENT, "text"),
            Column("ab_test", ABSENT, "json"),
            Column("channel", "definition.channel", "text"),
            Column("label", "definition.label", "text"),
            Column("subject", "definition.content.subject", "text"),
            Column("preview_text", "definition.content.preview_text", "text"),
            Column("from_email", "definition.content.from_email", "text"),
            Column("from_label", "definition.content.from_label", "text"),
            Column("send_times", "send_times", "json"),
            Column("created_at", "created_at", "time"),
            Column("updated_at", "updated_at", "time"),
            Column("revision", REVISION, "text"),
            Column("raw", RAW, "json"),
        ),
        complete=False,
        derive=_derive_message,
        revision=REVISION_NAME,
    ),
    children=(FLAT_VARIATIONS,),
)

FLAT_CAMPAIGN_SHAPE = Shape(
    "campaign",
    (
        Column("id", ID, "text"),
        Column("name", "name", "text"),
        Column("status", "status", "text"),
        Column("archived", "archived", "bool"),
        Column("channel", REQUEST_VALUE, "text"),
        Column("channels", DERIVED, "texts"),
        Column("builder", ABSENT, "text"),
        Column("description", ABSENT, "text"),
        Column("color", ABSENT, "text"),
        Column("send_settings", ABSENT, "json"),
        Column("scheduled_at", "scheduled_at", "time"),
        Column("send_time", "send_time", "time"),
        Column("created_at", "created_at", "time"),
        Column("updated_at", "updated_at", "time"),
        Column("revision", REVISION, "text"),
        Column("raw", RAW, "json"),
    ),
    relationships=("campaign-messages",),
    derive=_derive_campaign,
    revision=REVISION_NAME,
)
