"""The entities that are synced, in the order in which they are told. What is here has assets, checks, jobs, commands.

`docs/extend.md` shows how another one is added: a file that declares it, a line here, and a migration.
"""

from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS, FLOWS, FORMS, SEGMENTS, Listing
from klaviyo_pipeline.klaviyo.rates import Endpoint

ENTITIES = (
    FLOWS,
    CAMPAIGNS,
    FORMS,
    SEGMENTS,
)

LISTINGS: dict[str, Listing] = {listing.entity: listing for listing in ENTITIES}

ENDPOINTS: dict[str, Endpoint] = rates.ENDPOINTS | {
    endpoint.name: endpoint for listing in ENTITIES for endpoint in (listing.list_endpoint, listing.get_endpoint)
}
"""Every operation that we call, by name."""
