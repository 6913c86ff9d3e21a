"""Tags, and which flows, campaigns and segments carry them.

A tag's own resource does not tell its objects; asking for them costs a request for each tag and kind of object. The
listings tell the tags of a whole page of objects at once. These listings are not those of the entities: including
tags may need the scope `tags:read` besides, and a key without it must not lose the entities.
"""

from dataclasses import replace

from klaviyo_pipeline.klaviyo.children import ChildKind, related
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS, FLOWS, SEGMENTS, Listing
from klaviyo_pipeline.klaviyo.records import ID, RAW, Column, Shape

TAG = Shape("tag", (Column("id", ID, "text"), Column("name", "name", "text"), Column("raw", RAW, "json")))

OBJECT_TAGS = ChildKind(table="object_tags", parent_column="object_id", shape=TAG, find=related("tags", "tag"))
"""The tags of an object: they hang on it, without being its own."""

TAG_PATH = "/api/tags"
TAG_PARAMS = (("sort", "id"), ("page[size]", "50"))


def _with_tags(listing: Listing) -> Listing:
    """The same listing, of which nothing but ids and tags is read."""
    shape = Shape(listing.resource_type, (Column("id", ID, "text"),))
    return replace(listing, shape=shape, include=("tags",), children=(OBJECT_TAGS,))


TAGGED: dict[str, Listing] = {listing.entity: _with_tags(listing) for listing in (FLOWS, CAMPAIGNS, SEGMENTS)}
"""The listings of everything that carries tags and has a table, by entity."""
