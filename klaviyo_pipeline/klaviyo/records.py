"""From one resource of an answer to one record: typed columns and the resource itself.

No single odd attribute fails a page: what cannot be read becomes None and is told in `problems`, and `raw`
keeps it as it came. Only a resource that is nobody (no id) or nothing (no attributes) is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer, shortened
from klaviyo_pipeline.klaviyo.escape import escape_json
from klaviyo_pipeline.klaviyo.times import parse_time

Kind = Literal["text", "bool", "time", "json"]
Resource = Mapping[str, object]

ID = "id"
STAMP = "@stamp"
RAW = "@raw"


@dataclass(frozen=True)
class Column:
    """A column of a record.

    `path` is the attribute's name in Klaviyo's answer, or one of `ID`, `STAMP` (what the request says of
    its rows and the rows do not) and `RAW` (the resource itself).
    """

    name: str
    path: str
    kind: Kind


@dataclass(frozen=True)
class Record:
    """One object of Klaviyo's as it was seen once.

    `values` holds every column of its listing: text, bool, aware UTC datetime, decoded JSON, or None.
    `problems` says in words what was odd, `escapes` counts the characters that had to be escaped.
    """

    id: str
    values: dict[str, object]
    problems: list[str] = field(default_factory=list)
    escapes: int = 0


@dataclass(frozen=True)
class Shape:
    """What a listing's resources are made of. `relationships` names those whose ids `raw` keeps."""

    resource_type: str
    columns: tuple[Column, ...]
    relationships: tuple[str, ...] = ()


def read_record(resource: object, shape: Shape, stamp: str | None, *, clean: bool = False) -> Record:
    """`resource` as a record; `clean` promises that nothing in it needs an escape.

    Raises `MalformedAnswer` for a resource without a string id or without attributes.
    """
    identifier, attributes = _identity(resource, shape)
    assert isinstance(resource, Mapping)
    raw, escapes = _raw(resource, shape), 0
    if not clean:
        escaped, escapes = escape_json(raw)
        assert isinstance(escaped, dict)
        raw = escaped
        identifier, attributes = _identity(raw, shape)
    problems = _oddities(resource, attributes, shape)
    special = {ID: identifier, STAMP: stamp, RAW: raw}
    values: dict[str, object] = {
        column.name: special[column.path]
        if column.path in special
        else _value(column, attributes.get(column.path), problems)
        for column in shape.columns
    }
    return Record(identifier, values, [f"{shape.resource_type} {identifier}: {odd}" for odd in problems], escapes)


def _identity(resource: object, shape: Shape) -> tuple[str, dict[str, object]]:
    if not isinstance(resource, Mapping):
        raise MalformedAnswer(f"A {shape.resource_type} in the answer is no object: {shortened(repr(resource))}.")
    identifier, attributes = resource.get("id"), resource.get("attributes")
    if not isinstance(identifier, str) or not identifier:
        raise MalformedAnswer(f"A {shape.resource_type} in the answer has no id, but {shortened(repr(identifier))}.")
    if not isinstance(attributes, dict):
        raise MalformedAnswer(f"The {shape.resource_type} {identifier} in the answer has no attributes.")
    return identifier, attributes


def _raw(resource: Resource, shape: Shape) -> dict[str, object]:
    raw = {"id": resource["id"], "type": resource.get("type"), "attributes": resource["attributes"]}
    if shape.relationships:
        raw["relationships"] = _related_ids(resource.get("relationships"), shape.relationships)
    return raw


def _related_ids(relationships: object, names: Sequence[str]) -> dict[str, object]:
    if not isinstance(relationships, Mapping):
        return {}
    told = {name: relationships[name] for name in names if isinstance(relationships.get(name), Mapping)}
    return {name: _ids(one["data"]) for name, one in told.items() if "data" in one}


def _ids(data: object) -> object:
    if isinstance(data, list):
        return [_ids(item) for item in data]
    return data.get("id") if isinstance(data, Mapping) else None


def _oddities(resource: Resource, attributes: Mapping[str, object], shape: Shape) -> list[str]:
    odd = [
        f"{column.path} is not in the answer"
        for column in shape.columns
        if column.path not in (ID, STAMP, RAW) and column.path not in attributes
    ]
    if resource.get("type") != shape.resource_type:
        odd.append(f"its type is {resource.get('type')!r}")
    return odd


def _value(column: Column, value: object, problems: list[str]) -> object:
    if value is None:
        return None
    try:
        return _READERS[column.kind](value)
    except ValueError:
        problems.append(f"{column.path} is no {column.kind}: {str(value)[:80]!r}")
        return None


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError
    return value


def _bool(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _json(value: object) -> object:
    return value


_READERS: Mapping[Kind, Callable[[object], object]] = {
    "text": _text,
    "bool": _bool,
    "time": parse_time,
    "json": _json,
}
