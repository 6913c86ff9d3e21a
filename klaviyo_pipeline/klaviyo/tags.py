"""Tags, and the flows, campaigns and segments that have them.

The resource of a tag does not contain its objects, and listing them takes one request for each tag and type of object.
A full listing of flows, campaigns or segments contains the tags of its objects without further requests. Windows do not
request tags, because adding a tag to an object does not change its `updated`.
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
"""The tags of an object, as its children. Unlike other child objects, a tag can belong to several objects."""


TAGGED = frozenset(listing.entity for listing in (FLOWS, CAMPAIGNS, SEGMENTS))
"""The entities whose tags are stored. The tags of lists are not."""


def with_tags(listing: Listing) -> Listing:
    """The same listing, including the tags of its objects if their entity is in `TAGGED`.

    Tags are not part of an object's state, so `raw` does not contain them. Klaviyo may require the scope `tags:read` in
    addition to the scope of the entity.
    """
    if listing.entity not in TAGGED:
        return listing
    return replace(listing, include=(*listing.include, "tags"), children=(*listing.children, OBJECT_TAGS))
