"""Converts a resource of an answer to a record: typed columns, and the resource itself as `raw`.

An invalid attribute never fails a page: its column is None, `problems` reports it, and `raw` contains it unchanged.
Only a resource without a valid id or without attributes is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer, shortened
from klaviyo_pipeline.klaviyo.escape import escape, escape_json
from klaviyo_pipeline.klaviyo.times import parse_time

Kind = Literal["text", "texts", "int", "bool", "time", "json", "label"]
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

    `path` is the name of the attribute in Klaviyo's answer. A dot leads into an object: `definition.name`. Other values
    of `path` are `ID`, `REQUEST_VALUE` (a value that the resource does not contain: it follows from the request or from
    the parent), `RAW` (the resource itself), `REVISION` (the revision of the shape), `DERIVED` (filled by the shape's
    `derive`) and `ABSENT` (always None, because the revision lacks the attribute). `kind` is the type of the value; a
    `label` is a text, or an object that contains the text as `category` or `name`.
    """

    name: str
    path: str
    kind: Kind


@dataclass(frozen=True)
class Record:
    """The state of one object at one observation.

    `values` contains every column of the shape: text, a list of texts, int, bool, aware UTC datetime, decoded JSON, or
    None. `problems` describes attributes that are missing or invalid. `escapes` is the number of parts that could not
    be stored unchanged (see `escape_json`). `children` are the child objects by table, without the kinds that the
    answer does not contain. `moved_at` is the time that assigns the object to a window, if that is not the object's own
    time.
    """

    id: str
    values: dict[str, object]
    problems: list[str] = field(default_factory=list)
    escapes: int = 0
    children: Mapping[str, Children] = field(default_factory=dict)
    moved_at: datetime | None = None

    @property
    def updated_at(self) -> datetime | None:
        """The time of the object's last change according to Klaviyo; None if the answer lacks it."""
        moment = self.values.get("updated_at")
        assert moment is None or isinstance(moment, datetime)
        return moment


@dataclass(frozen=True)
class Children:
    """An object's children of one kind: the ids that the object names, and the records of the included children."""

    ids: tuple[str, ...]
    records: tuple[Record, ...]


def _nothing(record: Record) -> None:
    """Fills no column."""


def children_of(record: Record, table: str) -> tuple[Record, ...]:
    """The record's children of this table; empty if the answer does not contain them."""
    children = record.children.get(table)
    return children.records if children is not None else ()


def attribute(record: Record, path: str) -> object:
    """The attribute at this path of the record's resource (a dot leads into an object); None if there is none."""
    value: object = record.values["raw"]
    for step in ("attributes", *path.split(".")):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


@dataclass(frozen=True)
class Shape:
    """How the resources of one type become records.

    `relationships` are the relationships whose ids are kept in `raw`, sorted. If `complete`, every resource should
    contain every declared attribute, and a missing one is reported in `problems`. `derive` fills the `DERIVED` columns,
    once the record has its children. `revision` is the API revision that the shape is for; None if it is for all.
    """

    resource_type: str
    columns: tuple[Column, ...]
    relationships: tuple[str, ...] = ()
    complete: bool = True
    derive: Callable[[Record], None] = _nothing
    revision: str | None = None


def read_record(resource: object, shape: Shape, stamp: str | None, *, clean: bool = False) -> Record:
    """`resource` as a record without children.

    `stamp` is the value of the `REQUEST_VALUE` columns. `clean` means that no text in the resource needs an escape.
    Raises `MalformedAnswer` if the resource is not an object, or has no valid id or no attributes.
    """
    identifier, attributes = _identity(resource, shape)
    assert isinstance(resource, Mapping)
    raw, escapes = _raw(resource, shape), 0
    if not clean:
        escaped, escapes = escape_json(raw)
        assert isinstance(escaped, dict)
        raw = escaped
        identifier, attributes = _identity(raw, shape)
        stamp = None if stamp is None else escape(stamp)
    problems = _parse_warnings(resource, attributes, shape)
    special = {ID: identifier, REQUEST_VALUE: stamp, RAW: raw, REVISION: shape.revision, DERIVED: None, ABSENT: None}
    values: dict[str, object] = {
        column.name: special[column.path] if column.path in special else _value(column, attributes, problems)
        for column in shape.columns
    }
    return Record(
        identifier, values, [f"{shape.resource_type} {identifier}: {problem}" for problem in problems], escapes
    )


def _identity(resource: object, shape: Shape) -> tuple[str, dict[str, object]]:
    if not isinstance(resource, Mapping):
        raise MalformedAnswer(f"A {shape.resource_type} in the response is not an object: {shortened(repr(resource))}.")
    identifier, attributes = resource.get("id"), resource.get("attributes")
    if not isinstance(identifier, str) or not identifier:
        raise MalformedAnswer(
            f"A {shape.resource_type} in the response has no valid id: {shortened(repr(identifier))}."
        )
    if not isinstance(attributes, dict):
        raise MalformedAnswer(f"The {shape.resource_type} {identifier} in the response has no attributes.")
    return identifier, attributes


def _raw(resource: Resource, shape: Shape) -> dict[str, object]:
    raw = {"id": resource["id"], "type": resource.get("type"), "attributes": resource["attributes"]}
    related = _related_ids(resource.get("relationships"), shape.relationships)
    return {**raw, "relationships": related} if related else raw


def _related_ids(relationships: object, names: Sequence[str]) -> dict[str, object]:
    if not isinstance(relationships, Mapping):
        return {}
    kept = {name: relationships[name] for name in names if isinstance(relationships.get(name), Mapping)}
    return {name: _ids(one["data"]) for name, one in kept.items() if "data" in one}


def _ids(data: object) -> object:
    if isinstance(data, list):
        # The order of related objects has no meaning, and must not make an object look changed.
        return sorted((_ids(item) for item in data), key=str)
    return data.get("id") if isinstance(data, Mapping) else None


def _parse_warnings(resource: Resource, attributes: Mapping[str, object], shape: Shape) -> list[str]:
    warnings = [
        f"{column.path} is missing"
        for column in shape.columns
        if shape.complete and column.path not in SPECIAL_PATHS and column.path.partition(".")[0] not in attributes
    ]
    if resource.get("type") != shape.resource_type:
        warnings.append(f"its type is {resource.get('type')!r}")
    return warnings


def _value(column: Column, attributes: Mapping[str, object], problems: list[str]) -> object:
    *outer, name = column.path.split(".")
    value: object = attributes
    try:
        for step in outer:
            value = _object(value).get(step)
        value = _object(value).get(name)
        return None if value is None else _READERS[column.kind](value)
    except ValueError:
        problems.append(f"{column.path} is not a valid {column.kind}: {str(value)[:80]!r}")
        return None


def _object(value: object) -> Mapping[str, object]:
    """The value as an object. None counts as an empty object."""
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


def read_label(value: object) -> str | None:
    """The text of a label: the value itself, or the text in an object such as `{"id": 1, "category": "eCommerce"}`.

    None if there is no text.
    """
    inner = value.get("category", value.get("name")) if isinstance(value, Mapping) else value
    return inner if isinstance(inner, str) else None


_READERS: Mapping[Kind, Callable[[object], object]] = {
    "text": _text,
    "texts": _texts,
    "int": _int,
    "bool": _bool,
    "time": parse_time,
    "json": _json,
    "label": read_label,
}
