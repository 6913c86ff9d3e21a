"""Checks the scopes of the key, with one small request for each scope that the assets need.

No report is requested, because the report quota is small. Reports need only the scopes of entities and metrics. A key
without the scope for tags syncs everything but tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from klaviyo_pipeline.catalog import ENTITIES, of_account
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.diagnosis.findings import Finding, Secrets, failed, ok, warning
from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.errors import Forbidden, KlaviyoError, MissingScope
from klaviyo_pipeline.klaviyo.listing_query import ListingQuery
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.tags import TAGS

METRICS = rates.GET_MAPPED_METRIC
LISTED = {**ENTITIES, TAGS.entity: TAGS}
"""The listings whose scopes are checked, by asset."""


def scope_checks(account: Account) -> list[str]:
    """The names of the checks. The scope of the account is checked first, and the scope of metrics last."""
    listed = [listing.list_endpoint for listing in of_account(LISTED, account).values()]
    return [_check(endpoint) for endpoint in (rates.GET_ACCOUNTS, *listed, METRICS)]


def scope_findings(
    client: KlaviyoClient, account: Account, account_refused: Forbidden | None, secrets: Secrets, now: datetime
) -> list[Finding]:
    """One finding for each of `scope_checks`.

    The caller has already requested the account. `account_refused` is the error of this request, if Klaviyo refused it.
    """
    requested: list[tuple[Endpoint, KlaviyoError | None]] = [(rates.GET_ACCOUNTS, account_refused)]
    for newest in of_account(LISTED, account).values():
        listing = listing_at(account.revision, newest)
        requested.append((listing.list_endpoint, _error(partial(_first_object, client, listing, now))))
    requested.append((METRICS, _error(client.mapped_metric)))
    scopes = sorted({scope for endpoint, _ in requested for scope in endpoint.scopes})
    return [_finding(endpoint, error, secrets, scopes) for endpoint, error in requested]


def _error(probe: Callable[[], object]) -> KlaviyoError | None:
    try:
        probe()
    except KlaviyoError as error:
        return error
    return None


def _first_object(client: KlaviyoClient, listing: Listing, now: datetime) -> object:
    return next(client.pages(listing, _smallest(listing, now)))


def _smallest(listing: Listing, now: datetime) -> ListingQuery:
    """The first listing query of the entity, with one object per page."""
    return replace(listing.queries(None, None, now)[0], page_size=1)


def _finding(endpoint: Endpoint, error: KlaviyoError | None, secrets: Secrets, scopes: Sequence[str]) -> Finding:
    """The finding of one check. A scope cannot be added to a key, so the remedy is a new key with all `scopes`."""
    if error is None:
        return ok(_check(endpoint), "granted to the key")
    message = secrets.one_line(error)
    found, remedy = message, ""
    if isinstance(error, MissingScope):
        found, remedy = f"the key lacks this scope: {message}", f"create a key with {', '.join(scopes)}"
    if isinstance(error, Forbidden) and endpoint is TAGS.list_endpoint:
        return warning(_check(endpoint), f"tags are not synced: {found}", remedy)
    return failed(_check(endpoint), found, remedy)


def _check(endpoint: Endpoint) -> str:
    return f"scope {', '.join(endpoint.scopes)}"
