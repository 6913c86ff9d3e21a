"""Campaigns as a tree: campaign, audiences, messages, variations.

The tree is the only place where the campaigns of an account are stored. `campaign_resources` shows it at revision
2026-10-15, and `older_campaigns` derives the view of revision 2026-07-15.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from klaviyo_pipeline.sandbox.sandbox_objects import SandboxObject
from klaviyo_pipeline.sandbox.timestamps import read_time

if TYPE_CHECKING:
    from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount

Attributes = Mapping[str, Any]

PARTS = ("campaign-audiences", "campaign-messages", "campaign-variations")
"""The kinds of parts that a campaign has."""

OWNERS = {
    "campaign-audiences": "campaigns",
    "campaign-messages": "campaigns",
    "campaign-variations": "campaign-messages",
}
"""The kind of each part's owner. A part exists only if its owner exists."""

CAMPAIGN_BLANK: dict[str, Any] = {
    "name": "",
    "archived": False,
    "description": None,
    "color": None,
    "builder": "wizard",
    "send_settings": None,
    "created_at": "2024-01-01T12:00:00.000000+00:00",
    "updated_at": "2024-01-01T12:00:00.000000+00:00",
}
"""The attributes of a new campaign. It may also have `OLDER_ATTRIBUTES`, and undocumented ones."""

OLDER_ATTRIBUTES = ("status", "scheduled_at", "send_options", "send_strategy", "tracking_options")

CHANNELS = ("email", "sms", "push", "whatsapp")


@dataclass(frozen=True)
class Node:
    """An object of a tree as it is at one moment. `kind` is its path: `campaigns`, `campaign-messages`, …"""

    kind: str
    object: SandboxObject
    attributes: Attributes

    @property
    def id(self) -> str:
        return self.object.id

    @property
    def definition(self) -> Attributes:
        return self.attributes.get("definition") or {}

    @property
    def options(self) -> Attributes:
        """The send options of a message."""
        return self.definition.get("send_options") or {}

    @property
    def details(self) -> Attributes:
        """The details of a variation."""
        return self.definition.get("details") or {}


class CampaignTrees:
    """The campaigns of an account and their parts, as they are at `now`."""

    def __init__(self, account: SandboxAccount, now: datetime) -> None:
        self._account = account
        self._now = now

    def find(self, kind: str, id: str | None) -> Node | None:
        """The object with this id; None if it or its owner does not exist."""
        found = self._account.objects[kind].get(id) if id is not None else None
        return self._node(kind, found) if found is not None else None

    def all(self, kind: str) -> list[Node]:
        """All objects of a kind that exist."""
        return [node for one in self._account.objects[kind].values() if (node := self._node(kind, one)) is not None]

    def linked(self, node: Node, kind: str) -> list[Node]:
        """The objects of another kind that are related to `node`, as its parents or its children."""
        ids: Iterable[str | None] = node.object.children.get(kind, ())
        if kind in node.object.parents:
            ids = (node.object.parents[kind],)
        elif (node.kind, kind) == ("campaign-audiences", "campaign-messages"):
            owner = self._account.objects["campaigns"].get(node.object.parents.get("campaigns", ""))
            messages = owner.children.get(kind, []) if owner else []
            parents = self._account.objects[kind]
            ids = [id for id in messages if id in parents and parents[id].parents.get(node.kind) == node.id]
        return [found for id in ids if (found := self.find(kind, id)) is not None]

    def _node(self, kind: str, found: SandboxObject) -> Node | None:
        attributes = found.at(self._now)
        if attributes is None:
            return None
        if kind in OWNERS and self.find(OWNERS[kind], found.parents.get(OWNERS[kind])) is None:
            return None
        return Node(kind, found, attributes)

    def variations(self, campaign: Node) -> list[tuple[Node, Node]]:
        """The variations of a campaign, each with its message."""
        messages = self.linked(campaign, "campaign-messages")
        return [(message, one) for message in messages for one in self.linked(message, "campaign-variations")]

    def channels(self, campaign: Node) -> list[str]:
        """The channels of a campaign, by the names and in the order of `CHANNELS`. Unknown channels come last."""
        found = {one.details["channel"] for _, one in self.variations(campaign) if one.details.get("channel")}
        return sorted(found, key=lambda word: (CHANNELS.index(word) if word in CHANNELS else len(CHANNELS), word))


def send_moments(message: Node) -> list[tuple[datetime, str]]:
    """The send times of a message and its variations, earliest first, each as an instant and as text."""
    texts = [message.options.get("send_time"), *(message.options.get("send_times") or {}).values()]
    return sorted((moment, text) for text in texts if (moment := read_time(text)) is not None)


def status_of(messages: Iterable[Node]) -> str | None:
    """The older revision's status of a campaign with these messages; None if they exist but have no known status."""
    words = {message.definition.get("status") for message in messages}
    if not words:
        return "Draft"
    if "sending" in words or {"sent", "scheduled"} <= words:
        return "Sending"
    order = {"scheduled": "Scheduled", "sent": "Sent", "draft": "Draft", "cancelled": "Cancelled"}
    return next((said for word, said in order.items() if word in words), None)
