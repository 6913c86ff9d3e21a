"""Flows, campaigns, forms and segments as data: the path of each listing, the time that filters it, and its columns.

Filters, operators, sort orders and page sizes are those of Klaviyo's OpenAPI description (revision 2026-07-15).
Requests for these entities do not set `fields[…]`: answers contain attributes that the description does not list, and
all of them are stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from urllib.parse import quote

from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.children import FLOW_ACTIONS, ChildKind, Included, with_children
from klaviyo_pipeline.klaviyo.filters import Condition
from klaviyo_pipeline.klaviyo.listing_query import ListingQuery
from klaviyo_pipeline.klaviyo.nested_campaigns import CAMPAIGN_AUDIENCES, CAMPAIGN_MESSAGES, CAMPAIGN_SHAPE
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.records import ID, RAW, Column, Record, Shape, read_record

# Klaviyo's `greater-than` sometimes returns rows at its bound, and bounds are truncated to whole seconds. So a query
# covers a little more time at both ends, and the caller drops the rows outside its window.
OVERLAP = timedelta(seconds=2)

# Klaviyo answers 400 if a bound is in the future or in about the last 5 seconds. A minute allows for clock differences.
NOW_MARGIN = timedelta(seconds=60)

# If an endpoint has no upper bound, the listing of a long window is split into queries that are read concurrently. Each
# query costs about one extra page, because it stops only after rows beyond its end. Klaviyo may list a row too late,
# among rows that are up to a day later, and the query may stop before it. So the next query begins a day before the end
# of this one.
SHORTEST_SPLIT = timedelta(days=45)
MOST_SPLITS = 8
SPLIT_OVERLAP = timedelta(days=1)

SECOND = timedelta(seconds=1)

BETWEEN = ("greater-or-equal", "less-than")


def _no_request_value(document: Mapping[str, object]) -> str | None:
    return None


@dataclass(frozen=True)
class Variant:
    """A group of an entity's objects that is listed by queries of its own. Together, the variants have all objects.

    Every query of the variant has the `conditions`. `stamp` is a value that follows from them: it applies to every row,
    but the rows do not contain it. Klaviyo leaves out the objects that meet a condition in `leaves_out`, unless
    the filter names the field of that condition.
    """

    name: str
    conditions: tuple[Condition, ...] = ()
    stamp: str | None = None
    leaves_out: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Listing:
    """How Klaviyo lists the objects of one type, how it returns one of them by id, and the columns of their records.

    Requests: `include` are the relationships that every request includes. Listings and lookups include the same ones:
    an answer contains the ids of a relationship only if it is included, and both must give equal records. `attributes`
    are the attributes that are requested; empty means all. `sort` is an order in which an object keeps its place when
    it changes: by id if the endpoint supports it, since ids are unique. It is None if the endpoint supports no order.
    `page_size_is_fixed` is true if the endpoint takes no page size.

    Times: `time_field` assigns an object to a window; None if there is no filter by time. `created_field` is the time
    of creation, if listings can be filtered by it. `time_operators` are the operators of the lower and the upper bound;
    the second is None if the endpoint has no upper bound. `messages` is a listing of child objects: a change of one of
    them puts its parent into a window, even if it does not move the parent's own time.

    Records: `children` are the kinds of child objects, which are read from the included relationships. `precedence` has
    the columns whose value depends on the variant that returns the object, each with its values in order of preference:
    several variants can return the same object. `page` is the address of the objects in Klaviyo's web app, if any.

    Lookups: `lookup_extras` are the attributes that only a lookup returns; they are dropped. `lookup_request_value`
    reads from a lookup's document the value that a listing has as the `stamp` of its variant.

    A listing with a `parent` exists once for each object of that parent, whose id replaces `{id}` in the path. Its
    lookups have another path, `lookup_path`. They include `lookup_include`, which contains the parent's id for
    `lookup_request_value`.
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
    created_field: str | None = None
    sort: str | None = "id"
    page_size_is_fixed: bool = False
    attributes: tuple[str, ...] = ()
    parent: "Listing | None" = None
    lookup_path: str | None = None
    lookup_include: tuple[str, ...] = ()
    time_operators: tuple[str, str | None] = BETWEEN
    include: tuple[str, ...] = ()
    children: tuple[ChildKind, ...] = ()
    lookup_extras: tuple[str, ...] = ()
    lookup_request_value: Callable[[Mapping[str, object]], str | None] = _no_request_value
    messages: "Listing | None" = None
    precedence: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def resource_type(self) -> str:
        """The JSON:API type of the listing's resources."""
        return self.shape.resource_type

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the listing's records, in the order of the table."""
        return self.shape.columns

    @property
    def has_windows(self) -> bool:
        """Whether the objects can be listed by window. If not, they can only be listed in full."""
        return self.time_field is not None and self.parent is None

    def of_parent(self, id: str) -> "Listing":
        """The listing of the objects of one parent. Its stamp is the parent's id, which the rows do not contain."""
        variants = tuple(replace(variant, stamp=id) for variant in self.variants)
        return replace(self, path=self.path.replace("{id}", quote(id, safe="")), variants=variants, parent=None)

    def queries(self, start: datetime | None, end: datetime | None, now: datetime) -> list[ListingQuery]:
        """The queries that together return every object whose time is in [start, end); without bounds, every object.

        Bounds are aware datetimes. The answers contain more, which the caller drops: an overlap at both ends;
        everything up to now if the endpoint has no upper bound or `end` is too close to now; and older rows if `start`
        is too close to now. A listing with `messages` has a single query if both bounds are given: its `window` stands
        for all requests of that window. Raises `ValueError` unless start < end, and for bounds of a listing without
        windows.
        """
        if start is not None and end is not None and start >= end:
            raise ValueError(f"the window {start} to {end} is empty")
        if self.messages is not None and start is not None and end is not None:
            return [replace(self.variant_queries(start, end, now)[0], variant="changes", window=(start, end, now))]
        return self.variant_queries(start, end, now)

    def variant_queries(self, start: datetime | None, end: datetime | None, now: datetime) -> list[ListingQuery]:
        """One query for each variant, with bounds on the objects' own time. It ignores `messages`, unlike `queries`."""
        include = self.include_params
        return [
            ListingQuery(
                variant.name,
                variant.stamp,
                variant.conditions + self._bounds(start, end, now),
                self.sort,
                self.page_size,
                include,
                self.page_size_is_fixed,
            )
            for variant in self.variants
        ]

    def split(self, start: datetime, end: datetime, now: datetime) -> list[ListingQuery]:
        """The `queries` of an endpoint without an upper bound, split by time.

        The list is empty if the window is too short, or if the endpoint has an upper bound. An object counts at its
        last update, so recent times contain more objects: later splits are shorter.
        """
        extent = min(end, now) - start
        count = min(MOST_SPLITS, extent // SHORTEST_SPLIT)
        if self.time_field is None or self.time_operators[1] is not None or count < 2:
            return []
        splits = [start + extent * (place / count) ** 0.5 for place in range(1, count)]
        begins = [start, *(split - SPLIT_OVERLAP for split in splits)]
        return [
            replace(
                query.with_bounds(*self._bounds(since, None, now), sort=self.time_field),
                since=since,
                until=until,
            )
            for query in self.queries(start, end, now)
            for since, until in zip(begins, [*splits, None], strict=True)
        ]

    def from_second_of(self, query: ListingQuery, record: Record, now: datetime) -> ListingQuery | None:
        """`query` for objects from the record's time on, in whole seconds; None if the record lacks the time.

        `query` must be sorted by a time: this is the time that is compared.
        """
        if not (query.sort and (moment := self._time(record, query.sort))):
            return None
        return query.with_bounds(self._lower(query.sort, moment, now), sort=query.sort)

    def same_second_as(self, query: ListingQuery, record: Record, now: datetime) -> ListingQuery | None:
        """A query for the objects of `query` with the record's time, in whole seconds, sorted by the other time field.

        `query` must be sorted by a time. Returns None if the record lacks that time, or if the endpoint has no upper
        bound. If the upper bound would be too close to now, the query has none.
        """
        upper, moment = self.time_operators[1], query.sort and self._time(record, query.sort)
        if not (query.sort and moment and upper and self.created_field and self.time_field):
            return None
        bounds, end = [self._lower(query.sort, moment, now)], moment.replace(microsecond=0) + SECOND
        if end <= now - NOW_MARGIN:
            bounds.append(Condition(upper, query.sort, end))
        other = self.created_field if query.sort == self.time_field else self.time_field
        return query.with_bounds(*bounds, sort=other)

    def is_same_second(self, query: ListingQuery, one: Record, other: Record) -> bool:
        """Whether two records have the same time, in whole seconds, in the field that `query` is sorted by."""
        assert query.sort is not None
        times = [self._time(record, query.sort) for record in (one, other)]
        return len({moment and moment.replace(microsecond=0) for moment in times}) == 1

    def _lower(self, field: str, moment: datetime, now: datetime) -> Condition:
        operator = self.time_operators[0]
        second = moment.replace(microsecond=0)
        least = second - SECOND if operator == "greater-than" else second
        return Condition(operator, field, min(least, now - NOW_MARGIN))

    def _time(self, record: Record, field: str) -> datetime | None:
        [name] = (column.name for column in self.columns if column.path == field)
        moment = record.values[name]
        assert moment is None or isinstance(moment, datetime)
        return moment

    @property
    def include_params(self) -> tuple[tuple[str, str], ...]:
        """The parameters that every request for these objects has: the relationships and attributes to return."""
        include = (("include", ",".join(self.include)),) if self.include else ()
        fields = ((f"fields[{self.resource_type}]", ",".join(self.attributes)),) if self.attributes else ()
        return (*include, *fields)

    def record(
        self, resource: object, stamp: str | None, included: Included | None = None, *, clean: bool = False
    ) -> Record:
        """`resource` as a record, with its children from `included`. For `stamp` and `clean`, see `read_record`."""
        record = read_record(resource, self.shape, stamp, clean=clean)
        assert isinstance(resource, Mapping)
        record = with_children(record, resource, self.children, included or {}, clean=clean)
        self.shape.derive(record)
        return record

    def _bounds(self, start: datetime | None, end: datetime | None, now: datetime) -> tuple[Condition, ...]:
        if start is None and end is None:
            return ()
        if self.time_field is None or self.parent is not None:
            raise ValueError(f"{self.entity} cannot be listed by window")
        lower, upper = self.time_operators
        latest = now - NOW_MARGIN
        bounds = []
        if start is not None:
            bounds.append(Condition(lower, self.time_field, min(start - OVERLAP, latest)))
        if end is not None and upper is not None and end + OVERLAP <= latest:
            bounds.append(Condition(upper, self.time_field, end + OVERLAP))
        return tuple(bounds)


_ARCHIVED = (Condition("equals", "archived", True),)

BY_ARCHIVED = (Variant("current", leaves_out=_ARCHIVED), Variant("archived", _ARCHIVED))
"""Two variants: one without archived objects, and one of archived objects only.

The first has no condition, and Klaviyo then leaves out archived objects. A condition `archived` = false would lose the
objects whose `archived` is null.
"""


FLOWS = Listing(
    entity="flows",
    path="/api/flows",
    page_size=50,
    time_field="updated",
    created_field="created",
    variants=BY_ARCHIVED,
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

CAMPAIGN_MESSAGE_TIMES = Listing(
    entity="campaign_messages",
    path="/api/campaign-messages",
    page_size=100,
    time_field="updated",
    created_field="created",
    variants=(Variant("messages"),),
    shape=Shape(
        "campaign-message",
        (
            Column("id", ID, "text"),
            Column("created_at", "created", "time"),
            Column("updated_at", "updated", "time"),
            Column("raw", RAW, "json"),
        ),
        complete=False,
    ),
    list_endpoint=rates.GET_CAMPAIGN_MESSAGES,
    get_endpoint=rates.GET_CAMPAIGN_MESSAGE,
    page=None,
)
"""The messages of all campaigns. They are listed by the time of their last change, to find campaigns that changed."""

CAMPAIGNS = Listing(
    entity="campaigns",
    path="/api/campaigns",
    page_size=100,
    time_field="updated_at",
    created_field="created_at",
    variants=BY_ARCHIVED,
    shape=CAMPAIGN_SHAPE,
    list_endpoint=rates.GET_CAMPAIGNS,
    get_endpoint=rates.GET_CAMPAIGN,
    page="https://www.klaviyo.com/campaigns",
    include=("campaign-audiences", "campaign-messages"),
    children=(CAMPAIGN_AUDIENCES, CAMPAIGN_MESSAGES),
    messages=CAMPAIGN_MESSAGE_TIMES,
)

FORMS = Listing(
    entity="forms",
    path="/api/forms",
    page_size=100,
    time_field="updated_at",
    created_field="created_at",
    sort="created_at",
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
        # The answer always contains the ids of the versions, even without an include.
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
    created_field="created",
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
