"""Figures of an object, a day or a period: sums that Klaviyo's own figures add up to, and rates from those sums.

A sum is None where no figure was told, a rate None where its divisor is 0 or unknown. Rates are fractions of 1.
Where a rate rests on uniques, the sum is one of the messages' daily uniques, never the uniques of the period.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import ClassVar, TypeVar

Sum = Decimal | None


@dataclass(frozen=True)
class MetricValues:
    """Sums by the name of their column; `LATEST` are levels, of which the latest day counts, and not a sum.

    `WHOLE` are sums that Klaviyo may refuse: where that of a day or an object is not known, that of all is not.
    """

    LATEST: ClassVar[frozenset[str]] = frozenset()
    WHOLE: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        return tuple(one.name for one in fields(cls))


@dataclass(frozen=True)
class Sending(MetricValues):
    """What messages were sent, and what came of them."""

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
    """How often forms were seen, submitted and closed: every time counted, not people."""

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
    """Who joined and left segments; a person in two segments counts in both."""

    LATEST = frozenset({"total_members"})

    members_added: Sum = None
    members_removed: Sum = None
    net_members_changed: Sum = None
    total_members: Sum = None

    @property
    def members_left(self) -> Sum:
        """Leaves as a figure below zero."""
        return None if self.members_removed is None else -self.members_removed

    @property
    def growth_rate(self) -> Sum:
        """Net change per member at the period's begin."""
        if self.total_members is None or self.net_members_changed is None:
            return None
        return ratio(self.net_members_changed, self.total_members - self.net_members_changed)


Kind = TypeVar("Kind", bound=MetricValues)


def added(kind: type[Kind], every: Iterable[Kind]) -> Kind:
    """The figures of several objects or days together; levels are left out, for they do not add up."""
    # One without any figure brings nothing to the sums, and leaves none of them open.
    listed = [one for one in every if any(getattr(one, name) is not None for name in kind.columns())]
    return kind(
        **{
            name: total([getattr(one, name) for one in listed], whole=name in kind.WHOLE)
            for name in kind.columns()
            if name not in kind.LATEST
        }
    )


def total(sums: Iterable[Sum], *, whole: bool = False) -> Sum:
    """The sum of what is known; None where nothing is, and of a `whole` one where anything is not."""
    listed = list(sums)
    known = [one for one in listed if one is not None]
    return sum(known, Decimal()) if known and not (whole and len(known) < len(listed)) else None


def ratio(part: Sum, whole: Sum) -> Sum:
    """Part per whole; None where there is nothing to divide by."""
    return None if part is None or not whole else part / whole
