"""The four entities as data: where each is listed, by which time it is filtered, and what its columns are.

What differs between flows, campaigns, forms and segments stands here and nowhere else. Filters, operators,
sorts and page sizes are those of Klaviyo's OpenAPI description (revision 2026-07-15). No request names
`fields[…]`: answers carry attributes that the description does not list, and all are kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.channels import CHANNELS, first_channel
from klaviyo_pipeline.klaviyo.children import CAMPAIGN_MESSAGES, FLOW_ACTIONS, ChildKind, Included, with_children
from klaviyo_pipeline.klaviyo.filters import Condition, all_of
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.records import ID, RAW, STAMP, Column, Record, Shape, read_record

# Klaviyo's `greater-than` sometimes returns rows at its bound, and bounds are cut to whole seconds: ask for a
# little more on both sides and let the caller cut.
OVERLAP = timedelta(seconds=2)

# A bound within about 5 s of now, or later, is refused with a 400; a minute allows for clocks that disagree.
NOW_MARGIN = timedelta(seconds=60)

# A long chain of pages, each hanging on the one before, is cut into chains to be read side by side, each of which costs
# up to two pages more. A row may come up to a day later than its place: each chain begins a day before its cut, so that
# one that the chain before has ended without is still in its listing. An endpoint without an upper bound is cut before
# it is read. Where most of the rows lie is only seen as they come: chains that turn out to be long are cut again.
SHORTEST_CUT = timedelta(days=45)
MOST_FIRST_CHAINS = 4
MOST_CUTS = 8
CUT_OVERLAP = timedelta(days=1)


BETWEEN = ("greater-or-equal", "less-than")


def _no_stamp(document: Mapping[str, object]) -> str | None:
    return None


@dataclass(frozen=True)
class Variant:
    """One of the listings that an entity needs, since no single request returns all of its objects.

    `conditions` are fixed; `stamp` is what they say of every row, where the row itself does not. One whose rows are
    known to come out of order is not cut while it is read.
    """

    name: str
    conditions: tuple[Condition, ...] = ()
    stamp: str | None = None
    is_ordered: bool = True


@dataclass(frozen=True)
class Chain:
    """A listing to be read from first page to last: the first page's query, and the stamp of its rows.

    `start` and `end` are the bounds that were asked for. Where a listing is cut into several, each is there for the
    times in [since, until) alone, `since` a day before the cut, and need not be read on once it has come to `until` in
    order.
    """

    entity: str
    variant: str
    params: tuple[tuple[str, str], ...]
    stamp: str | None
    start: datetime | None = None
    end: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None

    def covers(self, moment: datetime | None) -> bool:
        """Whether it is this chain that an object of that time is read from; one without a time always is."""
        if moment is None:
            return True
        return (self.since is None or self.since <= moment) and (self.until is None or moment < self.until)

    def shares(self, moment: datetime | None) -> bool:
        """Whether a neighbour covers that time too."""
        if moment is None or self.since is None:
            return False
        after_its_cut = self.since != self.start and moment < self.since + CUT_OVERLAP
        return after_its_cut or (self.until is not None and moment >= self.until - CUT_OVERLAP)


@dataclass(frozen=True)
class Listing:
    """An entity of Klaviyo's.

    `time_field` is what windows are cut by and listings are sorted by; None for what can only be listed in full, by
    id. `time_operators` are those of the lower and the upper bound (None: the endpoint has no upper one).
    `include` names the relationships whose objects every request brings along, of which `children` are read: the
    listings' and the lookup's alike, since the ids of a relationship are told only where it is included, and one
    object fetched every way is one state. `lookup_stamp` reads from a lookup's document the stamp that a listing
    knows from its own condition. `page` is where a user of Klaviyo sees the objects; None where there is no such page.
    """

    entity: str
    path: str
    page_size: int
    time_field: str | None
    variants: tuple[Variant, ...]
    shape: Shape
    list_endpoint: Endpoint
    get_endpoint: Endpoint
    page: str | None
    time_operators: tuple[str, str | None] = BETWEEN
    include: tuple[str, ...] = ()
    children: tuple[ChildKind, ...] = ()
    lookup_extras: tuple[str, ...] = ()
    lookup_stamp: Callable[[Mapping[str, object]], str | None] = _no_stamp

    @property
    def resource_type(self) -> str:
        """The JSON:API type of its resources."""
        return self.shape.resource_type

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its records, in the order of the table."""
        return self.shape.columns

    def chains(self, start: datetime | None, end: datetime | None, now: datetime) -> list[Chain]:
        """The chains that together show every object whose time lies in [start, end).

        Without bounds they show every object. Bounds are aware datetimes. The answer holds more: an overlap
        at both ends, everything up to now where the endpoint takes no upper bound or `end` is too close to
        now, and rows of any time if `start` is. The caller cuts. Raises `ValueError` unless start < end, and for
        bounds of what has no time.
        """
        if start is not None and end is not None and start >= end:
            raise ValueError(f"an empty window: {start} to {end}")
        cuts = [start, *self._cuts(start, now if end is None else min(end, now)), None]
        return [
            self._chain(variant, (start, end), now, since, until)
            for variant in self.variants
            for since, until in _overlapping(cuts)
        ]

    def _cuts(self, start: datetime | None, end: datetime) -> list[datetime]:
        """Where a long listing without an upper bound is cut: into spans of the same length."""
        if start is None or self.time_operators[1] is not None:
            return []
        count = max(1, min(MOST_FIRST_CHAINS, (end - start) // SHORTEST_CUT))
        return [start + (end - start) * place // count for place in range(1, count)]

    def rest(self, chain: Chain, at: datetime, now: datetime) -> Chain:
        """What is left of a chain of `chains` when it is cut short at this time."""
        return self._chain(self._variant(chain), (chain.start, chain.end), now, at - CUT_OVERLAP, chain.until)

    def is_ordered(self, chain: Chain) -> bool:
        """Whether nothing is known against the order of the chain's rows."""
        return self._variant(chain).is_ordered

    def _variant(self, chain: Chain) -> Variant:
        [variant] = (one for one in self.variants if one.name == chain.variant)
        return variant

    @property
    def sort(self) -> str:
        """The order in which it is listed."""
        return self.time_field or "id"

    @property
    def include_params(self) -> tuple[tuple[str, str], ...]:
        """What every request for its objects asks for besides."""
        return (("include", ",".join(self.include)),) if self.include else ()

    def record(
        self, resource: object, stamp: str | None, included: Included | None = None, *, clean: bool = False
    ) -> Record:
        """`resource` as a record of this entity, with what `included` holds of its children: see `read_record`."""
        record = read_record(resource, self.shape, stamp, clean=clean)
        assert isinstance(resource, Mapping)
        return with_children(record, resource, self.children, included or {}, clean=clean)

    def _bounds(self, start: datetime | None, end: datetime | None, now: datetime) -> tuple[Condition, ...]:
        if start is None and end is None:
            return ()
        if self.time_field is None:
            raise ValueError(f"{self.entity} have no windows")
        lower, upper = self.time_operators
        latest = now - NOW_MARGIN
        bounds = []
        if start is not None:
            bounds.append(Condition(lower, self.time_field, min(start - OVERLAP, latest)))
        if end is not None and upper is not None and end + OVERLAP <= latest:
            bounds.append(Condition(upper, self.time_field, end + OVERLAP))
        return tuple(bounds)

    def _chain(
        self,
        variant: Variant,
        asked: tuple[datetime | None, datetime | None],
        now: datetime,
        since: datetime | None,
        until: datetime | None,
    ) -> Chain:
        wanted = all_of(variant.conditions + self._bounds(since, asked[1], now))
        params = [] if wanted is None else [("filter", wanted)]
        params += [("sort", self.sort), ("page[size]", str(self.page_size)), *self.include_params]
        return Chain(self.entity, variant.name, tuple(params), variant.stamp, *asked, since, until)


def _overlapping(cuts: Sequence[datetime | None]) -> Iterator[tuple[datetime | None, datetime | None]]:
    """The spans between cuts, each but the first from a day before its cut."""
    for place, (since, until) in enumerate(pairwise(cuts)):
        yield since - CUT_OVERLAP if place and since is not None else since, until


def _archived(value: bool) -> Condition:
    return Condition("equals", "archived", value)


def _campaign_variants() -> tuple[Variant, ...]:
    return tuple(
        Variant(
            f"{channel}, {'archived' if archived else 'current'}",
            (Condition("equals", "messages.channel", channel), _archived(archived)),
            stamp=channel,
            is_ordered=not archived,
        )
        for channel in CHANNELS
        for archived in (False, True)
    )


FLOWS = Listing(
    entity="flows",
    path="/api/flows",
    page_size=50,
    time_field="updated",
    variants=(Variant("current", (_archived(False),)), Variant("archived", (_archived(True),))),
    shape=Shape(
        "flow",
        (
            Column("id", ID, "text"),
            Column("name", "name", "text"),
            Column("status", "status", "text"),
            Column("archived", "archived", "bool"),
            Column("trigger_type", "trigger_type", "text"),
            Column("created_at", "created", "time"),
            Column("updated_at", "updated", "time"),
            Column("raw", RAW, "json"),
        ),
        relationships=("flow-actions",),
    ),
    list_endpoint=rates.GET_FLOWS,
    get_endpoint=rates.GET_FLOW,
    page="https://www.klaviyo.com/flows",
    include=("flow-actions",),
    children=(FLOW_ACTIONS,),
)

CAMPAIGNS = Listing(
    entity="campaigns",
    path="/api/campaigns",
    page_size=100,
    time_field="updated_at",
    variants=_campaign_variants(),
    shape=Shape(
        "campaign",
        (
            Column("id", ID, "text"),
            Column("name", "name", "text"),
            Column("status", "status", "text"),
            Column("archived", "archived", "bool"),
            Column("channel", STAMP, "text"),
            Column("scheduled_at", "scheduled_at", "time"),
            Column("send_time", "send_time", "time"),
            Column("created_at", "created_at", "time"),
            Column("updated_at", "updated_at", "time"),
            Column("raw", RAW, "json"),
        ),
        relationships=("campaign-messages",),
    ),
    list_endpoint=rates.GET_CAMPAIGNS,
    get_endpoint=rates.GET_CAMPAIGN,
    page="https://www.klaviyo.com/campaigns",
    include=("campaign-messages",),
    children=(CAMPAIGN_MESSAGES,),
    lookup_stamp=first_channel,
)

FORMS = Listing(
    entity="forms",
    path="/api/forms",
    page_size=100,
    time_field="updated_at",
    variants=(Variant("all"),),
    shape=Shape(
        "form",
        (
            Column("id", ID, "text"),
            Column("name", "name", "text"),
            Column("status", "status", "text"),
            Column("ab_test", "ab_test", "bool"),
            Column("created_at", "created_at", "time"),
            Column("updated_at", "updated_at", "time"),
            Column("raw", RAW, "json"),
        ),
        # They come unasked: no include brings them.
        relationships=("form-versions",),
    ),
    list_endpoint=rates.GET_FORMS,
    get_endpoint=rates.GET_FORM,
    page="https://www.klaviyo.com/forms",
    lookup_extras=("definition",),
)

SEGMENTS = Listing(
    entity="segments",
    path="/api/segments",
    page_size=10,
    time_field="updated",
    time_operators=("greater-than", None),
    variants=(Variant("all"),),
    shape=Shape(
        "segment",
        (
            Column("id", ID, "text"),
            Column("name", "name", "text"),
            Column("is_active", "is_active", "bool"),
            Column("is_processing", "is_processing", "bool"),
            Column("is_starred", "is_starred", "bool"),
            Column("definition", "definition", "json"),
            Column("created_at", "created", "time"),
            Column("updated_at", "updated", "time"),
            Column("raw", RAW, "json"),
        ),
    ),
    list_endpoint=rates.GET_SEGMENTS,
    get_endpoint=rates.GET_SEGMENT,
    page="https://www.klaviyo.com/lists",
)
