"""Campaigns of revision 2026-10-15: a campaign has audiences and messages, and a message has variations.

Some attributes of a campaign in older revisions are now attributes of its children: variations have the channel, and
messages have the status and the send time. This module derives the columns of the campaign from them. Any attribute can
be missing or null in Klaviyo's answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from klaviyo_pipeline.klaviyo.channels import channel_named, first_channel, sorted_channels
from klaviyo_pipeline.klaviyo.children import ChildKind, Found, Included, child_ids, related, related_ids
from klaviyo_pipeline.klaviyo.records import (
    DERIVED,
    ID,
    RAW,
    REQUEST_VALUE,
    REVISION,
    Column,
    Record,
    Resource,
    Shape,
    attribute,
    children_of,
)
from klaviyo_pipeline.klaviyo.times import parse_time

REVISION_NAME = "2026-10-15"

SENDING, SCHEDULED, SENT, DRAFT, CANCELLED = "Sending", "Scheduled", "Sent", "Draft", "Cancelled"
CAMPAIGN_STATUSES = (SENDING, SCHEDULED, SENT, DRAFT, CANCELLED)

SHORTEST_TIME = len("2026-10-15T00:00")
"""The length of the shortest text that counts as a time. A shorter text that can be parsed is a day or a number."""

CONTENT = ("channel", "subject", "preview_text", "from_email", "from_label")
"""Columns of a message that are copied from its variation; NULL unless the message has exactly one variation."""


def campaign_status(statuses: Iterable[object]) -> str:
    """The status of a campaign, derived from the statuses of its messages and named as in older revisions.

    An unknown status counts only if no message has a known status. Messages without a status do not count. If no
    message has a status, the campaign is a draft.
    """
    found = [status.lower() for status in statuses if isinstance(status, str) and status]
    if "sending" in found or {"sent", "scheduled"} <= set(found):
        return SENDING
    for status in (SCHEDULED, SENT, DRAFT, CANCELLED):
        if status.lower() in found:
            return status
    return found[0].capitalize() if found else DRAFT


def message_send_time(send_options: object) -> datetime | None:
    """The earliest send time of a message or one of its variations; None if there is none."""
    if not isinstance(send_options, Mapping):
        return None
    moments = [*_moments(send_options.get("send_time")), *_moments(send_options.get("send_times"))]
    return min(moments, default=None)


def _moments(value: object) -> Iterator[datetime]:
    """Every time in a value, however deep. Klaviyo does not document the structure of `send_times`."""
    if isinstance(value, str) and len(value.strip()) >= SHORTEST_TIME:
        try:
            moment = parse_time(value)
        except ValueError:
            return
        if moment is not None:
            yield moment
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _moments(one)
    elif isinstance(value, list):
        for one in value:
            yield from _moments(one)


def _derive_campaign(campaign: Record) -> None:
    messages = children_of(campaign, "campaign_messages")
    known = campaign.children.get("campaign_messages")
    is_complete = known is not None and len(known.ids) == len(messages)
    variations = [one for message in messages for one in children_of(message, "campaign_variations")]
    channels = sorted_channels(variation.values["channel"] for variation in variations)
    moments = [message.values["send_time"] for message in messages]
    campaign.values.update(
        {
            "status": campaign_status(message.values["status"] for message in messages) if is_complete else None,
            "channels": channels,
            "channel": first_channel(channels),
            "send_time": min((moment for moment in moments if isinstance(moment, datetime)), default=None),
            "scheduled_at": None,
        }
    )


def _derive_message(message: Record) -> None:
    message.values["send_time"] = message_send_time(attribute(message, "definition.send_options"))
    message.values["label"] = message.values["name"]
    variations = children_of(message, "campaign_variations")
    only = variations[0].values if len(variations) == 1 else {}
    message.values.update({name: only.get(name) for name in CONTENT})


def derive_variation(variation: Record) -> None:
    """Fills the column `channel`, with the name that `campaigns.channels` has for it."""
    variation.values["channel"] = channel_named(attribute(variation, "definition.details.channel"))


CAMPAIGN, AUDIENCE, MESSAGE, VARIATION = "campaign", "campaign-audience", "campaign-message", "campaign-variation"
_FIND_AUDIENCES = related("campaign-audiences", AUDIENCE, back=CAMPAIGN)
_FIND_MESSAGES = related("campaign-messages", MESSAGE, back=CAMPAIGN)


def message_ids(campaign: Resource, included: Included) -> list[str]:
    """The ids of the campaign's messages; an empty list if the answer does not contain them."""
    return child_ids(campaign, "campaign-messages", MESSAGE, CAMPAIGN, included) or []


def _messages(campaign: Resource, included: Included) -> Found | None:
    """The campaign's messages, each with the id of its audience if the answer includes that audience."""
    found, listed = _FIND_MESSAGES(campaign, included), _FIND_AUDIENCES(campaign, included)
    if found is None:
        return None
    audiences = {str(audience["id"]): audience for audience, _ in listed.resources} if listed else {}
    by_message = {
        message: id
        for id, audience in audiences.items()
        for message in related_ids(audience, "campaign-messages") or ()
    }
    has_links = by_message or any(related_ids(message, AUDIENCE) is not None for message, _ in found.resources)
    # If the answer does not connect messages with audiences and includes only one audience, all messages have it.
    only = next(iter(audiences)) if len(audiences) == 1 and not has_links else None

    def audience_of(message: Resource) -> str | None:
        own = related_ids(message, AUDIENCE)
        if own is not None:
            return own[0] if own and own[0] in audiences else None
        return by_message.get(str(message["id"]), only)

    return Found(found.ids, tuple((message, audience_of(message)) for message, _ in found.resources))


VARIATION_SHAPE = Shape(
    "campaign-variation",
    (
        Column("id", ID, "text"),
        Column("name", "definition.name", "text"),
        Column("channel", DERIVED, "text"),
        Column("subject", "definition.details.subject", "text"),
        Column("preview_text", "definition.details.preview_text", "text"),
        Column("from_email", "definition.details.from_email", "text"),
        Column("from_label", "definition.details.from_label", "text"),
        Column("body", "definition.details.body", "text"),
        Column("template_id", "definition.details.template_id", "text"),
        Column("created_at", "created", "time"),
        Column("updated_at", "updated", "time"),
        Column("revision", REVISION, "text"),
        Column("raw", RAW, "json"),
    ),
    complete=False,
    revision=REVISION_NAME,
    derive=derive_variation,
)

AUDIENCE_SHAPE = Shape(
    "campaign-audience",
    (
        Column("id", ID, "text"),
        Column("name", "definition.name", "text"),
        Column("included", "definition.included", "texts"),
        Column("excluded", "definition.excluded", "texts"),
        Column("priority", "definition.priority", "int"),
        Column("created_at", "created", "time"),
        Column("updated_at", "updated", "time"),
        Column("revision", REVISION, "text"),
        Column("raw", RAW, "json"),
    ),
    complete=False,
    revision=REVISION_NAME,
)

CAMPAIGN_VARIATIONS = ChildKind(
    table="campaign_variations",
    parent_column="message_id",
    inherited=("campaign_id",),
    find=related("campaign-variations", VARIATION, back=MESSAGE),
    shape=VARIATION_SHAPE,
    has_stand_ins=True,
)

CAMPAIGN_AUDIENCES = ChildKind(
    table="campaign_audiences",
    parent_column="campaign_id",
    find=_FIND_AUDIENCES,
    shape=AUDIENCE_SHAPE,
    has_stand_ins=True,
)

CAMPAIGN_MESSAGES = ChildKind(
    table="campaign_messages",
    parent_column="campaign_id",
    find=_messages,
    shape=Shape(
        "campaign-message",
        (
            Column("id", ID, "text"),
            Column("audience_id", REQUEST_VALUE, "text"),
            Column("name", "definition.name", "text"),
            Column("status", "definition.status", "text"),
            Column("send_time", DERIVED, "time"),
            Column("send_strategy", "definition.send_options.send_strategy", "text"),
            Column("ab_test", "definition.ab_test", "json"),
            Column("channel", DERIVED, "text"),
            Column("label", DERIVED, "text"),
            Column("subject", DERIVED, "text"),
            Column("preview_text", DERIVED, "text"),
            Column("from_email", DERIVED, "text"),
            Column("from_label", DERIVED, "text"),
            Column("send_times", "definition.send_options.send_times", "json"),
            Column("created_at", "created", "time"),
            Column("updated_at", "updated", "time"),
            Column("revision", REVISION, "text"),
            Column("raw", RAW, "json"),
        ),
        complete=False,
        revision=REVISION_NAME,
        derive=_derive_message,
    ),
    children=(CAMPAIGN_VARIATIONS,),
)

CAMPAIGN_SHAPE = Shape(
    "campaign",
    (
        Column("id", ID, "text"),
        Column("name", "definition.name", "text"),
        Column("status", DERIVED, "text"),
        Column("archived", "definition.archived", "bool"),
        Column("channel", DERIVED, "text"),
        Column("channels", DERIVED, "texts"),
        Column("builder", "definition.builder", "text"),
        Column("description", "definition.description", "text"),
        Column("color", "definition.color", "text"),
        Column("send_settings", "definition.send_settings", "json"),
        Column("scheduled_at", DERIVED, "time"),
        Column("send_time", DERIVED, "time"),
        Column("created_at", "created_at", "time"),
        Column("updated_at", "updated_at", "time"),
        Column("revision", REVISION, "text"),
        Column("raw", RAW, "json"),
    ),
    relationships=("campaign-audiences", "campaign-messages"),
    complete=False,
    revision=REVISION_NAME,
    derive=_derive_campaign,
)
