"""Formats values for English readers."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

NONE = "–"
Formatter = Callable[[Decimal | None], str]


def count(value: Decimal | None) -> str:
    """The value, rounded to a whole number: a count from Klaviyo may have a fraction."""
    return NONE if value is None else f"{_whole(value):,}"


def signed_count(value: Decimal | None) -> str:
    return NONE if value is None else f"{_whole(value):+,}"


def money(value: Decimal | None) -> str:
    """An amount in the account's currency, without the currency's name."""
    return NONE if value is None else f"{value:,.2f}"


def round_money(value: Decimal | None) -> str:
    """An amount for the key metrics. From 1,000 on, it is rounded to a whole number."""
    return money(value) if value is not None and abs(value) < 1_000 else count(value)


def rate(value: Decimal | None) -> str:
    """A fraction as a percentage: 0.25 is 25%."""
    return NONE if value is None else f"{value:.2%}"


def signed_rate(value: Decimal | None) -> str:
    return NONE if value is None else f"{value:+.1%}"


def points(value: Decimal | None) -> str:
    """The difference of two rates, in percentage points."""
    return NONE if value is None else f"{value * 100:+.2f} points"


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value())
