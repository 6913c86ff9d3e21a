"""The content of an account: objects with all their states, and the messages with which tests create them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Message:
    """A message of a flow or a campaign. `channel` is the listing's word: email, sms or mobile_push.

    A campaign's message, or the action of a flow's, is listed without its definition unless it is `visible`.
    """

    id: str
    channel: str
    name: str
    variation: str | None = None
    visible: bool = True


@dataclass
class State:
    """The state of an object from `since` (UTC) on; None means always."""

    since: datetime | None
    attributes: dict[str, Any]


@dataclass
class SandboxObject:
    """A flow, campaign, form, segment or list, or a part of a campaign, with all its states, oldest first.

    `parents` and `children` are ids by kind: a campaign has audiences and messages, a message has variations.
    `older_message`: revisions without variations show a variation as the message with this id.
    """

    id: str
    states: list[State]
    channels: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    parents: dict[str, str] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)
    older_message: str | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the last state."""
        return self.states[-1].attributes

    def at(self, now: datetime) -> dict[str, Any] | None:
        """The attributes that the API shows at `now`; None if the object does not exist yet."""
        visible = None
        for state in self.states:
            if state.since is None or state.since <= now:
                visible = state.attributes
        return visible
