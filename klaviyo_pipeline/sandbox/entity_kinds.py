"""The entities as data: the parameters that each listing accepts, and the attributes of its rows.

The source is the API's own description (revision 2026-07-15): filter operators by field, page-size limits, sort
orders, sparse fields and includes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from klaviyo_pipeline.sandbox.timestamps import write_time

ValueKind = Literal["string", "boolean", "datetime"]

TIME_ORDER = ("greater-or-equal", "greater-than", "less-or-equal", "less-than")
TEXT_SEARCH = ("contains", "ends-with", "equals", "starts-with")


@dataclass(frozen=True)
class FilterField:
    """The filters of one field: operators with a single value, and operators with a list."""

    kind: ValueKind
    single: tuple[str, ...] = ()
    list: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entity:
    """One entity: its path under `/api/`, its JSON:API type and the parameters of its listing."""

    name: str
    type: str
    time_field: str
    created_field: str
    page_size: int
    max_page_size: int
    sorts: tuple[str, ...]
    attributes: Mapping[str, Any]
    filters: Mapping[str, FilterField]
    relationships: tuple[str, ...]
    includes: tuple[str, ...] = ()
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    additional: tuple[str, ...] = ()
    additional_in_listing: bool = False
    microseconds: bool = False

    def blank(self) -> dict[str, Any]:
        """Every documented attribute, null where the description allows null."""
        return dict(self.attributes)


def visible_value(value: Any, entity: Entity) -> Any:
    """An attribute as JSON: a datetime becomes text with the entity's precision."""
    return write_time(value, microseconds=entity.microseconds) if isinstance(value, datetime) else value


CAMPAIGN_STATUSES = (
    "Scheduled",
    "Sent",
    "Draft",
    "Cancelled",
    "Adding Recipients",
    "Sending",
    "Variations Sent",
    "Sending Segments",
    "Cancelled: Smart Sending",
    "Preparing to send",
    "Cancelled: Account Disabled",
    "Cancelled: No Recipients",
    "Preparing to schedule",
    "Cancelled: Internal Error",
    "Queued without Recipients",
    "Cancelled: Billing Limit",
    "Cancelled: Misconfigured",
    "Unknown",
)
TRIGGER_TYPES = ("Metric", "Added to List", "Unconfigured", "Date Based", "Price Drop", "Low Inventory")
CHANNELS = ("email", "sms", "mobile_push")
# The names of the channels in reports.
REPORT_CHANNELS = {"email": "email", "sms": "sms", "mobile_push": "push-notification", "whatsapp": "whatsapp"}

_NOON = "2024-01-01T12:00:00+00:00"
_TAG_FIELDS = ("id", "name")
FLOW_FIELDS = ("archived", "created", "id", "name", "status", "trigger_type", "updated")

FLOWS = Entity(
    name="flows",
    type="flow",
    time_field="updated",
    created_field="created",
    page_size=50,
    max_page_size=50,
    sorts=("created", "id", "name", "status", "trigger_type", "updated"),
    attributes={
        "name": None,
        "status": None,
        "archived": False,
        "created": None,
        "updated": None,
        "trigger_type": None,
    },
    filters={
        "id": FilterField("string", list=("any",)),
        "name": FilterField("string", TEXT_SEARCH),
        "status": FilterField("string", ("equals",)),
        "archived": FilterField("boolean", ("equals",)),
        "created": FilterField("datetime", ("equals", *TIME_ORDER)),
        "updated": FilterField("datetime", ("equals", *TIME_ORDER)),
        "trigger_type": FilterField("string", ("equals",), values=TRIGGER_TYPES),
    },
    relationships=("flow-actions", "tags"),
    includes=("flow-actions", "tags"),
    fields={
        "flow": FLOW_FIELDS,
        "flow-action": ("created", "definition", "id", "updated"),
        "tag": _TAG_FIELDS,
    },
    additional=("definition",),
)

CAMPAIGNS = Entity(
    name="campaigns",
    type="campaign",
    time_field="updated_at",
    created_field="created_at",
    page_size=100,
    max_page_size=100,
    sorts=("created_at", "id", "name", "scheduled_at", "updated_at"),
    attributes={
        "name": "",
        "status": "Draft",
        "archived": False,
        "audiences": {"included": [], "excluded": []},
        "send_options": {"use_smart_sending": True},
        "tracking_options": None,
        "send_strategy": {"method": "immediate"},
        "created_at": "2024-01-01T12:00:00.000000+00:00",
        "scheduled_at": None,
        "updated_at": "2024-01-01T12:00:00.000000+00:00",
        "send_time": None,
    },
    filters={
        "id": FilterField("string", list=("any",)),
        "messages.channel": FilterField("string", ("equals",), values=CHANNELS),
        "name": FilterField("string", ("contains",)),
        "status": FilterField("string", ("equals",), ("any", "equals"), values=CAMPAIGN_STATUSES),
        "archived": FilterField("boolean", ("equals",)),
        "created_at": FilterField("datetime", TIME_ORDER),
        "scheduled_at": FilterField("datetime", TIME_ORDER),
        "updated_at": FilterField("datetime", TIME_ORDER),
    },
    relationships=("campaign-messages", "tags"),
    includes=("campaign-messages", "tags"),
    fields={
        "campaign": (
            "archived",
            "audiences",
            "created_at",
            "id",
            "name",
            "scheduled_at",
            "send_options",
            "send_strategy",
            "send_time",
            "status",
            "tracking_options",
            "updated_at",
        ),
        "campaign-message": ("created_at", "definition", "id", "send_times", "updated_at"),
        "tag": _TAG_FIELDS,
    },
    microseconds=True,
)

FORMS = Entity(
    name="forms",
    type="form",
    time_field="updated_at",
    created_field="created_at",
    page_size=20,
    max_page_size=100,
    sorts=("created_at", "updated_at"),
    attributes={"name": "", "status": "draft", "ab_test": False, "created_at": _NOON, "updated_at": _NOON},
    filters={
        "id": FilterField("string", ("equals",), ("any", "equals")),
        "name": FilterField("string", ("contains", "equals"), ("any", "equals")),
        "ab_test": FilterField("boolean", ("equals",)),
        "updated_at": FilterField("datetime", TIME_ORDER),
        "created_at": FilterField("datetime", TIME_ORDER),
        "status": FilterField("string", ("equals",), values=("live", "draft")),
    },
    relationships=("form-versions",),
    fields={"form": ("ab_test", "created_at", "id", "name", "status", "updated_at")},
)

SEGMENTS = Entity(
    name="segments",
    type="segment",
    time_field="updated",
    created_field="created",
    page_size=10,
    max_page_size=10,
    sorts=("created", "id", "name", "updated"),
    attributes={
        "name": None,
        "definition": {"condition_groups": []},
        "created": None,
        "updated": None,
        "is_active": True,
        "is_processing": False,
        "is_starred": False,
    },
    filters={
        "id": FilterField("string", ("equals",), ("any", "equals")),
        "name": FilterField("string", list=("any", "equals")),
        "created": FilterField("datetime", ("greater-than",)),
        "updated": FilterField("datetime", ("greater-than",)),
        "is_active": FilterField("boolean", ("equals",), ("any", "equals")),
        "is_starred": FilterField("boolean", ("equals",)),
    },
    relationships=("flow-triggers", "profiles", "tags"),
    includes=("flow-triggers", "tags"),
    fields={
        "segment": (
            "created",
            "definition",
            "id",
            "is_active",
            "is_processing",
            "is_starred",
            "name",
            "updated",
        ),
        "flow": FLOW_FIELDS,
        "tag": _TAG_FIELDS,
    },
    additional=("profile_count",),
)

LISTS = Entity(
    name="lists",
    type="list",
    time_field="updated",
    created_field="created",
    page_size=10,
    max_page_size=10,
    sorts=("created", "id", "name", "updated"),
    attributes={"name": None, "created": None, "updated": None, "opt_in_process": None},
    filters={
        "id": FilterField("string", ("equals",), ("any", "equals")),
        "name": FilterField("string", list=("any", "equals")),
        "created": FilterField("datetime", ("greater-than",)),
        "updated": FilterField("datetime", ("greater-than",)),
    },
    relationships=("flow-triggers", "profiles", "tags"),
    includes=("flow-triggers", "tags"),
    fields={"list": ("created", "id", "name", "opt_in_process", "updated"), "flow": FLOW_FIELDS, "tag": _TAG_FIELDS},
    additional=("profile_count",),
)

TEMPLATES = Entity(
    name="templates",
    type="template",
    time_field="updated",
    created_field="created",
    page_size=10,
    max_page_size=10,
    sorts=("created", "id", "name", "updated"),
    attributes={
        "name": "",
        "editor_type": "CODE",
        "html": "",
        "text": None,
        "amp": None,
        "created": None,
        "updated": None,
    },
    filters={
        "id": FilterField("string", list=("any", "equals")),
        "name": FilterField("string", ("contains", "equals"), ("any", "equals")),
        "created": FilterField("datetime", ("equals", *TIME_ORDER)),
        "updated": FilterField("datetime", ("equals", *TIME_ORDER)),
    },
    relationships=(),
    fields={"template": ("amp", "created", "definition", "editor_type", "html", "id", "name", "text", "updated")},
    additional=("definition",),
    additional_in_listing=True,
)

ENTITIES: dict[str, Entity] = {entity.name: entity for entity in (FLOWS, CAMPAIGNS, FORMS, SEGMENTS, LISTS, TEMPLATES)}
