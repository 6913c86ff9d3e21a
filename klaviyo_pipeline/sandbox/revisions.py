"""The revisions that the sandbox serves, and the choice of the revision that answers a request."""

from __future__ import annotations

import re
from datetime import date

from klaviyo_pipeline.sandbox.api_errors import ApiError, GoneError, bad_parameter
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount

OLDER, NEWEST = date(2026, 7, 15), date(2026, 10, 15)
SERVED = (OLDER, NEWEST)

OPT_OUT = "X-Klaviyo-Revision-Fall-Forward-Opt-Out"
"""With the value `1`, this request header refuses answers of a later revision."""

_REVISION = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)


def answering_revision(header: str | None, opt_out: str | None, account: SandboxAccount) -> date:
    """The revision that answers a request with this `revision` header.

    A retired revision falls forward to the oldest one that is served. Raises `GoneError` if it must not fall forward,
    and `ApiError` 400 if the header is missing or names a revision that the sandbox does not know.
    """
    requested = _read(header)
    served = [revision for revision in SERVED if revision.isoformat() not in account.retired_revisions]
    if requested in served:
        return requested
    if requested not in SERVED and (requested > NEWEST or retirement(requested) > account.clock().date()):
        raise _unknown(f"There is no revision '{header}'.")
    if opt_out == "1" or not account.falls_forward or not served:
        raise GoneError(f"Revision {requested.isoformat()} has been retired. Please use a current revision.")
    return served[0]


def retirement(revision: date) -> date:
    """The first day on which a revision is no longer served: two years after its own date."""
    try:
        return revision.replace(year=revision.year + 2)
    except ValueError:
        return revision.replace(year=revision.year + 2, month=3, day=1)


def _read(header: str | None) -> date:
    if header is None:
        raise _unknown("The 'revision' header is required.")
    try:
        return date.fromisoformat(header if _REVISION.match(header) else "")
    except ValueError:
        raise _unknown(f"'{header}' is not a revision (YYYY-MM-DD).") from None


def _unknown(detail: str) -> ApiError:
    return bad_parameter("revision", detail)
