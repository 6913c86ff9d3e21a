"""Changes of campaigns and of their parts.

A campaign can be written as one object with the attributes of the older revision. It then gets the equivalent tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from klaviyo_pipeline.sandbox.campaign_tree import CAMPAIGN_BLANK, OWNERS
from klaviyo_pipeline.sandbox.sandbox_objects import Message, SandboxObject, State
from klaviyo_pipeline.sandbox.timestamps import read_time, write_time

if TYPE_CHECKING:
    from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount

MESSAGE_STATUSES = {
    "Draft": "draft",
    "Scheduled": "scheduled",
    "Preparing to schedule": "scheduled",
    "Sent": "sent",
    "Sending": "sending",
    "Sending Segments": "sending",
    "Adding Recipients": "sending",
    "Preparing to send": "sending",
    "Variations Sent": "sending",
    "Queued without Recipients": "sending",
}
"""The status of a message, by the status of its campaign. Any status that begins with "Cancelled" means cancelled."""

DETAIL_CHANNELS = {"email": "email", "sms": "sms", "mobile_push": "push", "push": "push", "whatsapp": "whatsapp"}
"""The name of a channel in variations, by this name and by its name in the older revision."""

_PARENTS = {"campaign": "campaigns", "audience": "campaign-audiences", "message": "campaign-messages"}
_STRATEGIES: dict[str | None, str] = {"throttled": "throttled", "smart_send_time": "send_time_optimization"}
_NOON = "2024-01-01T12:00:00.000000+00:00"
_SEND_OPTIONS: dict[str, Any] = {
    "send_time": None,
    "send_times": None,
    "send_strategy": "static",
    "recipient_percentage": None,
    "throttle_unit": None,
    "throttling_type": "throttle-for-campaigns",
    "is_ignoring_unsubscribes": False,
}
MESSAGE_BLANK: dict[str, Any] = {
    "name": None,
    "status": "draft",
    "send_options": _SEND_OPTIONS,
    "tracking_options": {"is_add_utm": True, "is_tracking_clicks": True, "is_tracking_opens": True},
    "ab_test": None,
}
_AUDIENCE: dict[str, Any] = {"name": None, "included": [], "excluded": [], "priority": 1}
AB_TEST = {"winner_metric": "opens_unique", "winner_percentage": 50, "winner_wait_hours": 4}


def details_of(channel: str, text: str, sender: str) -> dict[str, Any]:
    """The details of a variation in this channel with this text."""
    word = DETAIL_CHANNELS.get(channel, channel)
    details: dict[str, Any] = {"channel": word}
    if word == "email":
        unset = dict.fromkeys(("preview_text", "reply_to_email", "cc_email", "bcc_email"), "")
        address = {"from_email": "hello@sandbox.example", "from_label": sender}
        return {**details, "subject": text, **unset, **address, "template_id": None}
    if word == "sms":
        body = {"body": f"{sender}: {text}", "text_message_type": "SMS", "shorten_links": True, "add_org_prefix": False}
        return {**details, **body, "template_id": None, "cost": 0.0105}
    if word == "push":
        return {**details, "title": sender, "body": text, "push_type": "standard", "badge": False, "kv_pairs": None}
    if word == "whatsapp":
        return {**details, "template_id": "wa_template_1", "shorten_links": False}
    return {**details, "body": text}


def message_status(status: str | None) -> str | None:
    """The status of a campaign's messages, by its own status; an unknown status is used unchanged."""
    if status is None:
        return None
    return "cancelled" if status.startswith("Cancelled") else MESSAGE_STATUSES.get(status, status)


def put_campaign(account: SandboxAccount, id: str, given: Mapping[str, Any]) -> SandboxObject:
    """Create or change a campaign; `given` may have the older revision's attributes, `channels` and `messages`."""
    written = {name: _text(value) for name, value in given.items()}
    campaigns = account.objects["campaigns"]
    is_new = id not in campaigns
    campaign = campaigns.setdefault(id, SandboxObject(id, [State(None, dict(CAMPAIGN_BLANK))], channels=["email"]))
    campaign.tags = list(written.pop("tags", campaign.tags))
    rebuild = is_new or not {"channels", "messages"}.isdisjoint(written)
    messages = written.pop("messages", None)
    campaign.channels = list(written.pop("channels", _channels_of(messages) or campaign.channels))
    audiences = written.pop("audiences", None)
    sends = {name: written.pop(name) for name in ("send_time",) if name in written}
    sends |= {"status": message_status(written["status"])} if "status" in written else {}
    present = campaign.at(account.clock()) or campaign.states[0].attributes
    campaign.states = [State(None, _present({**present, **written}))]
    parts = _Parts(account, campaign)
    if is_new or audiences is not None:
        parts.put_audience(audiences or {})
    if rebuild:
        parts.put_messages(messages)
    parts.change_messages(sends)
    return campaign


def put_part(account: SandboxAccount, kind: str, id: str, given: Mapping[str, Any]) -> SandboxObject:
    """Create or change an audience, a message or a variation. A new one requires its owner: `campaign` or `message`."""
    given = {name: _text(value) for name, value in given.items()}
    parents = {_PARENTS[name]: value for name, value in given.items() if name in _PARENTS}
    values = {name: value for name, value in given.items() if name not in _PARENTS}
    times: dict[str, Any] = {name: values.pop(name) for name in ("created", "updated") if name in values}
    older_message = values.pop("older_message", None)
    found = account.objects[kind].get(id)
    if found is None:
        owner = OWNERS[kind]
        if parents.get(owner) not in account.objects[owner]:
            raise KeyError(f"a new object in {kind} needs an existing one in {owner}: {id}")
        found = SandboxObject(id, [State(None, {"created": times.get("updated", _NOON), "updated": _NOON})])
        account.objects[kind][id] = found
        values = {**values, "definition": values.get("definition", _blank(account, kind, values))}
    _link(account, kind, found, parents)
    found.older_message = older_message or found.older_message
    present = found.at(account.clock()) or found.states[0].attributes
    definition = _changed(kind, dict(values.pop("definition", present.get("definition") or {})), values)
    found.states = [State(None, _present({**present, **times, "definition": _present(definition)}))]
    if times.get("updated") is not None:
        move_owners(account, kind, found, times["updated"])
    return found


def move_owners(account: SandboxAccount, kind: str, part: SandboxObject, moment: str) -> None:
    """Move the update times of a part's owners forward to `moment`, if the account's options require it."""
    owner_kind = OWNERS[kind]
    owner = account.objects[owner_kind].get(part.parents[owner_kind])
    if owner is None:
        return
    if owner_kind != "campaigns":
        if account.variations_move_messages:
            _set_time(owner, "updated", moment)
        move_owners(account, owner_kind, owner, moment)
    elif account.parts_move_campaigns:
        _set_time(owner, "updated_at", moment)


def _set_time(moved: SandboxObject, name: str, moment: str) -> None:
    """Set a time, unless it would move back."""
    before, after = read_time(moved.attributes.get(name)), read_time(moment)
    if before is None or after is None or after > before:
        moved.states[-1].attributes = {**moved.attributes, name: moment}


def _channels_of(messages: Sequence[Message] | None) -> list[str]:
    return list(dict.fromkeys(message.channel for message in messages or []))


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return write_time(value, microseconds=True)
    if isinstance(value, Mapping):
        return {name: _text(inner) for name, inner in value.items()}
    return value


def _present(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes without those whose value is `...`: the API does not return these."""
    return {name: value for name, value in attributes.items() if value is not ...}


def _blank(account: SandboxAccount, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "campaign-audiences":
        return dict(_AUDIENCE)
    if kind == "campaign-messages":
        return dict(MESSAGE_BLANK)
    details = details_of(values.get("channel") or "email", values.get("name") or "", account.name)
    return {"name": None, "details": details}


def _changed(kind: str, definition: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The definition with these values, including those inside a message's send options and a variation's details."""
    inner = {"campaign-messages": "send_options", "campaign-variations": "details"}.get(kind)
    outer = {
        "campaign-audiences": _AUDIENCE.keys(),
        "campaign-messages": {name: None for name in values if name not in _SEND_OPTIONS}.keys(),
        "campaign-variations": {"name", "details"},
    }[kind]
    direct = {name: value for name, value in values.items() if name in outer}
    if "channel" in values:
        values = {**values, "channel": DETAIL_CHANNELS.get(values["channel"], values["channel"])}
    nested = {name: value for name, value in values.items() if name not in outer}
    changed = {**definition, **direct}
    if inner is not None and nested:
        changed[inner] = {**(changed.get(inner) or {}), **nested}
    return changed


def _link(account: SandboxAccount, kind: str, part: SandboxObject, parents: Mapping[str, str | None]) -> None:
    for parent_kind, id in parents.items():
        before = part.parents.pop(parent_kind, None)
        if parent_kind == OWNERS[kind] and before in account.objects[parent_kind]:
            account.objects[parent_kind][before].children[kind].remove(part.id)
        if id is None:
            continue
        part.parents[parent_kind] = id
        if parent_kind == OWNERS[kind]:
            account.objects[parent_kind][id].children.setdefault(kind, []).append(part.id)


class _Parts:
    """The parts of a campaign that is written with the attributes of the older revision."""

    def __init__(self, account: SandboxAccount, campaign: SandboxObject) -> None:
        self._account = account
        self._campaign = campaign
        self._audience = f"{campaign.id}-audience"

    def put_audience(self, lists: Mapping[str, Any]) -> None:
        audiences = self._campaign.children.get("campaign-audiences") or [self._audience]
        chosen = {name: lists.get(name) or [] for name in ("included", "excluded")}
        self._put("campaign-audiences", audiences[0], {"campaigns": self._campaign.id}, {**_AUDIENCE, **chosen})

    def put_messages(self, messages: Sequence[Message] | None) -> None:
        """Write messages as the older revision has them. Variations of the same test become one message."""
        campaign = self._campaign
        if messages is None:
            known = campaign.messages or [Message(f"{campaign.id}-message", campaign.channels[0], self._name())]
            messages = known
        campaign.messages = list(messages)
        groups = _tests(_in_channels(campaign.messages, campaign.channels))
        sends = self._sends()
        kept = [group[0].id for group in groups]
        self._forget("campaign-messages", campaign, kept)
        for group in groups:
            self._put_message(group, sends)
        self._cover_channels(groups)

    def change_messages(self, values: Mapping[str, Any]) -> None:
        """Set the status and the send time of every message."""
        if not values:
            return
        for id in self._campaign.children.get("campaign-messages", []):
            message = self._account.objects["campaign-messages"].get(id)
            if message is not None:
                definition = _changed("campaign-messages", dict(message.attributes["definition"]), dict(values))
                self._put("campaign-messages", id, {}, definition)

    def _put_message(self, group: list[Message], sends: Mapping[str, Any]) -> None:
        first = group[0]
        known = self._account.objects["campaign-messages"].get(first.id)
        definition = {**MESSAGE_BLANK, **sends, **(known.attributes["definition"] if known else {})}
        strategy = "content_variation" if len(group) > 1 else self._strategy()
        definition["name"] = first.name
        definition["ab_test"] = AB_TEST if len(group) > 1 else None
        definition["send_options"] = {**_SEND_OPTIONS, **(definition["send_options"] or {}), "send_strategy": strategy}
        parents = {"campaigns": self._campaign.id}
        if self._audience in self._account.objects["campaign-audiences"]:
            parents["campaign-audiences"] = self._audience
        message = self._put("campaign-messages", first.id, parents, definition)
        self._forget("campaign-variations", message, [f"{one.id}-variation" for one in group])
        for one in group:
            self._put_variation(message, one, f"{one.id}-variation")

    def _put_variation(self, message: SandboxObject, written: Message, id: str) -> None:
        details = details_of(written.channel, written.name, self._account.name) if written.visible else None
        definition = {"name": written.name, "details": details}
        variation = self._put("campaign-variations", id, {"campaign-messages": message.id}, definition)
        variation.older_message = written.id

    def _cover_channels(self, groups: list[list[Message]]) -> None:
        """For each channel that no message has, add a variation to the first message."""
        if not groups:
            return
        first = groups[0][0]
        missing = [word for word in self._campaign.channels if word not in {m.channel for g in groups for m in g}]
        message = self._account.objects["campaign-messages"][first.id]
        for word in missing:
            added = replace(first, id=f"{first.id}-{word}", channel=word)
            self._put_variation(message, added, f"{added.id}-variation")

    def _sends(self) -> dict[str, Any]:
        """Status and send options of a new message: copied from the campaign's first message, if it has one."""
        for id in self._campaign.children.get("campaign-messages", []):
            definition = self._account.objects["campaign-messages"][id].attributes["definition"]
            return {name: definition.get(name) for name in ("status", "send_options")}
        return {"status": message_status(self._campaign.attributes.get("status", "Draft"))}

    def _strategy(self) -> str:
        method = (self._campaign.attributes.get("send_strategy") or {}).get("method")
        return _STRATEGIES.get(method, "static")

    def _name(self) -> str:
        return self._campaign.attributes.get("name") or ""

    def _put(self, kind: str, id: str, parents: dict[str, str], definition: dict[str, Any]) -> SandboxObject:
        """Write a part. If it changes, its `updated` becomes that of the campaign."""
        times = self._campaign.attributes
        objects = self._account.objects[kind]
        created, updated = times.get("created_at") or _NOON, times.get("updated_at") or _NOON
        blank = {"created": created, "updated": updated, "definition": definition}
        found = objects.setdefault(id, SandboxObject(id, [State(None, blank)]))
        if found.parents.items() & parents.items() != parents.items():
            _link(self._account, kind, found, parents)
        if found.attributes["definition"] != definition:
            found.states = [State(None, {**found.attributes, "updated": updated, "definition": definition})]
        return found

    def _forget(self, kind: str, owner: SandboxObject, kept: Sequence[str]) -> None:
        for id in [id for id in owner.children.get(kind, []) if id not in kept]:
            owner.children[kind].remove(id)
            gone = self._account.objects[kind].pop(id, None)
            if gone is not None and kind == "campaign-messages":
                self._forget("campaign-variations", gone, [])


def _in_channels(messages: Sequence[Message], channels: Sequence[str]) -> list[Message]:
    """The messages. A message whose channel is not in `channels` gets one of them: an unused one, else the first."""
    missing = [word for word in channels if word not in {message.channel for message in messages}]
    return [
        message
        if message.channel in channels
        else replace(message, channel=(missing.pop(0) if missing else channels[0]))
        for message in messages
    ]


def _tests(messages: Sequence[Message]) -> list[list[Message]]:
    groups: list[list[Message]] = []
    for message in messages:
        tested = bool(groups) and message.variation and groups[-1][-1].variation
        if tested and groups[-1][-1].channel == message.channel:
            groups[-1].append(message)
        else:
            groups.append([message])
    return groups
