"""Tags, and the flows, campaigns and segments that have them.

A tag's own resource does not contain its objects, and listing them costs a request for each tag and kind of object. The
full listings contain the tags of a whole page of objects, without more requests. Windows do not request tags: adding a
tag to an object does not change its `updated`.
"""

from dataclasses import replace

from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.children import ChildKind, related
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS, FLOWS, SEGMENTS, Listing, Variant
from klaviyo_pipeline.klaviyo.records import ID, RAW, Column, Shape

TAGS = Listing(
    entity="tags",
    path="/api/tags",
    page_size=50,
    time_field=None,
    variants=(Variant("all"),),
    shape=Shape("tag", (Column("id", ID, "text"), Column("name", "name", "text"), Column("raw", RAW, "json"))),
    list_endpoint=rates.GET_TAGS,
    get_endpoint=rates.GET_TAG,
    page=None,
)

OBJECT_TAGS = ChildKind(table="object_tags", parent_column="object_id", shape=TAGS.shape, find=related("tags", "tag"))
"""The tags of an object. An object refers to tags; several objects can have the same tag."""


TAGGED = frozenset(listing.entity for listing in (FLOWS, CAMPAIGNS, SEGMENTS))
"""Every entity whose tags are stored. Those of lists are not."""


def with_tags(listing: Listing) -> Listing:
    """The listing that includes the tags of its objects, if they can have any. Tags are not part of an object's state,
    so `raw` does not contain them. Klaviyo may require the scope of `TAGS` besides the entity's own.
    """
    if listing.entity not in TAGGED:
        return listing
    return replace(listing, include=(*listing.include, "tags"), children=(*listing.children, OBJECT_TAGS))
