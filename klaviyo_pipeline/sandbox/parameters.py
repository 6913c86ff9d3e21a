"""Query parameters: those that an endpoint accepts, and their strict validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from klaviyo_pipeline.sandbox.api_errors import bad_parameter
from klaviyo_pipeline.sandbox.entity_kinds import FilterField

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Parameters:
    """The query parameters of one endpoint. `page_size` is (default, maximum); None rejects `page[size]`."""

    filters: Mapping[str, FilterField] = field(default_factory=dict)
    cursor: str | None = None
    page_size: tuple[int, int] | None = None
    fixed_page_size: int = 200
    sorts: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    additional: tuple[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class Query:
    """The validated parameters of one request. `fields` is by JSON:API type; `sort` is (field, descending)."""

    pairs: Pairs
    filter: str | None
    cursor: str | None
    page_size: int
    sort: tuple[str, bool] | None
    includes: tuple[str, ...]
    fields: Mapping[str, tuple[str, ...]]
    additional: tuple[str, ...]


def read_query(pairs: Pairs, accepted: Parameters) -> Query:
    """The parameters of a request. Raises `ApiError` 400 for a parameter that is not `accepted`, and names it."""
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise bad_parameter(name, f"'{name}' is given twice.")
        given[name] = value
    additional_name = f"additional-fields[{accepted.additional[0]}]" if accepted.additional else None
    sparse = {f"fields[{kind}]": names for kind, names in accepted.fields.items()}
    known = {
        "filter": bool(accepted.filters),
        "page[size]": accepted.page_size is not None,
        "sort": bool(accepted.sorts),
        "include": bool(accepted.includes),
    }
    for name in given:
        if not known.get(name, name in sparse or name in (accepted.cursor, additional_name)):
            raise bad_parameter(name, f"'{name}' is not a valid parameter for this endpoint.")
    return Query(
        pairs=pairs,
        filter=given.get("filter"),
        cursor=given.get(accepted.cursor) if accepted.cursor else None,
        page_size=_page_size(given.get("page[size]"), accepted),
        sort=_sort(given.get("sort"), accepted.sorts),
        includes=_names(given, "include", accepted.includes),
        fields={
            name.removeprefix("fields[").removesuffix("]"): _names(given, name, allowed, dotted=True)
            for name, allowed in sparse.items()
            if name in given
        },
        additional=_names(given, additional_name, accepted.additional[1])
        if accepted.additional and additional_name
        else (),
    )


def _page_size(text: str | None, accepted: Parameters) -> int:
    if accepted.page_size is None:
        return accepted.fixed_page_size
    default, largest = accepted.page_size
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= largest:
        raise bad_parameter("page[size]", f"Page size must be an integer between 1 and {largest}.")
    return int(text)


def _sort(text: str | None, sorts: tuple[str, ...]) -> tuple[str, bool] | None:
    if text is None:
        return None
    field = text.removeprefix("-")
    if field not in sorts:
        raise bad_parameter("sort", f"'{text}' is not a valid sort for this endpoint.")
    return field, text.startswith("-")


def _names(given: Mapping[str, str], parameter: str, allowed: tuple[str, ...], dotted: bool = False) -> tuple[str, ...]:
    text = given.get(parameter)
    if text is None:
        return ()
    names = tuple(text.split(","))
    for name in names:
        if name not in allowed and not (dotted and _is_inside(name, allowed)):
            raise bad_parameter(parameter, f"'{name}' is not a valid value of '{parameter}'.")
    return names


def _is_inside(name: str, allowed: tuple[str, ...]) -> bool:
    """Whether `name` is a dotted name inside an allowed field, for which no dotted names are listed."""
    head = name.partition(".")[0]
    return head in allowed and not any(known.startswith(f"{head}.") for known in allowed)
