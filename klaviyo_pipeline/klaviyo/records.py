"""From one resource of an answer to one record: typed columns and the resource itself.

No single odd attribute fails a page: what cannot be read becomes None and is told in `problems`, and `raw`
keeps it as it came. Only a resource that is nobody (no id) or nothing (no attributes) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer, shortened
from klaviyo_pipeline.klaviyo.escape import escape_json
from klaviyo_pipeline.klaviyo.times import parse_time

Kind = Literal["text", "texts", "int", "bool", "time", "json"]
Resource = Mapping[str, object]

ID = "id"
REQUEST_VALUE = "@stamp"
RAW = "@raw"
REVISION = "@revision"
DERIVED = "@derived"
ABSENT = "@absent"

SPECIAL_PATHS = frozenset({ID, REQUEST_VALUE, RAW, REVISION, DERIVED, ABSENT})


@dataclass(frozen=True)
class Column:
    """A column of a record.

    `path` is the attribute's name in Klaviyo's answer (a dot leads into an object), or one of `ID`, `REQUEST_VALUE`
    (what the request says of its rows and the rows do not), `RAW` (the resource itself), `REVISION` (the shape's),
    `DERIVED` (what the shape's `derive` fills) and `ABSENT` (what its revision does not have).
    """

    name: str
    path: str
    kind: Kind


@dataclass(frozen=True)
class Record:
    """One object of Klaviyo's as it was seen once.

    `values` holds every column of its listing: text, bool, aware UTC datetime, decoded JSON, or None.
    `problems` says in words what was odd, `escapes` counts the characters that had to be escaped. `children` are the
    objects that hang on it, by their table; a kind of which the answer tells nothing is not among them. `moved_at` is
    the time by which a window contains it, where that is not its own.
    """

    id: str
    values: dict[str, object]
    problems: list[str] = field(default_factory=list)
    escapes: int = 0
    children: Mapping[str, Children] = field(default_factory=dict)
    moved_at: datetime | None = None

    @property
    def updated_at(self) -> datetime | None:
        """When Klaviyo says it was last changed; None where it does not say."""
        reported = self.values.get("updated_at")
        assert reported is None or isinstance(reported, datetime)
        return reported


@dataclass(frozen=True)
class Children:
    """One object's children of one kind: the ids that it names, and those of them that came along."""

    ids: tuple[str, ...]
    records: tuple[Record, ...]


def _nothing(record: Record) -> None:
    """Fills no column."""


def children_of(record: Record, table: str) -> tuple[Record, ...]:
    """The record's children of that table that came along."""
    children = record.children.get(table)
    return children.records if children is not None else ()


def attribute(record: Record, path: str) -> object:
    """An attribute of the record's resource; a dot leads into an object. None where there is none."""
    value: object = record.values["raw"]
    for step in ("attributes", *path.split(".")):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


@dataclass(frozen=True)
class Shape:
    """What a listing's resources are made of.

    `relationships` names those whose ids `raw` keeps, in order of id. `complete` says that every declared attribute
    is expected in each resource. `derive` fills the columns that are `DERIVED`, once a record's children are there.
    """

    resource_type: str
    columns: tuple[Column, ...]
    relationships: tuple[str, ...] = ()
    complete: bool = True
    derive: Callable[[Record], None] = _nothing
    revision: str | None = None


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
    problems = _parse_warnings(resource, attributes, shape)
    special = {ID: identifier, REQUEST_VALUE: stamp, RAW: raw, REVISION: shape.revision, DERIVED: None, ABSENT: None}
    values: dict[str, object] = {
        column.name: special[column.path] if column.path in special else _value(column, attributes, problems)
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
    related = _related_ids(resource.get("relationships"), shape.relationships)
    return {**raw, "relationships": related} if related else raw


def _related_ids(relationships: object, names: Sequence[str]) -> dict[str, object]:
    if not isinstance(relationships, Mapping):
        return {}
    reported = {name: relationships[name] for name in names if isinstance(relationships.get(name), Mapping)}
    return {name: _ids(one["data"]) for name, one in reported.items() if "data" in one}


def _ids(data: object) -> object:
    if isinstance(data, list):
        # Their order is no content: an object must not differ for it.
        return sorted((_ids(item) for item in data), key=str)
    return data.get("id") if isinstance(data, Mapping) else None


def _parse_warnings(resource: Resource, attributes: Mapping[str, object], shape: Shape) -> list[str]:
    odd = [
        f"{column.path} is not in the answer"
        for column in shape.columns
        if shape.complete and column.path not in SPECIAL_PATHS and column.path.partition(".")[0] not in attributes
    ]
    if resource.get("type") != shape.resource_type:
        odd.append(f"its type is {resource.get('type')!r}")
    return odd


def _value(column: Column, attributes: Mapping[str, object], problems: list[str]) -> object:
    *outer, name = column.path.split(".")
    value: object = attributes
    try:
        for step in outer:
            value = _object(value).get(step)
        value = _object(value).get(name)
        return None if value is None else _READERS[column.kind](value)
    except ValueError:
        problems.append(f"{column.path} is no {column.kind}: {str(value)[:80]!r}")
        return None


def _object(value: object) -> Mapping[str, object]:
    """What is null, or absent, holds nothing."""
    if value is not None and not isinstance(value, Mapping):
        raise ValueError
    return value or {}


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError
    return value


def _bool(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _texts(value: object) -> object:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError
    return value


def _int(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**31) <= value < 2**31:
        raise ValueError
    return value


def _json(value: object) -> object:
    return value


_READERS: Mapping[Kind, Callable[[object], object]] = {
    "text": _text,
    "texts": _texts,
    "int": _int,
    "bool": _bool,
    "time": parse_time,
    "json": _json,
}
