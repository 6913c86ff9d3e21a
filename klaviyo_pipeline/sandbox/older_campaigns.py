"""Campaigns as revision 2026-07-15 shows them: one object with a status, a send time, and the channels that list it.

The view is derived from the tree. It is not known how the older revision shows a campaign that it cannot express, so
the account has an option for it (`older_revision_lists`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from klaviyo_pipeline.sandbox.campaign_tree import (
    CAMPAIGN_BLANK,
    OLDER_ATTRIBUTES,
    CampaignTrees,
    Node,
    send_moments,
    status_of,
)
from klaviyo_pipeline.sandbox.campaign_writes import DETAIL_CHANNELS, message_status
from klaviyo_pipeline.sandbox.sandbox_objects import SandboxObject

if TYPE_CHECKING:
    from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount

OLDER_CHANNELS = {"email": "email", "sms": "sms", "push": "mobile_push"}
"""The older revision's name of a variation's channel. It has no name for WhatsApp."""

_NOON = "2024-01-01T12:00:00.000000+00:00"


@dataclass(frozen=True)
class OlderMessage:
    """A message as revision 2026-07-15 shows it."""

    id: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class OlderCampaign:
    """A campaign as revision 2026-07-15 shows it, with the channels whose listings contain it."""

    object: SandboxObject
    channels: list[str]
    attributes: dict[str, Any]
    messages: list[OlderMessage]

    @property
    def id(self) -> str:
        return self.object.id

    @property
    def tags(self) -> list[str]:
        return self.object.tags


def older_campaign(account: SandboxAccount, id: str, now: datetime) -> OlderCampaign | None:
    """The campaign by id; None if it does not exist, or is hidden from the older revision."""
    trees = CampaignTrees(account, now)
    campaign = trees.find("campaigns", id)
    return _view(account, trees, campaign) if campaign is not None else None


def older_campaigns(account: SandboxAccount, now: datetime) -> list[OlderCampaign]:
    """All campaigns that the older revision does not hide."""
    trees = CampaignTrees(account, now)
    views = (_view(account, trees, campaign) for campaign in trees.all("campaigns"))
    return [view for view in views if view is not None]


def _view(account: SandboxAccount, trees: CampaignTrees, campaign: Node) -> OlderCampaign | None:
    messages = trees.linked(campaign, "campaign-messages")
    variations = trees.variations(campaign)
    words = trees.channels(campaign) or [DETAIL_CHANNELS.get(word, word) for word in campaign.object.channels]
    channels = [OLDER_CHANNELS[word] for word in words if word in OLDER_CHANNELS]
    audiences = trees.linked(campaign, "campaign-audiences")
    if not _fits(words, audiences, messages):
        if account.older_revision_lists == "none":
            return None
        if account.older_revision_lists == "first":
            channels, variations = channels[:1], variations[:1]
    visible = [_message(message, one) for message, one in variations if _has_word(one)]
    return OlderCampaign(campaign.object, channels, _attributes(campaign, audiences, messages), visible)


def _has_word(variation: Node) -> bool:
    return variation.details.get("channel", "email") in OLDER_CHANNELS


def _fits(words: list[str], audiences: list[Node], messages: list[Node]) -> bool:
    """Whether the older revision can express the campaign: one channel, one audience, one send time."""
    moments = {moment for message in messages for moment, _ in send_moments(message)}
    return OLDER_CHANNELS.keys() >= set(words) and len(words) <= 1 and len(audiences) <= 1 and len(moments) <= 1


def _attributes(campaign: Node, audiences: list[Node], messages: list[Node]) -> dict[str, Any]:
    stored = campaign.attributes
    new_names = {"description", "color", "builder", "send_settings"}
    undocumented = {
        name: value for name, value in stored.items() if name not in {*CAMPAIGN_BLANK, *OLDER_ATTRIBUTES, *new_names}
    }
    lists = {
        side: [id for audience in audiences for id in audience.definition.get(side) or []]
        for side in ("included", "excluded")
    }
    moments = sorted(found for message in messages for found in send_moments(message))
    options = next((message.options for message in messages), {})
    smart = options.get("throttling_type") not in ("none", "throttle-for-flows")
    return {
        "name": stored.get("name") or "",
        "status": _status(stored.get("status"), messages),
        "archived": bool(stored.get("archived")),
        "audiences": lists,
        "send_options": stored.get("send_options", {"use_smart_sending": smart}),
        "tracking_options": stored.get("tracking_options"),
        "send_strategy": stored.get("send_strategy", {"method": "immediate"}),
        "created_at": stored.get("created_at") or _NOON,
        "scheduled_at": stored.get("scheduled_at"),
        "updated_at": stored.get("updated_at") or _NOON,
        "send_time": moments[0][1] if moments else None,
        **undocumented,
    }


def _status(word: str | None, messages: list[Node]) -> str:
    """The stored status, which can be more precise, if the messages agree with it; else the messages' status."""
    derived = status_of(messages)
    agreed = {message_status(derived)} if derived else {message.definition.get("status") for message in messages}
    return word if word is not None and message_status(word) in agreed else derived or "Unknown"


def _message(message: Node, variation: Node) -> OlderMessage:
    siblings = message.object.children.get("campaign-variations", [])
    first = siblings[:1] == [variation.id]
    id = variation.object.older_message or (message.id if first else variation.id)
    label = (variation if len(siblings) > 1 else message).definition.get("name")
    sent = (message.options.get("send_times") or {}).get(variation.id) or message.options.get("send_time")
    define = _DEFINITIONS.get(variation.details.get("channel", ""))
    attributes = {
        "definition": define(label, variation.details) if define else None,
        "send_times": [{"datetime": sent, "is_local": False}] if sent else [],
        "created_at": message.attributes.get("created"),
        "updated_at": message.attributes.get("updated"),
    }
    return OlderMessage(id, attributes)


def _email(label: str | None, details: Mapping[str, Any]) -> dict[str, Any]:
    names = ("subject", "preview_text", "from_email", "from_label", "reply_to_email")
    content = {name: details.get(name) or None for name in names}
    return {"channel": "email", "label": label or "", "content": {**content, "subject": details.get("subject")}}


def _sms(label: str | None, details: Mapping[str, Any]) -> dict[str, Any]:
    return {"channel": "sms", "content": {"body": details.get("body"), "media_url": None}}


def _push(label: str | None, details: Mapping[str, Any]) -> dict[str, Any]:
    content = {"title": details.get("title"), "body": details.get("body")}
    return {"channel": "mobile_push", "notification_type": "standard", "content": content}


_DEFINITIONS: dict[str, Callable[[str | None, Mapping[str, Any]], dict[str, Any]]] = {
    "email": _email,
    "sms": _sms,
    "push": _push,
}
