"""Validates the filter of a listing, and decides which objects match it."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from klaviyo_pipeline.sandbox.api_errors import ApiError, bad_parameter
from klaviyo_pipeline.sandbox.entity_kinds import FilterField
from klaviyo_pipeline.sandbox.filter_grammar import Condition, MalformedFilterError, Word, parse_filter
from klaviyo_pipeline.sandbox.timestamps import read_bound, read_time

# A bound this close to now, or in the future, is rejected.
NOW_MARGIN = timedelta(seconds=5)

_LOWER = ("greater-than", "greater-or-equal")
_UPPER = ("less-than", "less-or-equal")
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "equals": operator.eq,
    "greater-than": operator.gt,
    "greater-or-equal": operator.ge,
    "less-than": operator.lt,
    "less-or-equal": operator.le,
}
_SEARCH: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part.lower() in text.lower(),
    "starts-with": lambda text, part: text.lower().startswith(part.lower()),
    "ends-with": lambda text, part: text.lower().endswith(part.lower()),
}


@dataclass(frozen=True)
class Criterion:
    """A checked condition: `values` are str, bool or datetime (UTC)."""

    field: str
    operator: str
    kind: str
    values: tuple[Any, ...]
    listed: bool


def read_filter(text: str, fields: Mapping[str, FilterField], now: datetime) -> list[Criterion]:
    """The validated conditions of `text`.

    Raises `ApiError` 400 for everything that `fields` does not allow.
    """
    try:
        conditions = parse_filter(text)
    except MalformedFilterError as malformed:
        raise refused(str(malformed)) from malformed
    criteria = [_checked(condition, fields) for condition in conditions]
    _check_bounds(criteria, now)
    return criteria


def refused(detail: str) -> ApiError:
    return bad_parameter("filter", f"Invalid filter provided. {detail}")


def _checked(condition: Condition, fields: Mapping[str, FilterField]) -> Criterion:
    declared = fields.get(condition.field)
    if declared is None:
        raise refused(f"'{condition.field}' is not a filterable field for this endpoint.")
    if condition.operator not in (declared.list if condition.listed else declared.single):
        kind = "a list" if condition.listed else "a single value"
        raise refused(f"'{condition.operator}' with {kind} is not allowed for field '{condition.field}'.")
    if not condition.words:
        raise refused(f"An empty list is not allowed for field '{condition.field}'.")
    values = tuple(_value(word, condition.field, declared) for word in condition.words)
    return Criterion(condition.field, condition.operator, declared.kind, values, condition.listed)


def _value(word: Word, field: str, declared: FilterField) -> Any:
    if declared.kind == "string":
        if not word.quoted:
            raise refused(f"The value of '{field}' must be a quoted string.")
        if declared.values and word.text not in declared.values:
            raise refused(f"The value of '{field}' must be one of {', '.join(declared.values)}.")
        return word.text
    if word.quoted:
        raise refused(f"The value of '{field}' must not be quoted.")
    if declared.kind == "boolean":
        if word.text not in ("true", "false"):
            raise refused(f"The value of '{field}' must be true or false.")
        return word.text == "true"
    moment = read_bound(word.text)
    if moment is None:
        raise refused(f"The value of '{field}' must be an ISO 8601 datetime with an offset.")
    return moment


def _check_bounds(criteria: list[Criterion], now: datetime) -> None:
    for criterion in criteria:
        if criterion.kind == "datetime" and criterion.values[0] > now - NOW_MARGIN:
            raise refused(f"The value of '{criterion.field}' must be in the past.")
    for field in {criterion.field for criterion in criteria if criterion.kind == "datetime"}:
        lower = [
            criterion.values[0] for criterion in criteria if criterion.field == field and criterion.operator in _LOWER
        ]
        upper = [
            criterion.values[0] for criterion in criteria if criterion.field == field and criterion.operator in _UPPER
        ]
        if lower and upper and max(lower) > min(upper):
            raise refused(f"The lower bound of '{field}' is later than its upper bound.")


def passes(criterion: Criterion, id: str, value: Any, gt_includes_bound: bool) -> bool:
    """Whether an object whose field is `value` matches. A null time or boolean matches no filter of its field."""
    if criterion.kind == "datetime":
        moment = read_time(value)
        if moment is None:
            return False
        bound = criterion.values[0]
        if criterion.operator == "greater-than" and moment == bound:
            return gt_includes_bound and slips_through(id)
        return _ORDER[criterion.operator](moment, bound)
    if criterion.kind == "boolean":
        return value is not None and bool(value) in criterion.values
    if isinstance(value, list):
        return any(wanted in value for wanted in criterion.values)
    if criterion.operator in _SEARCH:
        return value is not None and _SEARCH[criterion.operator](value, criterion.values[0])
    return value in criterion.values


def slips_through(id: str) -> bool:
    """Whether `greater-than` returns the object `id` although its time equals the bound.

    This is so for about half of all ids, always the same ones.
    """
    return hashlib.blake2b(id.encode(errors="surrogatepass"), digest_size=1).digest()[0] % 2 == 0
