"""Child objects: objects that belong to a parent and are part of the same answer, such as campaign messages.

If a request includes a relationship, the answer contains the related objects in `included`, without another request.
Of the objects in `included`, only those that a relationship connects to the parent are its children. A malformed child
never fails a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from klaviyo_pipeline.klaviyo.calls import Answer
from klaviyo_pipeline.klaviyo.errors import MalformedAnswer
from klaviyo_pipeline.klaviyo.escape import escape
from klaviyo_pipeline.klaviyo.records import (
    ID,
    RAW,
    REQUEST_VALUE,
    Children,
    Column,
    Record,
    Resource,
    Shape,
    read_record,
)

Included = Mapping[tuple[str, str], Resource]
"""The included resources, by type and id. A resource that does not exist is `NOT_FOUND`."""

NOT_FOUND: Resource = {}
"""Stands for an object for which Klaviyo answers 404. It is not a child, even if its parent still names it."""


@dataclass(frozen=True)
class Found:
    """The children of a parent: the ids that the parent names, and the included resources, each with its stamp.

    The stamp is the value of the child's `REQUEST_VALUE` columns; None if it has none.
    """

    ids: tuple[str, ...]
    resources: tuple[tuple[Resource, str | None], ...]


Finder = Callable[[Resource, Included], Found | None]
"""Finds the children of a resource in it or in the included resources; None if the answer lacks their ids."""


@dataclass(frozen=True)
class ChildKind:
    """A kind of child object as data: its table, the column with the parent's id, and how to find the children.

    `inherited` are the columns that are copied from the parent. `children` are the kinds of the child's own children.

    An older revision may have no ids for these children. A parent then has a single child with the parent's own id, a
    stand-in. `are_stand_ins` is true for the kind of such a revision. `has_stand_ins` is true if any revision has
    stand-ins for this kind.
    """

    table: str
    parent_column: str
    shape: Shape
    find: Finder
    inherited: tuple[str, ...] = ()
    children: tuple[ChildKind, ...] = ()
    has_stand_ins: bool = False
    are_stand_ins: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the children's records, in the order of the table."""
        identifier, *others = self.shape.columns
        parents = (Column(name, REQUEST_VALUE, "text") for name in (self.parent_column, *self.inherited))
        return (identifier, *parents, *others)


def included_of(document: Mapping[str, object]) -> Included:
    """The `included` of a document, without the resources that lack a type or an id."""
    included = document.get("included")
    resources = [one for one in included if isinstance(one, Mapping)] if isinstance(included, list) else []
    return {
        (one["type"], one["id"]): one
        for one in resources
        if isinstance(one.get("type"), str) and isinstance(one.get("id"), str)
    }


@dataclass
class Inclusion:
    """The resources that an answer includes or that were requested separately.

    `observed_at` (UTC) is the time of the earliest observation among the answer and these requests. `clean` means that
    no text needs an escape. `requests` is the number of the separate requests, including retries.
    """

    included: Included
    observed_at: datetime
    clean: bool
    requests: int


def inclusion_of(answer: Answer) -> Inclusion:
    """The resources that an answer includes, without further requests."""
    return Inclusion(included_of(answer.body), answer.observed_at, answer.clean, 0)


def with_children(
    record: Record, resource: Resource, kinds: tuple[ChildKind, ...], included: Included, *, clean: bool
) -> Record:
    """`record` with its children of these kinds. A child's problems and escapes are added to those of its parent."""
    children, problems, escapes = dict[str, Children](), list(record.problems), record.escapes
    for kind in kinds:
        found = kind.find(resource, included)
        if found is None:
            continue
        records = []
        for child, stamp in found.resources:
            try:
                read = _read(kind, child, stamp, record, included, clean=clean)
            except MalformedAnswer as error:
                problems.append(str(error))
                continue
            records.append(read)
            problems += read.problems
            escapes += read.escapes
        children[kind.table] = Children(tuple(escape(id) for id in found.ids), tuple(records))
    return replace(record, children=children, problems=problems, escapes=escapes)


def _read(
    kind: ChildKind, resource: Resource, stamp: str | None, parent: Record, included: Included, *, clean: bool
) -> Record:
    record = read_record(resource, kind.shape, stamp, clean=clean)
    record.values[kind.parent_column] = parent.id
    record.values.update({name: parent.values[name] for name in kind.inherited})
    record = with_children(record, resource, kind.children, included, clean=clean)
    kind.shape.derive(record)
    return record


def related_ids(resource: Resource, relationship: str) -> list[str] | None:
    """The ids that a relationship to one or many objects names, sorted; None if the answer does not contain them."""
    data = _data(resource, relationship)
    if data is UNKNOWN:
        return None
    named = data if isinstance(data, list) else [data]
    return sorted({one["id"] for one in named if isinstance(one, Mapping) and isinstance(one.get("id"), str)})


def child_ids(
    resource: Resource, relationship: str, resource_type: str, back: str | None, included: Included
) -> list[str] | None:
    """The ids of the children that `relationship` names, sorted; None if the answer does not contain them.

    If the resource does not name its children, they are the included resources of `resource_type` whose relationship
    `back` names the resource.
    """
    if isinstance(_data(resource, relationship), list):
        return related_ids(resource, relationship)
    parent = resource.get("id")
    if back is None or not isinstance(parent, str):
        return None
    naming = (id for (kind, id), one in included.items() if kind == resource_type and parent in _named(one, back))
    return sorted(naming) or None


def related(relationship: str, resource_type: str, back: str | None = None) -> Finder:
    """A finder of the children that a relationship names: see `child_ids`.

    An answer contains the ids of a relationship only if the request includes it.
    """

    def find(resource: Resource, included: Included) -> Found | None:
        ids = child_ids(resource, relationship, resource_type, back, included)
        if ids is None:
            return None
        ids = [id for id in ids if included.get((resource_type, id)) is not NOT_FOUND]
        keys = [(resource_type, id) for id in ids]
        return Found(tuple(ids), tuple((included[key], None) for key in keys if key in included))

    return find


def _named(resource: Resource, relationship: str) -> list[str]:
    return related_ids(resource, relationship) or []


UNKNOWN = object()


def _data(resource: Resource, relationship: str) -> object:
    """The `data` of a relationship: the objects that it names. `UNKNOWN` if the answer does not contain it."""
    relationships = resource.get("relationships")
    reported = relationships.get(relationship) if isinstance(relationships, Mapping) else None
    return reported.get("data", UNKNOWN) if isinstance(reported, Mapping) else UNKNOWN


def _messages_of_action(action: Resource, included: Included) -> Found | None:
    """The messages in an action's definition, each with its channel; None if the definition is null or missing."""
    attributes = action.get("attributes")
    definition = attributes.get("definition") if isinstance(attributes, Mapping) else None
    if not isinstance(definition, Mapping):
        return None
    messages = {resource["id"]: (resource, channel) for resource, channel in _messages(definition)}
    ids = tuple(sorted(str(id) for id in messages))
    return Found(ids, tuple(messages[id] for id in ids))


def _messages(definition: Mapping[str, object]) -> Iterator[tuple[Resource, str]]:
    """The message that an action sends, and the messages of its A/B test, each with its channel."""
    data = definition.get("data")
    if not isinstance(data, Mapping):
        return
    message, kind = data.get("message"), definition.get("type")
    if isinstance(message, Mapping) and isinstance(message.get("id"), str) and isinstance(kind, str):
        attributes = {name: value for name, value in message.items() if name != "id"}
        resource = {"type": "flow-message", "id": message["id"], "attributes": attributes}
        yield resource, kind.removeprefix("send-").replace("-", "_")
    experiment = data.get("current_experiment")
    variations = experiment.get("variations") if isinstance(experiment, Mapping) else None
    for action in [*(variations if isinstance(variations, list) else []), data.get("main_action")]:
        if isinstance(action, Mapping):
            yield from _messages(action)


FLOW_MESSAGES = ChildKind(
    table="flow_messages",
    parent_column="action_id",
    inherited=("flow_id",),
    find=_messages_of_action,
    shape=Shape(
        "flow-message",
        (
            Column("id", ID, "text"),
            Column("channel", REQUEST_VALUE, "text"),
            Column("name", "name", "text"),
            Column("subject", "subject_line", "text"),
            Column("preview_text", "preview_text", "text"),
            Column("from_email", "from_email", "text"),
            Column("from_label", "from_label", "text"),
            Column("template_id", "template_id", "text"),
            Column("raw", RAW, "json"),
        ),
        complete=False,
    ),
)

FLOW_ACTIONS = ChildKind(
    table="flow_actions",
    parent_column="flow_id",
    find=related("flow-actions", "flow-action"),
    shape=Shape(
        "flow-action",
        (
            Column("id", ID, "text"),
            Column("action_type", "definition.type", "text"),
            Column("status", "definition.data.status", "text"),
            Column("definition", "definition", "json"),
            Column("created_at", "created", "time"),
            Column("updated_at", "updated", "time"),
            Column("raw", RAW, "json"),
        ),
        complete=False,
    ),
    children=(FLOW_MESSAGES,),
)
