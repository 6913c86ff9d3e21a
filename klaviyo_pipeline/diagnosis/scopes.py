"""Which scopes the key has: one small request for each that the assets need.

The reports are not asked, since their quota is small; their scope is that of the flows. Without that of the tags
everything but the tags is synced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from klaviyo_pipeline.catalog import ENTITIES
from klaviyo_pipeline.diagnosis.findings import Finding, Secrets, failed, ok, warning
from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.errors import Forbidden, KlaviyoError, MissingScope
from klaviyo_pipeline.klaviyo.listings import Listing, ListingQuery
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.tags import TAGS

METRICS = rates.GET_MAPPED_METRIC
LISTED = (*ENTITIES.values(), TAGS)


def scope_checks() -> list[str]:
    """The names of the checks, that of the account first."""
    return [_check(endpoint) for endpoint in (rates.GET_ACCOUNTS, *_listing_endpoints(), METRICS)]


def scope_findings(
    client: KlaviyoClient, account_refused: Forbidden | None, secrets: Secrets, now: datetime
) -> list[Finding]:
    """One finding for each of `scope_checks`; the account's is known to the caller already."""
    requested: list[tuple[Endpoint, KlaviyoError | None]] = [(rates.GET_ACCOUNTS, account_refused)]
    for listing in LISTED:
        requested.append((listing.list_endpoint, _trouble(partial(_first_object, client, listing, now))))
    requested.append((METRICS, _trouble(client.mapped_metric)))
    return [_finding(endpoint, trouble, secrets) for endpoint, trouble in requested]


def _trouble(probe: Callable[[], object]) -> KlaviyoError | None:
    try:
        probe()
    except KlaviyoError as error:
        return error
    return None


def _first_object(client: KlaviyoClient, listing: Listing, now: datetime) -> object:
    return next(client.pages(listing, _smallest(listing, now)))


def _smallest(listing: Listing, now: datetime) -> ListingQuery:
    """The first of the entity's listings, one object a page."""
    return replace(listing.queries(None, None, now)[0], page_size=1)


def _finding(endpoint: Endpoint, trouble: KlaviyoError | None, secrets: Secrets) -> Finding:
    if trouble is None:
        return ok(_check(endpoint), "the key has it")
    message = secrets.reported(trouble)
    found, remedy = message, ""
    if isinstance(trouble, MissingScope):
        found, remedy = f"the key lacks it: {message}", f"create a key with {', '.join(trouble.scopes)}"
    if isinstance(trouble, Forbidden) and endpoint is TAGS.list_endpoint:
        return warning(_check(endpoint), f"tags are not synced: {found}", remedy)
    return failed(_check(endpoint), found, remedy)


def _listing_endpoints() -> list[Endpoint]:
    return [listing.list_endpoint for listing in LISTED]


def _check(endpoint: Endpoint) -> str:
    return f"scope {', '.join(endpoint.scopes)}"
