"""The content of an account: objects with all their states, and the messages with which tests create them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Message:
    """A message of a flow or a campaign. `channel` is email, sms or mobile_push, as in a listing.

    If it is not `visible`, the API omits the definition of the campaign's message, or of the flow's action.
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
    """An object of an entity, or a part of a campaign, with all its states, oldest first.

    `parents` and `children` are ids by kind: a campaign has audiences and messages, a message has variations.
    The older revision shows a variation as a message, whose id is `older_message`.
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
