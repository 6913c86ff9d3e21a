"""What differs between the revisions of Klaviyo's API, as data: the listings of each that are not as in all others."""

from __future__ import annotations

from collections.abc import Mapping

from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS, FLAT_CAMPAIGNS, Listing
from klaviyo_pipeline.klaviyo.nested_campaigns import CAMPAIGN_STATUSES

LISTINGS: Mapping[str, Mapping[str, Listing]] = {
    "2026-07-15": {"campaigns": FLAT_CAMPAIGNS},
    "2026-10-15": {"campaigns": CAMPAIGNS},
}
"""The listings of each revision that differ, by entity."""

OTHERWISE_STATED: Mapping[str, frozenset[str]] = {
    "campaigns": frozenset({"channels"}),
    "campaign_messages": frozenset({"status", "send_time"}),
}
"""Columns that every revision fills, each in its own sense: another value of another revision is no other state."""


SHARED_WORDS: Mapping[str, Mapping[str, frozenset[str]]] = {"campaigns": {"status": frozenset(CAMPAIGN_STATUSES)}}
"""Columns for which a revision has words that another one does not have, and the words of both."""


def listing_at(revision: str, listing: Listing) -> Listing:
    """How a revision lists the objects of this listing."""
    return LISTINGS[revision].get(listing.entity, listing)
