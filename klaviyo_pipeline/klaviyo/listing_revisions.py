"""The listings that differ between the revisions of Klaviyo's API, as data."""

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
"""The listings that are not the same at every revision, by revision and entity."""

OTHERWISE_STATED: Mapping[str, frozenset[str]] = {
    "campaigns": frozenset({"channels"}),
    "campaign_messages": frozenset({"status", "send_time"}),
}
"""Columns, by table, whose meaning depends on the revision. If two states are of different revisions, a difference in
these columns alone does not count as a change."""


SHARED_WORDS: Mapping[str, Mapping[str, frozenset[str]]] = {"campaigns": {"status": frozenset(CAMPAIGN_STATUSES)}}
"""Columns, by table, in which some values exist in one revision only, each with the values that all revisions have.

If two states are of different revisions, such a column is compared only if both of its values are among these.
"""


def listing_at(revision: str, listing: Listing) -> Listing:
    """The version of this listing for a revision."""
    return LISTINGS[revision].get(listing.entity, listing)
