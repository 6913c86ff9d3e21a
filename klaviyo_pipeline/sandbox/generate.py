"""Generates a realistic shop. The same seed always generates the same account.

Objects change their state on a fixed timeline, and the server returns the state at its clock's time. A later clock
therefore shows more of the same account. Some objects are edge cases from real accounts, always the same ones.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from klaviyo_pipeline.sandbox import shop
from klaviyo_pipeline.sandbox.daily_counts import CountGroup
from klaviyo_pipeline.sandbox.edge_cases import add_edge_cases
from klaviyo_pipeline.sandbox.entity_kinds import ENTITIES, REPORT_CHANNELS
from klaviyo_pipeline.sandbox.generate_campaigns import CampaignMaker
from klaviyo_pipeline.sandbox.order_counts import OrganicOrders
from klaviyo_pipeline.sandbox.sandbox_account import Message, SandboxAccount, SandboxObject, State
from klaviyo_pipeline.sandbox.shop import made_id
from klaviyo_pipeline.sandbox.timestamps import write_time
from klaviyo_pipeline.sandbox.traffic import FormTraffic, SegmentTraffic, SendTraffic

UNTIL = date(2026, 12, 31)
_FAR = date(9000, 1, 1)


def generate_account(
    seed: int = 7,
    *,
    flows: int = 40,
    campaigns: int = 260,
    forms: int = 12,
    segments: int = 45,
    lists: int = 12,
    templates: int = 24,
    timezone: str = "America/New_York",
    start: date = date(2024, 1, 1),
    until: date = UNTIL,
) -> SandboxAccount:
    """An account whose objects were created and changed between `start` and `until` (dates in `timezone`).

    Report data continues after `until`, so that there is always data up to today.
    """
    if until <= start:
        raise ValueError("until must be later than start")
    account = SandboxAccount(id=made_id(seed, "account", 0), timezone=timezone)
    account.metrics = shop.metrics()
    account.mapped_metrics = shop.mapped_metrics()
    account.tags = dict(shop.TAGS)
    maker = _Maker(seed, account, start, until)
    maker.make("flows", flows, maker.flow)
    maker.make("campaigns", campaigns, maker.campaign)
    maker.make("forms", forms, maker.form)
    maker.make("segments", segments, maker.segment)
    maker.make("lists", lists, maker.mailing_list)
    maker.make("templates", templates, maker.template)
    add_edge_cases(account)
    organic = OrganicOrders(seed, 40 + flows, start)
    account.figures.add("order", CountGroup(dict.fromkeys(("$attributed_flow", "$attributed_message"), ""), organic))
    return account


@dataclass
class _Maker:
    seed: int
    account: SandboxAccount
    start: date
    until: date

    def make(self, entity: str, count: int, make: Callable[[int, str, random.Random], SandboxObject]) -> None:
        for number in range(count):
            id = made_id(self.seed, entity, number, 26 if entity == "campaigns" else 6)
            luck = random.Random(f"{self.seed}:{entity}:{number}")  # noqa: S311 - test data, not a secret
            self.account.objects[entity][id] = make(number, id, luck)

    def flow(self, number: int, id: str, luck: random.Random) -> SandboxObject:
        name, trigger = shop.FLOW_NAMES[number % len(shop.FLOW_NAMES)]
        times = self._life(luck, 4)
        made = SandboxObject(id, [], messages=_messages(id, luck, luck.randint(1, 4)), tags=_tags(luck))
        base = {"name": _numbered(name, number, len(shop.FLOW_NAMES)), "trigger_type": trigger}
        steps: list[dict[str, Any]] = [{"status": "draft"}, {"status": luck.choice(("manual", "live"))}]
        steps += [{"status": "live"}, {"status": luck.choice(("live", "live", "draft"))}]
        self._grow(made, "flows", base, times, steps)
        if number % 10 == 9:
            self._archive_later(made, "flows", luck)
        silent = number % 7 == 6
        for message in made.messages:
            self._sends("flow", made, message, 0 if silent else luck.lognormvariate(4.5, 0.8), times[1], _FAR)
        return made

    def campaign(self, number: int, id: str, luck: random.Random) -> SandboxObject:
        tags = _tags(luck)
        messages = [(channel, luck.choice(shop.MESSAGE_NAMES)) for channel in _channels(number)]
        created, scheduled, send = self._life(luck, 3)
        name = f"{luck.choice(shop.CAMPAIGN_NAMES)} {created:%b %d %Y}"
        lists = [made_id(self.seed, "lists", index) for index in range(5)]
        maker = CampaignMaker(self.seed, self.account, number, id, luck, (created, scheduled, send), messages, lists)
        made = maker.make(name, tags)
        if number % 6 == 5:
            self._archive_later(made, "campaigns", luck)
        return made

    def form(self, number: int, id: str, luck: random.Random) -> SandboxObject:
        name = _numbered(shop.FORM_NAMES[number % len(shop.FORM_NAMES)], number, len(shop.FORM_NAMES))
        made = SandboxObject(id, [], versions=[str(1_000_000 + 10 * number + index) for index in range(2)])
        times = self._life(luck, 3)
        steps = [{"status": "draft"}, {"status": "live"}, {"status": "draft" if number % 5 == 4 else "live"}]
        self._grow(made, "forms", {"name": name, "ab_test": number % 3 == 0}, times, steps)
        for version in made.versions:
            groupings = {"form_id": id, "form_version_id": version}
            volume = luck.uniform(50, 900)
            traffic = FormTraffic(self.seed, f"{id}/{version}", volume, times[1].date(), _FAR)
            self.account.figures.add("form", CountGroup(groupings, traffic))
        return made

    def segment(self, number: int, id: str, luck: random.Random) -> SandboxObject:
        name = _numbered(shop.SEGMENT_NAMES[number % len(shop.SEGMENT_NAMES)], number, len(shop.SEGMENT_NAMES))
        made = SandboxObject(id, [], tags=_tags(luck))
        condition = {
            "type": "profile-group-membership",
            "is_member": True,
            "group_ids": [made_id(self.seed, "lists", 0)],
        }
        base: dict[str, Any] = {
            "name": name,
            "definition": {"condition_groups": [{"conditions": [condition]}]},
        }
        base |= {"is_active": number % 11 != 10, "is_starred": number % 4 == 0}
        created, changed = self._life(luck, 2)
        # `updated` changes again when the processing ends.
        times = [created, created + timedelta(minutes=7), changed, changed + timedelta(minutes=11)]
        steps: list[dict[str, Any]] = [{"is_processing": step % 2 == 0} for step in range(4)]
        self._grow(made, "segments", base, times, steps)
        traffic = SegmentTraffic(self.seed, id, luck.uniform(3, 60), created.date())
        self.account.figures.add("segment", CountGroup({"segment_id": id}, traffic))
        return made

    def mailing_list(self, number: int, id: str, luck: random.Random) -> SandboxObject:
        name = _numbered(shop.LIST_NAMES[number % len(shop.LIST_NAMES)], number, len(shop.LIST_NAMES))
        made = SandboxObject(id, [], tags=_tags(luck))
        opt_in = {"opt_in_process": ("double_opt_in", "single_opt_in", None)[number % 3]}
        self._grow(made, "lists", opt_in, self._life(luck, 2), [{"name": name}, {"name": f"{name} (all)"}])
        return made

    def template(self, number: int, id: str, luck: random.Random) -> SandboxObject:
        name = _numbered(shop.CAMPAIGN_NAMES[number % len(shop.CAMPAIGN_NAMES)], number, len(shop.CAMPAIGN_NAMES))
        made = SandboxObject(id, [])
        base = {"name": name, "editor_type": ("SYSTEM_DRAGGABLE", "CODE", "SIMPLE", "USER_DRAGGABLE")[number % 4]}
        steps = [{"html": f"<h1>{name}</h1>{version}", "text": name} for version in ("", "<p>New!</p>")]
        self._grow(made, "templates", base, self._life(luck, 2), steps)
        return made

    def _life(self, luck: random.Random, count: int) -> list[datetime]:
        """`count` different instants in ascending order, the first one well before `until`."""
        begin = datetime.combine(self.start, time(), ZoneInfo(self.account.timezone)).astimezone(UTC)
        end = datetime.combine(self.until, time(), ZoneInfo(self.account.timezone)).astimezone(UTC)
        born = begin + (end - begin) * luck.random() * 0.9
        later = sorted(born + (end - born) * luck.random() for _ in range(count - 1))
        return [moment + timedelta(microseconds=index) for index, moment in enumerate([born, *later])]

    def _grow(
        self,
        made: SandboxObject,
        entity: str,
        base: dict[str, Any],
        times: list[datetime],
        steps: list[dict[str, Any]],
    ) -> None:
        declared = ENTITIES[entity]
        attributes = {**declared.blank(), **base, declared.created_field: times[0]}
        for moment, step in zip(times, steps, strict=True):
            attributes = {**attributes, **step, declared.time_field: moment}
            made.states.append(State(moment, _visible(attributes, declared.microseconds)))

    def _archive_later(self, made: SandboxObject, entity: str, luck: random.Random) -> None:
        """Archive the object days or weeks after its last change. About half of these flows get a new `updated`."""
        since = made.states[-1].since
        assert since is not None
        moment = since + timedelta(days=luck.uniform(5, 60))
        attributes = {**made.attributes, "archived": True}
        if luck.random() < 0.5 and entity == "flows":
            attributes[ENTITIES[entity].time_field] = write_time(moment)
        made.states.append(State(moment, attributes))

    def _sends(
        self, kind: str, made: SandboxObject, message: Message, volume: float, since: datetime, last: date
    ) -> None:
        groupings = {
            f"{kind}_id": made.id,
            f"{kind}_message_id": message.id,
            "send_channel": REPORT_CHANNELS[message.channel],
        }
        first = since.astimezone(ZoneInfo(self.account.timezone)).date()
        traffic = SendTraffic(self.seed, f"{made.id}/{message.id}", message.channel, volume, first, last)
        self.account.figures.add(kind, CountGroup(groupings, traffic))


def _visible(attributes: dict[str, Any], microseconds: bool) -> dict[str, Any]:
    return {
        name: write_time(value, microseconds=microseconds) if isinstance(value, datetime) else value
        for name, value in attributes.items()
    }


def _numbered(name: str, number: int, names: int) -> str:
    return name if number < names else f"{name} {number // names + 1}"


def _tags(luck: random.Random) -> list[str]:
    return [tag for tag in shop.TAGS if luck.random() < 0.25]


def _channels(number: int) -> list[str]:
    if number % 30 == 29:
        return ["email", "sms"]
    if number % 14 == 13:
        return ["mobile_push"]
    return ["sms"] if number % 5 == 4 else ["email"]


def _messages(id: str, luck: random.Random, count: int) -> list[Message]:
    return [
        Message(
            id=hashlib.blake2b(f"{id}:{index}".encode(), digest_size=3).hexdigest(),
            channel=luck.choice(("email", "email", "email", "sms", "mobile_push")),
            name=luck.choice(shop.MESSAGE_NAMES),
            variation=f"V{index}" if count == 4 and index > 1 else None,
            # The API sometimes omits the definition of an action.
            visible=not (count == 3 and index == 2),
        )
        for index in range(count)
    ]
