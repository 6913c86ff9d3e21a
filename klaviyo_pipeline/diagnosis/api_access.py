"""Checks that Klaviyo's API responds at the configured URL. The check needs no API key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.diagnosis.findings import Finding, Secrets, failed, ok
from klaviyo_pipeline.klaviyo.errors import InsecureUrl
from klaviyo_pipeline.klaviyo.origin import Origin
from klaviyo_pipeline.klaviyo.proxy_settings import UnusableProxy, proxy_errors, proxy_variable, where_to_look

CHECK = "Klaviyo API"
TIMEOUT = httpx.Timeout(10.0)
HALF_A_SECOND = timedelta(milliseconds=500)
"""A `Date` header is truncated to the second, so on average it is half a second behind the server's clock."""

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Reached:
    """The result of a request without a key.

    `responds` says whether further requests make sense. `ahead` is how far Klaviyo's clock is ahead of this machine's;
    None if Klaviyo's time is not known.
    """

    finding: Finding
    responds: bool = False
    ahead: timedelta | None = None


def reach(account: Account, secrets: Secrets, clock: Clock) -> Reached:
    """Request the account without a key. Klaviyo's 401 shows that the API responds. Its `Date` header has the time."""
    try:
        origin = Origin(account.api_url)
    except InsecureUrl as error:
        return Reached(failed(CHECK, str(error)))
    before = clock()
    try:
        with proxy_errors():
            response = httpx.get(
                origin.url("/api/accounts"),
                headers={"revision": account.revision, "accept": "application/vnd.api+json"},
                timeout=TIMEOUT,
                follow_redirects=False,
                trust_env=origin.encrypted,
            )
    except UnusableProxy as error:
        return Reached(failed(CHECK, str(error)))
    except httpx.HTTPError as error:
        to_check = where_to_look(error, proxy_variable() if origin.encrypted else None)
        return Reached(
            failed(
                CHECK,
                f"{account.api_url} cannot be reached: {secrets.one_line(error)}",
                f"check {to_check}, and KLAVIYO_API_URL if it is set",
            )
        )
    after = clock()
    if not _is_klaviyo(response):
        return Reached(
            failed(
                CHECK,
                f"{account.api_url} responds with HTTP {response.status_code}, but not as Klaviyo's API does",
                "check KLAVIYO_API_URL; if it is correct, Klaviyo has an outage, or a proxy answers instead",
            )
        )
    return Reached(ok(CHECK, f"{account.api_url} responds"), True, _ahead(response, before + (after - before) / 2))


def _is_klaviyo(response: httpx.Response) -> bool:
    if response.status_code >= 500 or response.is_redirect:
        return False
    try:
        body = response.json()
    except ValueError:
        return False
    return isinstance(body, dict) and not body.keys().isdisjoint({"errors", "data", "message"})


def _ahead(response: httpx.Response, ours: datetime) -> timedelta | None:
    try:
        theirs = parsedate_to_datetime(response.headers["date"])
    except (KeyError, ValueError):
        return None
    return (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)) + HALF_A_SECOND - ours
