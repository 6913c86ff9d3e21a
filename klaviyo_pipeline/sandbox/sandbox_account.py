"""The content of the simulated Klaviyo account, and the methods to change it while a server runs.

This module does not depend on HTTP. All methods can be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

from klaviyo_pipeline.sandbox.campaign_tree import PARTS
from klaviyo_pipeline.sandbox.campaign_writes import move_owners, put_campaign, put_part
from klaviyo_pipeline.sandbox.daily_counts import KINDS, DailyCounts
from klaviyo_pipeline.sandbox.entity_kinds import ENTITIES, visible_value
from klaviyo_pipeline.sandbox.older_campaigns import OlderCampaign, older_campaign
from klaviyo_pipeline.sandbox.sandbox_objects import Message, SandboxObject, State
from klaviyo_pipeline.sandbox.statistics import COUNTS
from klaviyo_pipeline.sandbox.timestamps import Clock, utcnow, write_time

__all__ = [
    "READ_SCOPES",
    "SANDBOX_KEY",
    "MappedMetric",
    "Message",
    "Metric",
    "SandboxAccount",
    "SandboxObject",
    "State",
]

SANDBOX_KEY = "pk_sandbox_4f9d1c0a7e5b42d8"
READ_SCOPES = frozenset(
    f"{what}:read"
    for what in ("accounts", "campaigns", "flows", "forms", "lists", "metrics", "segments", "tags", "templates")
)


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
    - `cursors_without_id`: entities whose cursors contain times in whole seconds and no id. In the real API, forms have
      such cursors. The next page omits objects with the same times as the last one; with `repeats_ties`, it repeats
      them.
    - `full_pages_lack_links`: a full page of a listing has no `links`, even if more pages exist.
    - `largest_page`: the maximum number of objects on a page of a listing; None means the requested page size.
    - `report_page_size`: the number of groups on a page of a flow or campaign report.
    - `aggregate_page_size`: the largest number of rows on a page of metric aggregates.
    - `aggregate_dates`: the `dates` of metric aggregates are instants (`utc`), or the wall clock of the query's zone
      with `+00:00` (`wall`).
    - `empty_dimensions`: a row of metric aggregates without any dimension has an empty list, not empty texts.
    - `zero_groups`: reports contain groups whose counts are all zero.
    - `tags_need_their_scope`: a listing that includes tags requires the scope `tags:read`.
    - `refused_statistics`: by kind of report (flow, campaign), the statistics that no conversion metric supports. A
      report that requests one of them is rejected as a whole.
    - `category_is_object`: the category of a metric's integration is an object (`{"id": 1, "category": "eCommerce"}`)
      or text.
    - `report_offset`: `date_times` are wall-clock times with the account's offset (`zone`) or with `+00:00` (`utc`), or
      they are instants in UTC (`instant`).
    - `report_message_ids`: the id of a message in campaign reports: the `message`'s own, or the `campaign`'s.
    - `ids_left_out`: ids that reports replace with null. Their groups are not merged.
    - `older_revision_lists`: how revision 2026-07-15 lists a campaign that it cannot express (several channels,
      audiences or send times, WhatsApp): under `each` of its channels, under the `first` one with its first message, or
      not at all (`none`).
    - `parts_move_campaigns`: a change of an audience, a message or a variation moves the `updated_at` of its campaign.
    - `variations_move_messages`: a change of a variation moves the `updated` of its message.
    - `messages_include_variations`: the listing of messages accepts `include=campaign-variations`. Otherwise it
      rejects this parameter.
    - `unfiltered_campaigns`: which campaigns revision 2026-10-15 lists if no filter names `archived`: those that are
      not archived (`current`), or `all`.
    - `messages_of_archived`: the listing of messages contains the messages of archived campaigns.
    - `relationship_data`: the campaigns of revision 2026-10-15 and their parts name related objects only if these are
      `included`, or `always`.
    - `agent_hints`: responses of revision 2026-10-15 have a top-level `meta`.
    - `retired_revisions`: revisions that are no longer served. A request with one of them is answered by the oldest
      revision that is served. If the request opts out of that, or `falls_forward` is False, the answer is 410 (gone).
    """

    id: str = "SBX001"
    timezone: str = "America/New_York"
    currency: str = "USD"
    name: str = "Sandbox Shop"
    api_keys: dict[str, set[str]] = field(default_factory=lambda: {SANDBOX_KEY: set(READ_SCOPES)}, repr=False)
    objects: dict[str, dict[str, SandboxObject]] = field(
        default_factory=lambda: {entity: {} for entity in (*ENTITIES, *PARTS)}, repr=False
    )
    deleted: dict[str, dict[str, SandboxObject]] = field(
        default_factory=lambda: {entity: {} for entity in (*ENTITIES, *PARTS)}, repr=False
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
    aggregate_page_size: int = 500
    aggregate_dates: Literal["utc", "wall"] = "utc"
    empty_dimensions: bool = True
    zero_groups: bool = False
    tags_need_their_scope: bool = False
    refused_statistics: dict[str, set[str]] = field(default_factory=dict, repr=False)
    category_is_object: bool = True
    report_offset: Literal["zone", "utc", "instant"] = "zone"
    report_message_ids: Literal["message", "campaign"] = "message"
    ids_left_out: set[str] = field(default_factory=set)
    older_revision_lists: Literal["each", "first", "none"] = "each"
    parts_move_campaigns: bool = False
    variations_move_messages: bool = True
    messages_include_variations: bool = True
    unfiltered_campaigns: Literal["current", "all"] = "current"
    messages_of_archived: bool = True
    relationship_data: Literal["included", "always"] = "included"
    agent_hints: bool = True
    retired_revisions: set[str] = field(default_factory=set)
    falls_forward: bool = True

    def put(self, entity: str, id: str, **attributes: Any) -> SandboxObject:
        """Create or change an object. Only the given attributes are set; `updated` changes only if it is given.

        A datetime is written in the entity's time format, a string is used unchanged. `channels` (campaigns), `tags`,
        `messages` and `versions` belong to the object, not to its attributes. In a new object, every documented
        attribute that is not given has a default. After the call, the object has the new state at every time of the
        clock.

        `campaigns` takes the attributes of revision 2026-07-15, and those of 2026-10-15 outside of a `definition`. A
        new campaign gets the equivalent tree: an audience, and a message with a variation in each of its `channels`
        (email unless given), or the given `messages`; `messages=[]` creates none. The parts can also be put separately:
        `put("campaign-audiences", id, campaign=…, included=[…])`, `put("campaign-messages", id, campaign=…, audience=…,
        status=…, send_time=…, ab_test=…)`, `put("campaign-variations", id, message=…, channel="whatsapp", subject=…,
        older_message=…)`; `definition` replaces the whole definition. The `updated` of a part moves that of its owners
        if the options require it. The value `...` removes an attribute.
        """
        if entity == "campaigns":
            with self.lock:
                return put_campaign(self, id, attributes)
        if entity in PARTS:
            with self.lock:
                return put_part(self, entity, id, attributes)
        declared = ENTITIES[entity]
        with self.lock:
            visible = self.objects[entity].get(id) or SandboxObject(id, [State(None, declared.blank())])
            for name in ("messages", "tags", "versions"):
                if name in attributes:
                    setattr(visible, name, list(attributes.pop(name)))
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

    def delete(self, entity: str, id: str, at: datetime | None = None) -> None:
        """Remove the object from listings; a lookup by id returns 404. The parts of a campaign and the variations of a
        message are removed too. Report data of the object stays.

        If the options require it, deleting a part moves the update times of its owners to `at` (default: the clock's
        time).
        """
        with self.lock:
            self._must_exist(entity, id)
            self.deleted[entity][id] = gone = self.objects[entity].pop(id)
            if entity in PARTS:
                move_owners(self, entity, gone, write_time(at or self.clock(), microseconds=True))

    def older_campaign(self, id: str) -> OlderCampaign | None:
        """The campaign as revision 2026-07-15 shows it now; None if that revision does not show it."""
        with self.lock:
            return older_campaign(self, id, self.clock())

    def restore(self, entity: str, id: str) -> None:
        """Restore a deleted object in its last state, with its parts."""
        with self.lock:
            self.objects[entity][id] = self.deleted[entity].pop(id)

    def set_figures(
        self, report: str, groupings: Mapping[str, str], day: date, statistics: Mapping[str, float]
    ) -> None:
        """Set the counts of one group on one day of the account's zone, for every conversion metric.

        All counts that the group had on this day are replaced. `report` is a kind (flow, campaign, form,
        segment, order) or a name that begins with one (`flow_series`). Orders are grouped by `$attributed_flow`,
        `$attributed_message` and `$attributed_channel`; they are added to the orders that follow from the conversions
        of flows and campaigns. `statistics` must be counts: rates are always computed from them.
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
