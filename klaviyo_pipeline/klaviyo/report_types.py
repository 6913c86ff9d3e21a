"""The types for declaring Klaviyo's reports as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import ClassVar, Literal

from klaviyo_pipeline.klaviyo.rates import Endpoint

_VALUE = frozenset({"conversion_value", "revenue_per_recipient", "average_order_value", "text_message_roi"})

OTHER_STATISTICS = "other_statistics"
"""The name of the column for statistics that the report does not declare. It is None in a row that has none."""

GROUPS = "groups"
"""The name of the column with the number of groups that a row adds up: 1 unless several groups have the same key."""


@dataclass(frozen=True)
class Statistics:
    """A report's statistics, by the way they can be aggregated.

    `sums` can be added up over messages and days. `uniques` count people: their sum over days can be more than the
    number of people in the period. `rates` are rates and other quotients. They must not be added or averaged, but
    computed from sums. `levels` are the state at the end of a day.
    """

    sums: tuple[str, ...]
    uniques: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every statistic, in the order of declaration."""
        return self.sums + self.uniques + self.rates + self.levels


@dataclass(frozen=True)
class Report:
    """One of Klaviyo's reports.

    `keys` are the groupings that identify a row, the entity's id first. `groupings` maps a key to Klaviyo's name for
    it, if the names differ. `group_by` are the groupings in the request, by Klaviyo's names; empty if the endpoint
    takes none. `first_day` is the earliest day with data, if Klaviyo documents one. Keys in `may_be_empty` can be empty
    in a valid group; if any other key is empty, the row may stand for several groups.
    """

    name: str
    entity: str
    endpoint: Endpoint
    keys: tuple[str, ...]
    group_by: tuple[str, ...]
    by_use: Statistics
    needs_conversion_metric: bool
    first_day: date | None = None
    groupings: Mapping[str, str] = field(default_factory=dict)
    may_be_empty: frozenset[str] = frozenset()

    kind: ClassVar[str]

    @property
    def resource_type(self) -> str:
        """The JSON:API type of the request and of the answer."""
        return f"{self.entity.removesuffix('s')}-{self.kind}-report"

    @property
    def path(self) -> str:
        """The path of the endpoint."""
        return f"/api/{self.resource_type}s"

    @property
    def statistics(self) -> tuple[str, ...]:
        """Every declared statistic, by Klaviyo's name."""
        return self.by_use.all

    @property
    def about_value(self) -> tuple[str, ...]:
        """The value of the conversions, and the statistics that Klaviyo computes from it."""
        return tuple(name for name in self.statistics if name in _VALUE)

    @property
    def about_conversions(self) -> tuple[str, ...]:
        """The statistics that depend on the conversion metric."""
        return tuple(name for name in self.statistics if name.startswith("conversion") or name in _VALUE)

    @property
    def additive(self) -> tuple[str, ...]:
        """The statistics that can be summed over messages and days."""
        return self.by_use.sums


@dataclass(frozen=True)
class SeriesReport(Report):
    """A report whose statistics have one value for each day, calendar week or calendar month."""

    kind = "series"
    interval: Literal["daily", "weekly", "monthly"] = "daily"


@dataclass(frozen=True)
class ValuesReport(Report):
    """A report whose statistics have one value for the whole timeframe."""

    kind = "values"
