"""The content of the simulated Klaviyo account, and the methods to change it while a server runs.

This module does not depend on HTTP. All methods can be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

from klaviyo_pipeline.sandbox.daily_counts import KINDS, DailyCounts
from klaviyo_pipeline.sandbox.entity_kinds import ENTITIES, visible_value
from klaviyo_pipeline.sandbox.statistics import COUNTS
from klaviyo_pipeline.sandbox.timestamps import Clock, utcnow

SANDBOX_KEY = "pk_sandbox_4f9d1c0a7e5b42d8"
READ_SCOPES = frozenset(
    f"{what}:read" for what in ("accounts", "campaigns", "flows", "forms", "lists", "metrics", "segments", "tags")
)


@dataclass(frozen=True)
class Message:
    """A message of a flow or a campaign. `channel` has the values of listings: email, sms or mobile_push.

    If `visible` is False, the API omits the definition of the campaign message, or of the flow message's action.
    """

    id: str
    channel: str
    name: str
    variation: str | None = None
    visible: bool = True


@dataclass
class State:
    """The attributes of an object from `since` (UTC) on; None means always."""

    since: datetime | None
    attributes: dict[str, Any]


@dataclass
class SandboxObject:
    """A flow, campaign, form, segment or list, with all of its states, oldest first."""

    id: str
    states: list[State]
    channels: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the last state."""
        return self.states[-1].attributes

    def at(self, now: datetime) -> dict[str, Any] | None:
        """The attributes at `now`; None if the object does not exist yet."""
        visible = None
        for state in self.states:
            if state.since is None or state.since <= now:
                visible = state.attributes
        return visible


@dataclass(frozen=True)
class Metric:
    """A metric. `per_order` is the number of its events for each order, which scales the conversions in reports."""

    id: str
    name: str
    integration: str
    category: str
    created: datetime
    eligible: bool = True
    per_order: int = 1
    carries_value: bool = False


@dataclass(frozen=True)
class MappedMetric:
    """The target of a mapping (`revenue`, `viewed_product`, …): a metric, a custom metric or nothing."""

    updated: datetime
    metric_id: str | None = None
    custom_metric_id: str | None = None


@dataclass
class SandboxAccount:
    """An account in memory. Times have Klaviyo's formats; `timezone` is an IANA name.

    The options select the account's behavior where the real API's behavior varies or is unknown:

    - `gt_includes_bound`: `greater-than` also returns about half of the rows that equal its bound.
    - `cursor_lifetime`: how long a cursor is valid; about three days in the real API.
    - `cursors_without_id`: entities whose cursors contain times in whole seconds and no id, like those of forms. The
      next page omits objects with the same times as the last one, or repeats them with `repeats_ties`.
    - `full_pages_lack_links`: a full page of a listing has no `links`, even if more pages exist.
    - `largest_page`: the maximum number of objects on a page of a listing; None means the requested page size.
    - `report_page_size`: the number of groups on a page of a flow or campaign report.
    - `zero_groups`: reports contain groups whose counts are all zero.
    - `tags_need_their_scope`: a listing that includes tags requires the scope `tags:read`.
    - `refused_statistics`: by kind of report (flow, campaign), the statistics that no conversion metric supports. A
      report that requests one of them is rejected as a whole.
    - `category_is_object`: the category of a metric's integration is an object (`{"id": 1, "category": "eCommerce"}`)
      or text.
    - `report_offset`: `date_times` have the account's offset (`zone`) or always `+00:00` (`utc`).
    - `report_message_ids`: the id of a message in campaign reports: the `message`'s own, or the `campaign`'s.
    - `ids_left_out`: ids that reports replace with null. Their groups are not merged.
    """

    id: str = "SBX001"
    timezone: str = "America/New_York"
    currency: str = "USD"
    name: str = "Sandbox Shop"
    api_keys: dict[str, set[str]] = field(default_factory=lambda: {SANDBOX_KEY: set(READ_SCOPES)}, repr=False)
    objects: dict[str, dict[str, SandboxObject]] = field(
        default_factory=lambda: {entity: {} for entity in ENTITIES}, repr=False
    )
    deleted: dict[str, dict[str, SandboxObject]] = field(
        default_factory=lambda: {entity: {} for entity in ENTITIES}, repr=False
    )
    metrics: dict[str, Metric] = field(default_factory=dict, repr=False)
    mapped_metrics: dict[str, MappedMetric] = field(default_factory=dict, repr=False)
    tags: dict[str, str] = field(default_factory=dict, repr=False)
    figures: DailyCounts = field(default_factory=DailyCounts, repr=False)
    clock: Clock = field(default=utcnow, repr=False)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    gt_includes_bound: bool = True
    cursor_lifetime: timedelta = timedelta(days=3)
    cursors_void_before: datetime | None = None
    cursors_without_id: frozenset[str] = frozenset({"forms"})
    repeats_ties: bool = False
    full_pages_lack_links: bool = False
    largest_page: int | None = None
    report_page_size: int = 5000
    zero_groups: bool = False
    tags_need_their_scope: bool = False
    refused_statistics: dict[str, set[str]] = field(default_factory=dict, repr=False)
    category_is_object: bool = True
    report_offset: Literal["zone", "utc"] = "zone"
    report_message_ids: Literal["message", "campaign"] = "message"
    ids_left_out: set[str] = field(default_factory=set)

    def put(self, entity: str, id: str, **attributes: Any) -> SandboxObject:
        """Create or change an object. Only the given attributes are set; `updated` changes only if it is given.

        A datetime is written in the entity's time format, a string is used unchanged. `channels` (campaigns), `tags`,
        `messages` and `versions` belong to the object, not to its attributes. In a new object, every other documented
        attribute is null or empty. From then on the object has this state at every time of the clock.
        """
        declared = ENTITIES[entity]
        with self.lock:
            visible = self.objects[entity].get(id) or SandboxObject(id, [State(None, declared.blank())])
            for name in ("channels", "messages", "tags", "versions"):
                if name in attributes:
                    setattr(visible, name, list(attributes.pop(name)))
            if entity == "campaigns" and not visible.channels:
                visible.channels = ["email"]
            present = visible.at(self.clock()) or visible.states[0].attributes
            changed = {name: visible_value(value, declared) for name, value in attributes.items()}
            visible.states = [State(None, {**present, **changed})]
            self.objects[entity][id] = visible
            return visible

    def archive(self, entity: str, id: str, archived: bool = True, moves_updated: bool = False) -> None:
        """Archive or unarchive a flow or campaign. In the real API this does not seem to change a campaign's
        `updated_at`."""
        declared = ENTITIES[entity]
        if "archived" not in declared.blank():
            raise ValueError(f"{entity} cannot be archived")
        self._must_exist(entity, id)
        changes: dict[str, Any] = {"archived": archived}
        if moves_updated:
            changes[declared.time_field] = self.clock()
        self.put(entity, id, **changes)

    def delete(self, entity: str, id: str) -> None:
        """Remove the object from listings; a lookup by id returns 404. Its report data stays."""
        with self.lock:
            self._must_exist(entity, id)
            self.deleted[entity][id] = self.objects[entity].pop(id)

    def restore(self, entity: str, id: str) -> None:
        """Restore a deleted object in its last state."""
        with self.lock:
            self.objects[entity][id] = self.deleted[entity].pop(id)

    def set_figures(
        self, report: str, groupings: Mapping[str, str], day: date, statistics: Mapping[str, float]
    ) -> None:
        """Set the counts of one group on one day of the account's zone, for every conversion metric.

        These counts replace all others of the day. `report` is a kind (flow, campaign, form, segment) or a name that
        begins with one (`flow_series`). `statistics` must be counts: rates are always computed from them.
        """
        kind = next((kind for kind in KINDS if report.startswith(kind)), None)
        if kind is None:
            raise ValueError(f"no such report: {report}")
        if wrong := set(statistics) - set(COUNTS[kind]):
            raise ValueError(f"not counts of the {kind} reports: {', '.join(sorted(wrong))}")
        with self.lock:
            self.figures.set_day(kind, groupings, day, statistics)

    def expire_cursors(self) -> None:
        """Make all cursors that were issued so far invalid."""
        self.cursors_void_before = self.clock()

    def _must_exist(self, entity: str, id: str) -> None:
        if id not in self.objects[entity]:
            raise KeyError(f"no such object in {entity}: {id}")
