"""The part of Klaviyo's filter language that listings need.

Strings are in single quotes; booleans and times are not. `and(…)` joins several conditions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from klaviyo_pipeline.klaviyo.times import format_bound


@dataclass(frozen=True)
class Condition:
    """One condition, such as `equals(archived,false)`."""

    operator: str
    field: str
    value: str | bool | datetime | tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.operator}({self.field},{_literal(self.value)})"


def all_of(conditions: Sequence[Condition]) -> str | None:
    """A filter that requires all of these conditions; None if there are none."""
    if len(conditions) > 1:
        return f"and({','.join(map(str, conditions))})"
    return str(conditions[0]) if conditions else None


def _literal(value: str | bool | datetime | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_literal, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_bound(value) if isinstance(value, datetime) else f"'{value}'"
