"""Ranges of consecutive days."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """The days from `first` to `last`, inclusive, in the account's time zone."""

    first: date
    last: date

    @classmethod
    def ending(cls, last: date, days: int) -> Period:
        """The period of this number of days that ends on `last`."""
        return cls(last - (days - 1) * DAY, last)

    @property
    def days(self) -> list[date]:
        return [self.first + number * DAY for number in range((self.last - self.first).days + 1)]

    @property
    def before(self) -> Period:
        """The period of equal length that ends on the day before this one."""
        return Period.ending(self.first - DAY, len(self.days))

    def __str__(self) -> str:
        return _day(self.last) if self.first == self.last else f"{_day(self.first)} to {_day(self.last)}"


def spans(days: Iterable[date]) -> list[Period]:
    """The days as contiguous periods, in order."""
    found: list[Period] = []
    for day in sorted(days):
        if found and day - found[-1].last == DAY:
            found[-1] = Period(found[-1].first, day)
        else:
            found.append(Period(day, day))
    return found


def _day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"
