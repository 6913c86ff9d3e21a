"""Adds unusual data, as found in real accounts, to a generated account."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from klaviyo_pipeline.sandbox.campaign_tree import PARTS
from klaviyo_pipeline.sandbox.entity_kinds import ENTITIES, Entity
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount, SandboxObject
from klaviyo_pipeline.sandbox.shop import EDGE_CASE_NAMES
from klaviyo_pipeline.sandbox.timestamps import read_time, write_time

Attributes = dict[str, Any]
Change = Callable[[Attributes, Entity, SandboxAccount], Attributes]

# An update time that is later than every clock that reads it.
FUTURE = "2031-05-17T08:00:00+00:00"


def add_edge_cases(account: SandboxAccount) -> None:
    """Change some objects of `account`, always the same ones. A small account gets fewer edge cases."""
    for entity, changes in _CHANGES.items():
        for visible, change in zip(account.objects[entity].values(), changes, strict=False):
            _change(account, entity, visible, change)
    for entity, border in (("flows", 50), ("segments", 10)):
        _equal_times_at(account, ENTITIES[entity], border)
    flows = list(account.objects["flows"])
    if len(flows) > len(_CHANGES["flows"]):
        account.delete("flows", flows[-1])


def _change(account: SandboxAccount, entity: str, visible: SandboxObject, change: Change) -> None:
    declared = ENTITIES[entity]
    for state in visible.states:
        before, state.attributes = state.attributes, change(state.attributes, declared, account)
        moved = read_time(state.attributes[declared.time_field])
        if moved is not None and moved < (read_time(before[declared.time_field]) or moved):
            if entity == "campaigns":
                _move_parts(account, visible, state.since, moved)
            state.since = moved
            state.attributes[declared.created_field] = visible.states[0].attributes[declared.time_field]


def _move_parts(account: SandboxAccount, campaign: SandboxObject, since: datetime | None, moved: datetime) -> None:
    """In all parts of the campaign, move the start of a state from `since` to `moved`, as in the campaign itself."""
    for kind in PARTS:
        for part in account.objects[kind].values():
            owner = account.objects["campaign-messages"].get(part.parents.get("campaign-messages", ""), part)
            if owner.parents.get("campaigns") == campaign.id:
                for state in part.states:
                    state.since = moved if state.since == since else state.since


def _null(name: str) -> Change:
    return lambda attributes, entity, account: {**attributes, name: None}


def _named(name: str) -> Change:
    return lambda attributes, entity, account: {**attributes, "name": name}


def _without_times(attributes: Attributes, entity: Entity, account: SandboxAccount) -> Attributes:
    return {**attributes, entity.created_field: None, entity.time_field: None}


def _undocumented(attributes: Attributes, entity: Entity, account: SandboxAccount) -> Attributes:
    return {**attributes, "smart_optimizer": {"enabled": True, "score": 0.75}, "legacy_id": 4_294_967_296_001}


def _ahead(attributes: Attributes, entity: Entity, account: SandboxAccount) -> Attributes:
    return {**attributes, entity.time_field: FUTURE}


def _retimed(retime: Callable[[datetime, SandboxAccount], datetime]) -> Change:
    """A change that replaces `updated` with the result of `retime`."""

    def change(attributes: Attributes, entity: Entity, account: SandboxAccount) -> Attributes:
        moment = read_time(attributes[entity.time_field])
        assert moment is not None
        moved = write_time(retime(moment, account), microseconds=entity.microseconds)
        return {**attributes, entity.time_field: moved}

    return change


def _utc_midnight(moment: datetime, account: SandboxAccount) -> datetime:
    return datetime.combine(moment.date(), time(), UTC)


def _local_midnight(moment: datetime, account: SandboxAccount) -> datetime:
    zone = ZoneInfo(account.timezone)
    return datetime.combine(moment.astimezone(zone).date(), time(), zone).astimezone(UTC)


def _other_offset(moment: datetime, account: SandboxAccount) -> datetime:
    return moment.astimezone(timezone(timedelta(hours=5, minutes=30)))


def _spaced(attributes: Attributes, entity: Entity, account: SandboxAccount) -> Attributes:
    """Write times with a space instead of the `T`, as in some fields of the real API."""
    times = {entity.created_field, entity.time_field, "scheduled_at"} & attributes.keys()
    return {**attributes, **{name: _with_space(attributes[name]) for name in times}}


def _with_space(text: str | None) -> str | None:
    return text.replace("T", " ") if text else text


_TIMES: tuple[Change, ...] = (
    _retimed(_local_midnight),
    _retimed(_utc_midnight),
    _retimed(_other_offset),
    _spaced,
    _undocumented,
)
_NAMES: tuple[Change, ...] = tuple(_named(name) for name in EDGE_CASE_NAMES)

_CHANGES: dict[str, tuple[Change, ...]] = {
    "flows": (
        _null("name"),
        _null("status"),
        _null("trigger_type"),
        _null("updated"),
        _without_times,
        _ahead,
        *_TIMES,
        *_NAMES,
    ),
    "campaigns": (*_TIMES, *_NAMES),
    "forms": (*_TIMES, *_NAMES[:3]),
    "segments": (_null("name"), _null("definition"), _null("updated"), *_TIMES, *_NAMES),
    "lists": (_null("name"), _null("updated"), *_TIMES[2:], *_NAMES[:2]),
}


def _equal_times_at(account: SandboxAccount, entity: Entity, border: int) -> None:
    """Give three objects the same `updated`: two before and one after a page border if sorted by `updated`.

    The border applies to a full listing after the end of the timeline. In an account with too few objects, the three
    objects are in the middle of the listing.
    """
    rows = sorted(
        (moment, visible.id)
        for visible in account.objects[entity.name].values()
        if not visible.attributes.get("archived")
        and (moment := read_time(visible.attributes[entity.time_field])) is not None
    )
    first = border - 2 if len(rows) > border else max(0, len(rows) // 2 - 2)
    shared = rows[first : first + 3]
    for _, id in shared:
        last = account.objects[entity.name][id].states[-1]
        last.since = max(last.since or shared[-1][0], shared[-1][0])
        last.attributes = {**last.attributes, entity.time_field: write_time(shared[-1][0])}
