"""Creates the campaigns of the generated shop. Most have one message in one channel; a few are special (see `_is`)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from klaviyo_pipeline.sandbox import shop
from klaviyo_pipeline.sandbox.campaign_tree import CAMPAIGN_BLANK
from klaviyo_pipeline.sandbox.campaign_writes import AB_TEST, MESSAGE_BLANK, details_of
from klaviyo_pipeline.sandbox.daily_counts import CountGroup
from klaviyo_pipeline.sandbox.entity_kinds import REPORT_CHANNELS
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount, SandboxObject, State
from klaviyo_pipeline.sandbox.timestamps import write_time
from klaviyo_pipeline.sandbox.traffic import SendTraffic


@dataclass
class _Message:
    """A message to create: its send time, and its variations by id, each with channel, text and send time."""

    id: str
    name: str
    sends: datetime
    variations: dict[str, tuple[str, str, datetime]] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def strategy(self) -> str:
        return str(self.more.get("send_strategy", "static"))

    @property
    def last(self) -> datetime:
        return max((self.sends, *(sends for _, _, sends in self.variations.values())))


@dataclass
class CampaignMaker:
    """Creates the campaign with this number.

    `times` are the times of its creation, its scheduling and its send. `messages` has the (channel, name) of each
    message. A special campaign (see `_is`) uses only the first one.
    """

    seed: int
    account: SandboxAccount
    number: int
    id: str
    luck: random.Random
    times: tuple[datetime, datetime, datetime]
    messages: list[tuple[str, str]]
    list_ids: list[str]

    def make(self, name: str, tags: list[str]) -> SandboxObject:
        """The campaign with all its parts and counts."""
        created, scheduled, send = self.times
        planned = list(self._messages())
        last = max(message.last for message in planned)
        cancelled = self.number % 23 == 22
        made = SandboxObject(self.id, [], channels=[channel for channel, _ in self.messages], tags=tags)
        base = {**CAMPAIGN_BLANK, "name": name, "created_at": _text(created), "builder": self._builder()}
        strategy = {"method": "static", "datetime": write_time(send.replace(microsecond=0))}
        step = {"scheduled_at": _text(scheduled), "send_strategy": strategy}
        for moment, more in ((created, {}), (scheduled, step), (send, step), (last, step)):
            if not made.states or made.states[-1].since != moment:
                made.states.append(State(moment, {**base, **more, "updated_at": _text(moment)}))
        self.account.objects["campaigns"][self.id] = made
        # In the builder for several channels, a new draft is empty.
        since = scheduled if self._builder() == "canvas" else created
        audiences = self._audiences(made, since, 2 if len(planned) > 1 and self._is("days") else 1)
        for index, message in enumerate(planned):
            audience = audiences[min(index, len(audiences) - 1)]
            self._add_message(made, message, audience, since, cancelled)
            if not cancelled:
                self._add_counts(message)
        return made

    def _builder(self) -> str:
        return "canvas" if any(self._is(kind) for kind in ("several", "whatsapp", "days")) else "wizard"

    def _is(self, kind: str) -> bool:
        every, first = {"several": (12, 7), "whatsapp": (15, 11), "test": (9, 4), "days": (17, 10)}[kind]
        found = self.number % every == first
        return found and (kind == "several" or not self._is("several"))

    def _messages(self) -> Iterator[_Message]:
        send = self.times[2]
        later = send + timedelta(days=2, hours=1)
        channel, name = self.messages[0]
        first = _Message(self._message_id(0), name, send)
        if self._is("several"):
            channels = ("email", "sms", "whatsapp") if self.number % 24 == 7 else ("email", "mobile_push")
            first.variations = {self._variation_id(0, i): (word, name, send) for i, word in enumerate(channels)}
        elif self._is("whatsapp"):
            first.variations = {self._variation_id(0, 0): ("whatsapp", name, send)}
        elif self._is("test"):
            first.more = {"send_strategy": "content_variation", "ab_test": AB_TEST}
            first.variations = {self._variation_id(0, i): (channel, f"{name} {i + 1}", send) for i in range(2)}
        elif self._is("days") and self.number % 2:
            first.more = {"send_strategy": "ab_send_time_test"}
            first.variations = {self._variation_id(0, i): (channel, name, t) for i, t in enumerate((send, later))}
        elif self._is("days"):
            first.variations = {self._variation_id(0, 0): (channel, name, send)}
            reminder = _Message(self._message_id(1), f"{name}, again", later)
            reminder.variations = {self._variation_id(1, 0): (channel, reminder.name, later)}
            yield first
            yield reminder
            return
        else:
            for index, (word, text) in enumerate(self.messages):
                message = _Message(self._message_id(index), text, send)
                message.variations = {self._variation_id(index, 0): (word, text, send)}
                yield message
            return
        yield first

    def _message_id(self, index: int) -> str:
        # Some old messages have the id of their campaign.
        return self.id if index == 0 and self.number % 4 == 0 else shop.made_id(self.seed, self.id, index, 26)

    def _variation_id(self, message: int, index: int) -> str:
        return shop.made_hex(self.seed, f"{self.id}:variation:{message}", index)

    def _audiences(self, made: SandboxObject, since: datetime, count: int) -> list[str]:
        ids = [shop.made_hex(self.seed, f"{self.id}:audience", index) for index in range(count)]
        for index, id in enumerate(ids):
            included = [self.list_ids[(self.number + index) % len(self.list_ids)]]
            name = "Everybody" if count == 1 else f"Part {index + 1}"
            definition = {"name": name, "included": included, "excluded": [], "priority": index + 1}
            self._add("campaign-audiences", id, {"campaigns": made.id}, [(since, definition)])
        return ids

    def _add_message(
        self, made: SandboxObject, message: _Message, audience: str, since: datetime, cancelled: bool
    ) -> None:
        created, scheduled, _ = self.times
        test = message.strategy == "ab_send_time_test"
        sends: dict[str, Any] = {"send_time": None if test else _text(message.sends)}
        if test:
            sends["send_times"] = {id: _text(moment) for id, (_, _, moment) in message.variations.items()}
        draft = {**MESSAGE_BLANK, "name": message.name, "ab_test": message.more.get("ab_test")}
        draft["send_options"] = {**MESSAGE_BLANK["send_options"], "send_strategy": message.strategy}
        planned = {**draft, "status": "scheduled", "send_options": {**draft["send_options"], **sends}}
        steps = [(created, draft)] if since == created else []
        steps.append((scheduled, planned))
        if cancelled:
            steps.append((message.sends, {**planned, "status": "cancelled"}))
        else:
            steps += [(message.sends, {**planned, "status": "sending"})] if message.last > message.sends else []
            steps.append((message.last, {**planned, "status": "sent"}))
        parents = {"campaigns": made.id, "campaign-audiences": audience}
        self._add("campaign-messages", message.id, parents, steps)
        for index, (id, (channel, text, _)) in enumerate(message.variations.items()):
            definition = {"name": text, "details": details_of(channel, text, self.account.name)}
            variation = self._add("campaign-variations", id, {"campaign-messages": message.id}, [(since, definition)])
            variation.older_message = message.id if index == 0 else shop.made_id(self.seed, id, index, 26)

    def _add(
        self, kind: str, id: str, parents: dict[str, str], steps: Sequence[tuple[datetime, Mapping[str, Any]]]
    ) -> SandboxObject:
        created = _text(steps[0][0])
        states = [State(at, {"created": created, "updated": _text(at), "definition": dict(one)}) for at, one in steps]
        part = self.account.objects[kind][id] = SandboxObject(id, states, parents=dict(parents))
        owner_kind, owner = next(iter(parents.items()))
        self.account.objects[owner_kind][owner].children.setdefault(kind, []).append(id)
        return part

    def _add_counts(self, message: _Message) -> None:
        zone = ZoneInfo(self.account.timezone)
        for id, (channel, _, sends) in message.variations.items():
            word = REPORT_CHANNELS[channel]
            groupings = {"campaign_id": self.id, "campaign_message_id": message.id, "send_channel": word}
            key = f"{self.id}/{message.id}"
            if len(message.variations) > 1:
                groupings |= {"variation": id}
                key = f"{key}/{id}"
            volume, day = self.luck.lognormvariate(8, 0.5), sends.astimezone(zone).date()
            traffic = SendTraffic(self.seed, key, channel, volume, day, day)
            self.account.figures.add("campaign", CountGroup(groupings, traffic))


def _text(moment: datetime) -> str:
    return write_time(moment, microseconds=True)
