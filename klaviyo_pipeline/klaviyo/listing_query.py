"""A query of a listing: the parameters of its first page, and the times that it covers."""

from dataclasses import dataclass, replace
from datetime import datetime

from klaviyo_pipeline.klaviyo.filters import Condition, all_of


@dataclass(frozen=True)
class ListingQuery:
    """The request for a listing. For `stamp` and `conditions`, see `Variant`.

    If a listing is split into several queries, each covers the rows with times in [since, until). Reading can stop once
    the rows have reached `until`, if they are in order. A query with a `window` (its start, its end and the current
    time) stands for all listings that together contain the changes of that window.
    """

    variant: str
    stamp: str | None
    conditions: tuple[Condition, ...]
    sort: str | None
    page_size: int
    include: tuple[tuple[str, str], ...] = ()
    page_size_is_fixed: bool = False
    since: datetime | None = None
    until: datetime | None = None
    window: tuple[datetime, datetime, datetime] | None = None

    @property
    def params(self) -> tuple[tuple[str, str], ...]:
        """The parameters of the first page."""
        wanted = all_of(self.conditions)
        params = [] if wanted is None else [("filter", wanted)]
        params += [] if self.sort is None else [("sort", self.sort)]
        params += [] if self.page_size_is_fixed else [("page[size]", str(self.page_size))]
        return (*params, *self.include)

    def with_bounds(self, *bounds: Condition, sort: str) -> "ListingQuery":
        """The same query with this order and these bounds. A bound replaces one with the same field and operator."""
        replaced = {(one.field, one.operator) for one in bounds}
        kept = tuple(one for one in self.conditions if (one.field, one.operator) not in replaced)
        return replace(self, conditions=(*kept, *bounds), sort=sort)

    def with_condition(self, condition: Condition) -> "ListingQuery":
        """The same query, for objects that also meet this condition."""
        return replace(self, conditions=(*self.conditions, condition))

    def covers(self, moment: datetime | None) -> bool:
        """Whether this query covers an object with this time. An object without a time is always covered."""
        if moment is None:
            return True
        return (self.since is None or self.since <= moment) and (self.until is None or moment < self.until)
