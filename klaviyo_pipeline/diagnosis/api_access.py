"""Whether Klaviyo answers at the configured address, asked without a key: who has none yet learns this much."""

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
from klaviyo_pipeline.klaviyo.proxy_settings import UnusableProxy, proxy_errors

CHECK = "Klaviyo's address"
TIMEOUT = httpx.Timeout(10.0)
HALF_A_SECOND = timedelta(milliseconds=500)
"""A `Date` header is cut to the second: on average it lies half of one in the past."""

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Reached:
    """`answers` tells whether it is worth asking on; `ahead` is by how much Klaviyo's clock goes before ours."""

    finding: Finding
    answers: bool = False
    ahead: timedelta | None = None


def reach(account: Account, secrets: Secrets, clock: Clock) -> Reached:
    """Ask for the account without a key: Klaviyo's own 401 says that it is there, and what time it is there."""
    try:
        origin = Origin(account.api_url)
    except InsecureUrl as error:
        return Reached(failed(CHECK, str(error)))
    before = clock()
    try:
        with proxy_errors():
            answer = httpx.get(
                origin.url("/api/accounts"),
                headers={"revision": account.revision, "accept": "application/vnd.api+json"},
                timeout=TIMEOUT,
                follow_redirects=False,
                trust_env=origin.encrypted,
            )
    except UnusableProxy as error:
        return Reached(failed(CHECK, str(error)))
    except httpx.HTTPError as error:
        return Reached(
            failed(CHECK, f"{account.api_url} cannot be reached: {secrets.reported(error)}", "check KLAVIYO_API_URL")
        )
    after = clock()
    if not _is_klaviyo(answer):
        return Reached(
            failed(
                CHECK,
                f"{account.api_url} answers with HTTP {answer.status_code}, and not as Klaviyo's API does",
                "check KLAVIYO_API_URL; if it is right, Klaviyo has trouble or a proxy stands between",
            )
        )
    return Reached(ok(CHECK, f"{account.api_url} answers"), True, _ahead(answer, before + (after - before) / 2))


def _is_klaviyo(answer: httpx.Response) -> bool:
    if answer.status_code >= 500 or answer.is_redirect:
        return False
    try:
        body = answer.json()
    except ValueError:
        return False
    return isinstance(body, dict) and not body.keys().isdisjoint({"errors", "data", "message"})


def _ahead(answer: httpx.Response, ours: datetime) -> timedelta | None:
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return None
    return (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)) + HALF_A_SECOND - ours
