"""Metrics of an object, a day or a period: sums of Klaviyo's daily values, and rates computed from these sums.

A sum is None if no value is known. A rate is None if its divisor is 0 or unknown. Rates are fractions of 1. A sum of
unique counts adds the daily uniques of each message; it is not the number of unique people in the period.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import ClassVar, TypeVar

Sum = Decimal | None


@dataclass(frozen=True)
class MetricValues:
    """Sums by column name.

    Columns in `LATEST` are levels, such as a number of members: the value of the latest day is used instead of a sum.
    Columns in `WHOLE` are values that Klaviyo may refuse: if one day or object lacks the value, the sum is None.
    """

    LATEST: ClassVar[frozenset[str]] = frozenset()
    WHOLE: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        return tuple(one.name for one in fields(cls))


@dataclass(frozen=True)
class Sending(MetricValues):
    """Messages sent, and the opens, clicks, conversions and unsubscribes attributed to them."""

    WHOLE = frozenset({"conversion_value"})

    recipients: Sum = None
    delivered: Sum = None
    opens_unique: Sum = None
    clicks_unique: Sum = None
    conversions: Sum = None
    conversion_uniques: Sum = None
    conversion_value: Sum = None
    unsubscribe_uniques: Sum = None

    @property
    def open_rate(self) -> Sum:
        return ratio(self.opens_unique, self.delivered)

    @property
    def click_rate(self) -> Sum:
        return ratio(self.clicks_unique, self.delivered)

    @property
    def conversion_rate(self) -> Sum:
        return ratio(self.conversion_uniques, self.delivered)

    @property
    def unsubscribe_rate(self) -> Sum:
        return ratio(self.unsubscribe_uniques, self.delivered)

    @property
    def revenue_per_recipient(self) -> Sum:
        return ratio(self.conversion_value, self.delivered)


@dataclass(frozen=True)
class FormUse(MetricValues):
    """How often forms were viewed, submitted and closed. Counts events, not people."""

    viewed_form: Sum = None
    submits: Sum = None
    closed_form: Sum = None

    @property
    def submit_rate(self) -> Sum:
        return ratio(self.submits, self.viewed_form)

    @property
    def close_rate(self) -> Sum:
        return ratio(self.closed_form, self.viewed_form)


@dataclass(frozen=True)
class Membership(MetricValues):
    """Members who joined and left segments. A person in two segments counts in both."""

    LATEST = frozenset({"total_members"})

    members_added: Sum = None
    members_removed: Sum = None
    net_members_changed: Sum = None
    total_members: Sum = None

    @property
    def members_left(self) -> Sum:
        """The members who left, as a negative number."""
        return None if self.members_removed is None else -self.members_removed

    @property
    def growth_rate(self) -> Sum:
        """Net change divided by the number of members at the start of the period."""
        if self.total_members is None or self.net_members_changed is None:
            return None
        return ratio(self.net_members_changed, self.total_members - self.net_members_changed)


Kind = TypeVar("Kind", bound=MetricValues)


def added(kind: type[Kind], every: Iterable[Kind]) -> Kind:
    """The sums over several objects or days. Columns in `LATEST` are None, because levels cannot be added."""
    # An entry without any value does not make a `WHOLE` sum unknown.
    listed = [one for one in every if any(getattr(one, name) is not None for name in kind.columns())]
    return kind(
        **{
            name: total([getattr(one, name) for one in listed], whole=name in kind.WHOLE)
            for name in kind.columns()
            if name not in kind.LATEST
        }
    )


def total(sums: Iterable[Sum], *, whole: bool = False) -> Sum:
    """The sum of the known values. None if no value is known, and with `whole`, also if one value is unknown."""
    listed = list(sums)
    known = [one for one in listed if one is not None]
    return sum(known, Decimal()) if known and not (whole and len(known) < len(listed)) else None


def ratio(part: Sum, whole: Sum) -> Sum:
    """`part` divided by `whole`; None if either is unknown or `whole` is 0."""
    return None if part is None or not whole else part / whole
