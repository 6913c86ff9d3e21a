"""What can go wrong with a request, as a tree of exceptions, and one table of what each answer means.

Every error reads as one line: what is wrong, what to do, and Klaviyo's own id of the request, which their
support asks for. No error ever carries the API key.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from klaviyo_pipeline.klaviyo.escape import escape

LONGEST_DETAIL = 300


def shortened(text: str) -> str:
    """Somebody else's words, cut to what one line can hold."""
    return text if len(text) <= LONGEST_DETAIL else text[: LONGEST_DETAIL - 1] + "…"


@dataclass(frozen=True)
class Problem:
    """One JSON:API error of an answer. `pointer` is the pointer or the parameter of its `source`."""

    id: str | None = None
    code: str | None = None
    title: str | None = None
    detail: str | None = None
    pointer: str | None = None

    @property
    def words(self) -> str:
        """What it says."""
        return self.detail or self.title or ""


class KlaviyoError(Exception):
    """The root of the tree.

    `request_id` is Klaviyo's `X-Klaviyo-Req-Id`, `status` the HTTP status, `endpoint` the operation's name;
    each is None where there is none, as when no answer came at all. `attempts` counts the requests that were sent.
    """

    attempts = 1

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
        # Klaviyo's words may hold characters that neither a terminal nor Postgres takes.
        line = escape(" ".join(super().__str__().split()))
        return f"{line} ({details})" if details else line


class BadKey(KlaviyoError):
    """Klaviyo does not know the API key (401), or the key cannot be one."""


class Forbidden(KlaviyoError):
    """Klaviyo refuses this to the key or to the account (403 as JSON): a scope, a plan, an entitlement, a limit."""


class MissingScope(Forbidden):
    """The key lacks a scope (403 as JSON). `scopes` are those that the answer names."""

    def __init__(
        self,
        message: str,
        *,
        scopes: tuple[str, ...] = (),
        request_id: str | None = None,
        status: int | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id, status=status, endpoint=endpoint)
        self.scopes = scopes


class RevisionRetired(KlaviyoError):
    """The path or the revision is no longer served (410)."""


class OtherRevision(KlaviyoError):
    """Klaviyo answered as another revision than the one requested: the answer has another shape."""


class BadRequest(KlaviyoError):
    """Klaviyo refuses the request as it is written (400, 405, 409, 422).

    `detail` is Klaviyo's sentence, `pointer` the place in the request that it complains about.
    """

    def __init__(
        self,
        message: str,
        *,
        detail: str | None = None,
        pointer: str | None = None,
        request_id: str | None = None,
        status: int | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id, status=status, endpoint=endpoint)
        self.detail = detail
        self.pointer = pointer


class CursorExpired(BadRequest):
    """A page cursor is no longer good: they live about three days. The listing must start again."""


class ConversionMetricIneligible(BadRequest):
    """Klaviyo refuses the conversion metric for a report, or for some of the statistics that were asked for."""


class NotFound(KlaviyoError):
    """Nothing is at that address (404).

    `problems` are the errors of the answer, none where it was not Klaviyo who answered. `observed_at` (UTC) is the
    time of that observation.
    """

    def __init__(
        self,
        message: str,
        *,
        problems: Sequence[Problem] = (),
        request_id: str | None = None,
        status: int | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id, status=status, endpoint=endpoint)
        self.problems = tuple(problems)
        self.observed_at: datetime | None = None

    def denies(self, id: str) -> bool:
        """Whether Klaviyo says that the object of this id does not exist.

        In recordings the 404 of an object points to `/data/` and its detail has the id. That of a path has the same
        code, no source, and the id as a part of the path at most.
        """
        if len(self.problems) != 1:
            return False
        [problem] = self.problems
        named = re.search(rf"(?<![\w/-]){re.escape(id)}(?![\w/-])", problem.words)
        return problem.code == "not_found" and (problem.pointer or "").strip("/") == "data" and named is not None


class MalformedAnswer(KlaviyoError):
    """A success that is not what the API promises: no JSON, no `data`, a record without an id."""


class Unavailable(KlaviyoError):
    """Passing trouble that did not pass: no connection, a broken answer, 5xx, a challenge by the edge."""


class Throttled(KlaviyoError):
    """Klaviyo kept answering 429 for longer than one request may wait."""


class QuotaSpent(KlaviyoError):
    """The quota is spent for longer than a run should wait. `returns_at` (UTC) is when to ask again."""

    def __init__(
        self,
        message: str,
        *,
        returns_at: datetime,
        request_id: str | None = None,
        status: int | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id, status=status, endpoint=endpoint)
        self.returns_at = returns_at


class PaginationLoop(KlaviyoError):
    """A listing leads back to a page that it has shown already, or has more pages than can be true."""


class IndistinctObjects(KlaviyoError):
    """More objects share a second than a page has, or an answer lacks its links: some of a listing may be missing."""


class Stopped(KlaviyoError):
    """The run was asked to stop while the client was waiting."""


class InsecureUrl(KlaviyoError):
    """The base URL would send the API key where it must not go."""


class NoConversionMetric(KlaviyoError):
    """The account tells no metric for conversions, and none was named."""


@dataclass(frozen=True)
class Meaning:
    """What an answer means: the error, whether asking again can help, and the words for it."""

    error: type[KlaviyoError]
    retried: bool
    wrong: str
    remedy: str


OTHER_REVISION = Meaning(
    OtherRevision,
    False,
    "Klaviyo answers as another API revision",
    "Set KLAVIYO_REVISION to a revision that Klaviyo serves, or upgrade klaviyo_pipeline.",
)
NO_ANSWER = Meaning(Unavailable, True, "Klaviyo cannot be reached", "Check the network, then run again.")
EDGE_BLOCK = Meaning(
    Unavailable, True, "Klaviyo's edge blocks the request", "Run again later, or from another network."
)
MALFORMED = Meaning(
    MalformedAnswer, True, "The answer is not what the API promises", "Check KLAVIYO_API_URL, then run again."
)
REDIRECTED = Meaning(MalformedAnswer, False, "The answer is a redirect that is not followed", "Check KLAVIYO_API_URL.")
SERVER_TROUBLE = Meaning(Unavailable, True, "Klaviyo has trouble", "Run again later.")
REFUSED = Meaning(BadRequest, False, "Klaviyo refuses the request", "Check the settings that it speaks of.")
OLD_CURSOR = Meaning(CursorExpired, False, "The page cursor is no longer good", "Start the listing again.")
LACKS_SCOPE = Meaning(MissingScope, False, "The API key may not do this", "Create a key with the scope")
INELIGIBLE = Meaning(
    ConversionMetricIneligible,
    False,
    "The conversion metric gives no report figures",
    "Set KLAVIYO_CONVERSION_METRIC_ID to another metric's id.",
)

BY_STATUS: Mapping[int, Meaning] = {
    401: Meaning(BadKey, False, "Klaviyo does not accept the API key", "Check KLAVIYO_API_KEY."),
    403: Meaning(
        Forbidden, False, "Klaviyo forbids this", "Check what the key may do and what the account's plan includes."
    ),
    404: Meaning(NotFound, False, "Klaviyo finds nothing there", "Check the id and KLAVIYO_API_URL."),
    408: SERVER_TROUBLE,
    410: Meaning(
        RevisionRetired,
        False,
        "Klaviyo no longer serves this",
        "Set a newer KLAVIYO_REVISION, or upgrade klaviyo_pipeline.",
    ),
    429: Meaning(Throttled, True, "Klaviyo asks to slow down", "Another tool may be using the account's quota."),
}


def meaning_of(status: int) -> Meaning:
    """What a status that is no success means; the words of a 400 and the body of a 403 may tell more."""
    if 300 <= status < 400:
        return REDIRECTED
    return BY_STATUS.get(status, SERVER_TROUBLE if status >= 500 else REFUSED)
