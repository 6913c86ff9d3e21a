"""The reports as data: what each may be asked, as the API's own description has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from klaviyo_pipeline.sandbox.entity_kinds import FilterField

INTERVALS = ("daily", "hourly", "monthly", "weekly")
SEND_CHANNELS = ("email", "sms", "push-notification", "whatsapp")

_SCALAR = FilterField("string", ("equals",), ("contains-any",))
_LISTED = FilterField("string", (), ("contains-any", "contains-all"))
_CHANNEL = FilterField("string", ("equals",), ("contains-any",), values=SEND_CHANNELS)
_ANY = FilterField("string", ("equals",), ("any",))


@dataclass(frozen=True)
class ReportKind:
    """What the reports of one kind (flow, campaign, form, segment) have in common.

    `prerequisites`: a `group_by` member, and the one that must stand beside it.
    """

    kind: str
    group_by: tuple[str, ...]
    default_group_by: tuple[str, ...]
    required_group_by: tuple[str, ...]
    prerequisites: Mapping[str, str]
    filters: Mapping[str, FilterField]
    needs_conversion_metric: bool
    paged: bool
    earliest: str | None = None


_SEND_FILTERS = {
    "send_channel": _CHANNEL,
    "text_message_format": _SCALAR,
    "variation": _SCALAR,
    "variation_name": _SCALAR,
    "tag_id": _LISTED,
    "tag_name": _LISTED,
}

FLOW = ReportKind(
    kind="flow",
    group_by=(
        "flow_id",
        "flow_message_id",
        "flow_message_name",
        "flow_name",
        "send_channel",
        "tag_id",
        "tag_name",
        "text_message_format",
        "variation",
        "variation_name",
    ),
    default_group_by=("flow_id", "flow_message_id", "send_channel"),
    required_group_by=("flow_id", "flow_message_id"),
    prerequisites={},
    filters={
        "flow_id": _SCALAR,
        "flow_name": _SCALAR,
        "flow_message_id": _SCALAR,
        "flow_message_name": _SCALAR,
        **_SEND_FILTERS,
    },
    needs_conversion_metric=True,
    paged=True,
)

CAMPAIGN = ReportKind(
    kind="campaign",
    group_by=(
        "campaign_id",
        "campaign_message_id",
        "campaign_message_name",
        "group",
        "group_name",
        "send_channel",
        "tag_id",
        "tag_name",
        "text_message_format",
        "variation",
        "variation_name",
    ),
    default_group_by=("campaign_id", "campaign_message_id", "send_channel"),
    required_group_by=("campaign_id", "campaign_message_id"),
    prerequisites={},
    filters={
        "campaign_id": _SCALAR,
        "campaign_message_id": _SCALAR,
        "campaign_message_name": _SCALAR,
        **_SEND_FILTERS,
    },
    needs_conversion_metric=True,
    paged=True,
)

FORM = ReportKind(
    kind="form",
    group_by=("form_id", "form_version_id"),
    default_group_by=("form_id",),
    required_group_by=(),
    prerequisites={"form_version_id": "form_id"},
    filters={"form_id": _ANY, "form_version_id": _ANY},
    needs_conversion_metric=False,
    paged=False,
)

SEGMENT = ReportKind(
    kind="segment",
    group_by=(),
    default_group_by=("segment_id",),
    required_group_by=(),
    prerequisites={},
    filters={"segment_id": _ANY},
    needs_conversion_metric=False,
    paged=False,
    earliest="2023-06-01T00:00:00",
)


@dataclass(frozen=True)
class Report:
    """One report endpoint: a kind, as a series by interval or as one value for the whole time frame."""

    kind: ReportKind
    series: bool

    @property
    def type(self) -> str:
        return f"{self.kind.kind}-{'series' if self.series else 'values'}-report"

    @property
    def fields(self) -> tuple[str, ...]:
        return ("date_times", "id", "results") if self.series else ("id", "results")


# Campaigns have no series.
REPORTS: tuple[Report, ...] = (
    Report(FLOW, series=True),
    Report(FLOW, series=False),
    Report(CAMPAIGN, series=False),
    Report(FORM, series=True),
    Report(FORM, series=False),
    Report(SEGMENT, series=True),
    Report(SEGMENT, series=False),
)
