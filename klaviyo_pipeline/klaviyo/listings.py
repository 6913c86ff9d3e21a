"""The four entities as data: the path of each listing, the time field that filters it, and its columns.

All differences between flows, campaigns, forms and segments are defined here. Filters, operators, sort orders and page
sizes are those of Klaviyo's OpenAPI description (revision 2026-07-15). No request sets `fields[…]`: answers contain
attributes that the description does not list, and all of them are stored.
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
# covers a little more on both sides, and the caller filters.
OVERLAP = timedelta(seconds=2)

# Klaviyo rejects a bound later than about 5 s before now with a 400. A minute allows for clock differences.
NOW_MARGIN = timedelta(seconds=60)

# A long listing without an upper bound is split into queries that are read concurrently. Each query costs about one
# extra page, because it stops only after rows beyond its end. A row may be listed up to a day later than its time, so
# each query begins a day before its split.
SHORTEST_SPLIT = timedelta(days=45)
MOST_SPLITS = 8
SPLIT_OVERLAP = timedelta(days=1)

SECOND = timedelta(seconds=1)

BETWEEN = ("greater-or-equal", "less-than")


def _no_request_value(document: Mapping[str, object]) -> str | None:
    return None


@dataclass(frozen=True)
class Variant:
    """One of the listings of an entity, if no single request returns all of its objects.

    `conditions` are fixed. `stamp` is a value that follows from the conditions: it is true for every row, but the rows
    do not contain it. `leaves_out` are the objects that Klaviyo lists only if the filter names this field.
    """

    name: str
    conditions: tuple[Condition, ...] = ()
    stamp: str | None = None
    leaves_out: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Listing:
    """An entity of Klaviyo's.

    `time_field` is the time that assigns an object to a window; None if the entity can only be listed in full.
    `created_field` is the time of creation, if listings can be filtered by it. `time_operators` are the operators of
    the lower and the upper bound (None if the endpoint has no upper bound). `sort` is an order in which an object keeps
    its place when it changes: by id if the endpoint supports it, since ids are unique.
    `include` are the relationships that every request includes; `children` are read from them. Listings and lookups
    include the same relationships, because an answer contains the ids of a relationship only if it is included, and
    both must give equal records. `lookup_request_value` reads from a lookup's document the value that a listing takes
    from its own condition. `page` is the address of the objects in Klaviyo's web app; None if there is no such page.
    `messages` is the listing of the objects whose change puts their parent into a window without moving the parent's
    own time; None if there are none. `precedence` are the columns whose value depends on the listing, each with its
    values in order of preference: an object can be in several listings.

    `sort` is None if the endpoint has no order, and `page_size_is_fixed` if it takes no page size. `attributes` are the
    only ones that are requested; none means all. A listing with a `parent` exists once for each object of the parent;
    its path contains `{id}` for the parent's id. Lookups then have another path, `lookup_path`, and include
    `lookup_include`, from which `lookup_request_value` reads that id.
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
        """The JSON:API type of its resources."""
        return self.shape.resource_type

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its records, in the order of the table."""
        return self.shape.columns

    @property
    def has_windows(self) -> bool:
        """Whether it can be listed by window, and not only in full."""
        return self.time_field is not None and self.parent is None

    def of_parent(self, id: str) -> "Listing":
        """The listing of the objects of this parent. The stamp is the parent's id, which the rows do not contain."""
        variants = tuple(replace(variant, stamp=id) for variant in self.variants)
        return replace(self, path=self.path.replace("{id}", quote(id, safe="")), variants=variants, parent=None)

    def queries(self, start: datetime | None, end: datetime | None, now: datetime) -> list[ListingQuery]:
        """The queries that together return every object whose time is in [start, end).

        Without bounds they return every object. Bounds are aware datetimes. The answers contain more: an overlap at
        both ends; everything up to now if the endpoint has no upper bound or `end` is too close to now; and older rows
        if `start` is too close to now. The caller filters. Raises `ValueError` unless start < end, and for bounds of an
        entity without a time field.
        """
        if start is not None and end is not None and start >= end:
            raise ValueError(f"the window {start} to {end} is empty")
        if self.messages is not None and start is not None and end is not None:
            return [replace(self.variant_queries(start, end, now)[0], variant="changes", window=(start, end, now))]
        return self.variant_queries(start, end, now)

    def variant_queries(self, start: datetime | None, end: datetime | None, now: datetime) -> list[ListingQuery]:
        """`queries` of each variant, by the objects' own time alone."""
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
        """The `queries` of an endpoint without an upper bound, split by time; none if the window is too short.

        Objects are listed by their last update, so recent times contain more of them: later splits are shorter.
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
        """`query`, which is sorted by a time, from the record's second on; None if the record has no such time."""
        if not (query.sort and (moment := self._time(record, query.sort))):
            return None
        return query.with_bounds(self._lower(query.sort, moment, now), sort=query.sort)

    def same_second_as(self, query: ListingQuery, record: Record, now: datetime) -> ListingQuery | None:
        """A query for the objects of `query` that share the record's second, sorted by their other time field.

        `query` is sorted by a time. None if the record lacks it, or if the endpoint has no upper bound. An upper bound
        that is too close to now is left out.
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
        """Whether two records share the second of the time by which `query` is sorted."""
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
        """The parameters of every request for its objects: which relationships and attributes the answer contains."""
        include = (("include", ",".join(self.include)),) if self.include else ()
        fields = ((f"fields[{self.resource_type}]", ",".join(self.attributes)),) if self.attributes else ()
        return (*include, *fields)

    def record(
        self, resource: object, stamp: str | None, included: Included | None = None, *, clean: bool = False
    ) -> Record:
        """`resource` as a record of this entity, with its children from `included`: see `read_record`."""
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
"""Two listings: one without archived objects, and one of archived objects only.

The first has no filter: `archived` may be null, and a null matches neither true nor false.
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
"""The messages of all campaigns, for the times at which they changed."""

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
        # The answer always contains them, without an include.
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
