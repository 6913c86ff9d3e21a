"""The campaigns of revision 2026-10-15 and their parts, as data: how they are requested, and how they are related."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from klaviyo_pipeline.sandbox.entity_kinds import TIME_ORDER, FilterField

_TIMES = FilterField("datetime", TIME_ORDER)

_CAMPAIGN_FIELDS = (
    "created_at",
    "definition",
    "definition.archived",
    "definition.builder",
    "definition.color",
    "definition.description",
    "definition.name",
    "definition.send_settings",
    "definition.send_settings.exit_condition_conversion_metric_id",
    "definition.send_settings.exit_condition_enabled",
    "definition.send_settings.send_passed_rltz_immediately",
    "definition.send_settings.send_strategy",
    "definition.send_settings.send_timezone",
    "id",
    "updated_at",
)
_AUDIENCE_FIELDS = (
    "created",
    "definition",
    "definition.excluded",
    "definition.included",
    "definition.name",
    "definition.priority",
    "id",
    "updated",
)
_MESSAGE_FIELDS = (
    "created",
    "definition",
    "definition.ab_test",
    "definition.ab_test.winner_metric",
    "definition.ab_test.winner_percentage",
    "definition.ab_test.winner_wait_hours",
    "definition.name",
    "definition.send_options",
    "definition.send_options.is_ignoring_unsubscribes",
    "definition.send_options.recipient_percentage",
    "definition.send_options.send_strategy",
    "definition.send_options.send_time",
    "definition.send_options.send_times",
    "definition.send_options.throttle_unit",
    "definition.send_options.throttling_type",
    "definition.status",
    "definition.tracking_options",
    "definition.tracking_options.is_add_utm",
    "definition.tracking_options.is_tracking_clicks",
    "definition.tracking_options.is_tracking_opens",
    "definition.tracking_options.tracking_params",
    "id",
    "updated",
)
_VARIATION_FIELDS = (
    "created",
    "definition",
    "definition.details",
    "definition.details.action_buttons",
    "definition.details.add_info_link",
    "definition.details.add_opt_out_language",
    "definition.details.add_org_prefix",
    "definition.details.android_deep_link",
    "definition.details.badge",
    "definition.details.badge_config",
    "definition.details.badge_value",
    "definition.details.bcc_email",
    "definition.details.body",
    "definition.details.cc_email",
    "definition.details.channel",
    "definition.details.content_available",
    "definition.details.cost",
    "definition.details.dynamic_media_template",
    "definition.details.from_email",
    "definition.details.from_label",
    "definition.details.include_contact_card",
    "definition.details.ios_deep_link",
    "definition.details.kv_pairs",
    "definition.details.message_hierarchy",
    "definition.details.mms_dynamic_image_template",
    "definition.details.mms_static_image_asset_id",
    "definition.details.mutable_content",
    "definition.details.open_action",
    "definition.details.preview_text",
    "definition.details.push_type",
    "definition.details.reply_to_email",
    "definition.details.shorten_links",
    "definition.details.sound",
    "definition.details.sound_file_name",
    "definition.details.static_asset_id",
    "definition.details.subject",
    "definition.details.template_id",
    "definition.details.text_message_type",
    "definition.details.title",
    "definition.details.video_asset_id",
    "definition.details.web_url",
    "definition.name",
    "id",
    "updated",
)
_IMAGE_FIELDS = (
    "format",
    "hidden",
    "id",
    "image_url",
    "name",
    "size",
    "updated_at",
)
_TRANSLATION_FIELDS = (
    "channel",
    "created",
    "fallback_locale",
    "id",
    "metadata",
    "source_locale",
    "target_locales",
    "updated",
)
_TAG_FIELDS = ("id", "name")


@dataclass(frozen=True)
class Relation:
    """A relationship of an object: `type` is the JSON:API type of the target, `kind` its path (None if it has none)."""

    type: str
    kind: str | None
    many: bool = False


@dataclass(frozen=True)
class CampaignKind:
    """One kind of object in the tree of a campaign. Without `page_size` it has no listing.

    Relations in `unnamed` have a path, but are not in resources.
    """

    name: str
    type: str
    fields: tuple[str, ...]
    relations: Mapping[str, Relation]
    includes: tuple[str, ...]
    related_fields: Mapping[str, tuple[str, ...]]
    time_fields: tuple[str, str] = ("created", "updated")
    filters: Mapping[str, FilterField] = field(default_factory=dict)
    sorts: tuple[str, ...] = ()
    page_size: tuple[int, int] | None = None
    unnamed: tuple[str, ...] = ()


_CAMPAIGN = Relation("campaign", "campaigns")
_AUDIENCE = Relation("campaign-audience", "campaign-audiences")
_MESSAGE = Relation("campaign-message", "campaign-messages")
_AUDIENCES = Relation("campaign-audience", "campaign-audiences", many=True)
_MESSAGES = Relation("campaign-message", "campaign-messages", many=True)
_VARIATIONS = Relation("campaign-variation", "campaign-variations", many=True)
_TAGS = Relation("tag", None, many=True)

CAMPAIGNS = CampaignKind(
    name="campaigns",
    type="campaign",
    fields=_CAMPAIGN_FIELDS,
    relations={"campaign-audiences": _AUDIENCES, "campaign-messages": _MESSAGES, "tags": _TAGS},
    includes=("campaign-audiences", "campaign-messages", "tags"),
    related_fields={
        "campaign-audience": _AUDIENCE_FIELDS,
        "campaign-message": _MESSAGE_FIELDS,
        "tag": _TAG_FIELDS,
    },
    time_fields=("created_at", "updated_at"),
    filters={
        "id": FilterField("string", list=("any",)),
        "name": FilterField("string", ("contains",)),
        "archived": FilterField("boolean", ("equals",)),
        "builder": FilterField("string", ("equals",)),
        "created_at": _TIMES,
        "updated_at": _TIMES,
    },
    sorts=("created_at", "id", "name", "updated_at"),
    page_size=(100, 100),
)
AUDIENCES = CampaignKind(
    name="campaign-audiences",
    type="campaign-audience",
    fields=_AUDIENCE_FIELDS,
    relations={"campaign": _CAMPAIGN, "campaign-messages": _MESSAGES},
    includes=("campaign", "campaign-messages"),
    related_fields={"campaign": _CAMPAIGN_FIELDS, "campaign-message": _MESSAGE_FIELDS},
)
MESSAGES = CampaignKind(
    name="campaign-messages",
    type="campaign-message",
    fields=_MESSAGE_FIELDS,
    relations={
        "campaign": _CAMPAIGN,
        "campaign-audience": _AUDIENCE,
        "campaign-variations": _VARIATIONS,
        "tags": _TAGS,
    },
    unnamed=("tags",),
    includes=("campaign", "campaign-variations"),
    related_fields={"campaign": _CAMPAIGN_FIELDS, "campaign-variation": _VARIATION_FIELDS},
    filters={
        "id": FilterField("string", ("equals",), ("any", "equals")),
        "name": FilterField("string", ("contains",)),
        "campaign_id": FilterField("string", ("equals",)),
        "status": FilterField("string", ("equals",)),
        "created": _TIMES,
        "updated": _TIMES,
    },
    sorts=("created", "id", "name", "status", "updated"),
    page_size=(20, 100),
)
VARIATIONS = CampaignKind(
    name="campaign-variations",
    type="campaign-variation",
    fields=_VARIATION_FIELDS,
    relations={
        "campaign-message": _MESSAGE,
        "image": Relation("image", None),
        "translation": Relation("translation", None),
    },
    includes=("campaign-message", "image", "translation"),
    related_fields={
        "campaign-message": _MESSAGE_FIELDS,
        "image": _IMAGE_FIELDS,
        "translation": _TRANSLATION_FIELDS,
    },
)
CAMPAIGN_KINDS: dict[str, CampaignKind] = {kind.name: kind for kind in (CAMPAIGNS, AUDIENCES, MESSAGES, VARIATIONS)}
