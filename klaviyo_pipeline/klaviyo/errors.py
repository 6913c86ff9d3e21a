"""The exceptions of this package, and a table of what each error response means.

The text of every error is one line. It says what happened and what to do. After a response, it also contains
Klaviyo's id of the request, which Klaviyo's support needs. No error contains the API key.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypedDict, Unpack

from klaviyo_pipeline.klaviyo.escape import escape

LONGEST_DETAIL = 300


def shortened(text: str) -> str:
    """`text`, cut to a length that fits into a one-line message."""
    return text if len(text) <= LONGEST_DETAIL else text[: LONGEST_DETAIL - 1] + "…"


@dataclass(frozen=True)
class Problem:
    """One JSON:API error of a response. `pointer` is the `pointer` of the error's `source`, or else its `parameter`."""

    id: str | None = None
    code: str | None = None
    title: str | None = None
    detail: str | None = None
    pointer: str | None = None

    @property
    def text(self) -> str:
        """The detail of the error, else its title."""
        return self.detail or self.title or ""


class Facts(TypedDict, total=False):
    """The keyword arguments that every error takes: see `KlaviyoError`."""

    request_id: str | None
    status: int | None
    endpoint: str | None


class KlaviyoError(Exception):
    """The base class of all errors.

    `request_id` is Klaviyo's `X-Klaviyo-Req-Id`, `status` the HTTP status, and `endpoint` the name of the operation.
    Each is None if it is unknown, for example without a response. `attempts` counts the attempts that the failed
    request took. An error is `permanent` if it recurs until somebody changes a setting, the key or the account.
    """

    attempts = 1
    permanent: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        request_id: str | None = None,
        status: int | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.status = status
        self.endpoint = endpoint

    def __str__(self) -> str:
        facts = [
            self.endpoint,
            f"HTTP {self.status}" if self.status is not None else None,
            f"Klaviyo request {self.request_id}" if self.request_id else None,
        ]
        details = ", ".join(fact for fact in facts if fact)
        # Klaviyo's text may contain characters that terminals and Postgres do not accept.
        line = escape(" ".join(super().__str__().split()))
        return f"{line} ({details})" if details else line


class BadKey(KlaviyoError):
    """Klaviyo rejects the API key (401), or the key is not well-formed."""

    permanent = True


class Forbidden(KlaviyoError):
    """Klaviyo denies access (403 as JSON): the key lacks a scope, or the account's plan or limits do not allow it."""


class MissingScope(Forbidden):
    """The API key lacks a scope (403 as JSON). `scopes` are the scopes that the response names."""

    permanent = True

    def __init__(self, message: str, *, scopes: tuple[str, ...] = (), **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.scopes = scopes


class RevisionRetired(KlaviyoError):
    """Klaviyo no longer serves the path or the revision (410)."""

    permanent = True


class OtherRevision(KlaviyoError):
    """Klaviyo answered with another revision than the one requested. The answer may have another structure."""


class BadRequest(KlaviyoError):
    """Klaviyo rejects the request as invalid: 400, and every other 4xx that has no error of its own, such as 422.

    `detail` is Klaviyo's description of the error. `pointer` is the part of the request that the error is about.
    """

    permanent = True

    def __init__(
        self,
        message: str,
        *,
        detail: str | None = None,
        pointer: str | None = None,
        **facts: Unpack[Facts],
    ) -> None:
        super().__init__(message, **facts)
        self.detail = detail
        self.pointer = pointer


class CursorExpired(BadRequest):
    """A page cursor has expired: it is valid for about three days. The listing must start again at its first page."""

    permanent = False


class ConversionMetricIneligible(BadRequest):
    """Klaviyo rejects the conversion metric for a report, or for some of the requested statistics."""

    permanent = False  # The report can succeed with another metric, or with fewer statistics.


class NotFound(KlaviyoError):
    """The address does not exist (404).

    `problems` are the JSON:API errors of the response; a response that is not from Klaviyo has none. `observed_at` is
    the time of the observation (UTC).
    """

    def __init__(self, message: str, *, problems: Sequence[Problem] = (), **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.problems = tuple(problems)
        self.observed_at: datetime | None = None

    def denies(self, id: str) -> bool:
        """Whether the response says that the object with this id does not exist.

        In recorded responses, the 404 of a missing object points to `/data/`, and its detail contains the id. One of
        the two is enough, because Klaviyo may change the wording of errors at any time. The 404 of an unknown path has
        the same code, but points to nothing and contains the id only as a part of the path.
        """
        if len(self.problems) != 1 or self.problems[0].code != "not_found":
            return False
        [problem] = self.problems
        named = re.search(rf"(?<![\w/-]){re.escape(id)}(?![\w/-])", problem.text) is not None
        about_data = (problem.pointer or "").strip("/") == "data"
        return named or (about_data and f"/{id}" not in problem.text)


class MalformedAnswer(KlaviyoError):
    """A response that breaks the API's format, for example without JSON, without `data`, or with a record without an
    id. Redirects count too.
    """


class Unavailable(KlaviyoError):
    """A temporary failure that lasted through all attempts of a request, or too many temporary failures in one run.

    Temporary failures are: no connection, a connection that breaks, 408, 5xx, and a block by Klaviyo's edge network.
    """


class Throttled(KlaviyoError):
    """Klaviyo answered 429 even to the last attempt of a request."""


class QuotaSpent(KlaviyoError):
    """An endpoint's limits allow the next request too late for a run to wait for it.

    `returns_at` (UTC) is the time when the limits allow the next request.
    """

    def __init__(self, message: str, *, returns_at: datetime, **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.returns_at = returns_at


class PaginationLoop(KlaviyoError):
    """The pages do not end: a link repeats, many pages contain nothing new, or there are implausibly many."""


class IndistinctObjects(KlaviyoError):
    """A listing may be incomplete: more objects share one second than fit on a page, or a response has no links."""


class Stopped(KlaviyoError):
    """The run was stopped while the client waited for a slot or a retry."""


class InsecureUrl(KlaviyoError):
    """The base URL would send the API key unencrypted, contains a user name or a password, or is not valid."""

    permanent = True


class NoConversionMetric(KlaviyoError):
    """No setting names a conversion metric, and the account has no metric that works in reports."""

    permanent = True


@dataclass(frozen=True)
class Meaning:
    """What a response means: the error to raise, and whether a retry can help.

    `wrong` and `remedy` are parts of the error's text: what happened, and what to do.
    """

    error: type[KlaviyoError]
    retried: bool
    wrong: str
    remedy: str


OTHER_REVISION = Meaning(
    OtherRevision,
    False,
    "Klaviyo answered with another API revision",
    "Set KLAVIYO_REVISION to a revision that Klaviyo serves, or upgrade klaviyo-pipeline.",
)
EDGE_BLOCK = Meaning(
    Unavailable, True, "Klaviyo's edge network blocked the request", "Run again later, or from another network."
)
MALFORMED = Meaning(
    MalformedAnswer, True, "The response is not a valid API response", "Check KLAVIYO_API_URL, then run again."
)
REDIRECTED = Meaning(
    MalformedAnswer, False, "The response is a redirect, which is not followed", "Check KLAVIYO_API_URL."
)
SERVER_ERROR = Meaning(Unavailable, True, "Klaviyo's server failed to process the request", "Run again later.")
REJECTED = Meaning(
    BadRequest,
    False,
    "Klaviyo rejected the request",
    "Check the settings that the message mentions; if it mentions none, report this line.",
)
OLD_CURSOR = Meaning(CursorExpired, False, "The page cursor has expired", "Run again to start from the first page.")
LACKS_SCOPE = Meaning(
    MissingScope,
    False,
    "The API key lacks a scope",
    "You cannot add scopes to an existing key: create a new key with the current scopes and",
)
INELIGIBLE = Meaning(
    ConversionMetricIneligible,
    False,
    "Klaviyo does not support the conversion metric in this report",
    "Set KLAVIYO_CONVERSION_METRIC_ID to the id of another metric, or unset it to have a metric chosen.",
)

BY_STATUS: Mapping[int, Meaning] = {
    401: Meaning(BadKey, False, "Klaviyo does not accept the API key", "Check KLAVIYO_API_KEY."),
    403: Meaning(Forbidden, False, "Klaviyo denied access", "Check the scopes of the key and the plan of the account."),
    404: Meaning(NotFound, False, "The requested address does not exist", "Check the id and KLAVIYO_API_URL."),
    408: SERVER_ERROR,
    410: Meaning(
        RevisionRetired,
        False,
        "Klaviyo no longer serves this address or API revision",
        "Set another KLAVIYO_REVISION, or upgrade klaviyo-pipeline.",
    ),
    429: Meaning(
        Throttled,
        True,
        "Klaviyo's rate limit is exceeded",
        "Another tool may be using the account's quota. Run again later.",
    ),
}


def meaning_of(status: int) -> Meaning:
    """What an error status means in general. The body of a 400 or a 403 can show a more specific meaning."""
    if 300 <= status < 400:
        return REDIRECTED
    return BY_STATUS.get(status, SERVER_ERROR if status >= 500 else REJECTED)
