"""The actions of a flow, made of its messages: what sends them, and the delays between.

Every message has an action that sends it. Two variations in a row, of channels that the real API tests against each
other, share an A/B test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from klaviyo_pipeline.sandbox.sandbox_account import Message

Definition = dict[str, Any]
TESTED = ("email", "sms")


def actions_of(messages: Sequence[Message], status: str | None, sender: str) -> dict[str, Definition | None]:
    """The definitions of the actions by id, in the order of the flow; None for one that the API does not show."""
    steps: list[tuple[str, Definition, bool]] = []
    for group in _groups(messages):
        first = group[0]
        if steps:
            wait = {"unit": "days", "value": 1, "secondary_value": 0}
            steps.append((_id("delay", first), {"type": "time-delay", "data": wait}, True))
        sends = [_send(message, status, sender) for message in group]
        definition = sends[0] if len(sends) == 1 else _test(sends, first, status)
        steps.append((definition["id"], definition, first.visible))
    ids = [*(id for id, _, _ in steps), None]
    return {
        id: {**definition, "id": id, "links": {"next": ids[place + 1]}} if visible else None
        for place, (id, definition, visible) in enumerate(steps)
    }


def _groups(messages: Sequence[Message]) -> list[list[Message]]:
    groups: list[list[Message]] = []
    for message in messages:
        if groups and _compete(groups[-1][-1], message):
            groups[-1].append(message)
        else:
            groups.append([message])
    return groups


def _compete(one: Message, other: Message) -> bool:
    return all(message.variation and message.channel in TESTED for message in (one, other))


def _send(message: Message, status: str | None, sender: str) -> Definition:
    kind, content = _CONTENTS[message.channel](message, sender)
    content = {"id": message.id, "name": message.name, **content}
    return {"id": _id("send", message), "type": kind, "data": {"message": content, "status": _status(status)}}


def _test(sends: list[Definition], first: Message, status: str | None) -> Definition:
    experiment = {"id": f"x{first.id}", "name": first.name, "variations": sends, "allocations": {}}
    data = {"status": _status(status), "experiment_status": "live", "main_action": sends[0]}
    return {"id": _id("test", first), "type": "ab-test", "data": {**data, "current_experiment": experiment}}


def _status(status: str | None) -> str:
    return status if status in ("draft", "manual", "live") else "draft"


def _email(message: Message, sender: str) -> tuple[str, Definition]:
    visible = {"subject_line": message.name, "preview_text": f"{message.name} …", "from_email": "hello@sandbox.example"}
    return "send-email", {**visible, "from_label": sender, "template_id": f"T{message.id}", "transactional": False}


def _sms(message: Message, sender: str) -> tuple[str, Definition]:
    return "send-sms", {"body": f"{sender}: {message.name}", "shorten_links": True}


def _push(message: Message, sender: str) -> tuple[str, Definition]:
    return "send-mobile-push", {"title": sender, "body": message.name, "push_type": "standard"}


_CONTENTS = {"email": _email, "sms": _sms, "mobile_push": _push}


def _id(role: str, message: Message) -> str:
    number = int.from_bytes(hashlib.blake2b(f"{role}:{message.id}".encode(), digest_size=4).digest(), "big")
    return str(10_000_000 + number % 90_000_000)
