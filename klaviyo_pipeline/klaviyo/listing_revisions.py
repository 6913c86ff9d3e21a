"""The differences between the revisions of Klaviyo's API, as data: the listings that are not the same in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from klaviyo_pipeline.klaviyo.channels import LISTED_CHANNELS, lookup_channel
from klaviyo_pipeline.klaviyo.filters import Condition
from klaviyo_pipeline.klaviyo.flat_campaigns import FLAT_AUDIENCES, FLAT_CAMPAIGN_SHAPE, FLAT_MESSAGES
from klaviyo_pipeline.klaviyo.listings import BY_ARCHIVED, CAMPAIGNS, Listing, Variant
from klaviyo_pipeline.klaviyo.nested_campaigns import CAMPAIGN_STATUSES


def _by_channel() -> tuple[Variant, ...]:
    return tuple(
        Variant(
            f"{channel}, {variant.name}",
            (Condition("equals", "messages.channel", channel), *variant.conditions),
            stamp=channel,
            leaves_out=variant.leaves_out,
        )
        for channel in LISTED_CHANNELS
        for variant in BY_ARCHIVED
    )


FLAT_CAMPAIGNS = replace(
    CAMPAIGNS,
    variants=_by_channel(),
    shape=FLAT_CAMPAIGN_SHAPE,
    include=("campaign-messages",),
    children=(FLAT_AUDIENCES, FLAT_MESSAGES),
    lookup_request_value=lookup_channel,
    messages=None,
    precedence={"channel": LISTED_CHANNELS},
)

LISTINGS: Mapping[str, Mapping[str, Listing]] = {
    "2026-07-15": {"campaigns": FLAT_CAMPAIGNS},
    "2026-10-15": {"campaigns": CAMPAIGNS},
}
"""For each revision, the listings that differ from other revisions, by entity."""

OTHERWISE_STATED: Mapping[str, frozenset[str]] = {
    "campaigns": frozenset({"channels"}),
    "campaign_messages": frozenset({"status", "send_time"}),
}
"""Columns that mean something else at each revision: if only they and the revision differ, the state is the same."""


SHARED_WORDS: Mapping[str, Mapping[str, frozenset[str]]] = {"campaigns": {"status": frozenset(CAMPAIGN_STATUSES)}}
"""Columns with values that only one revision has, and the values that both revisions have."""


def listing_at(revision: str, listing: Listing) -> Listing:
    """How a revision lists the objects of this listing."""
    return LISTINGS[revision].get(listing.entity, listing)
