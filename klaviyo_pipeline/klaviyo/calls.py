"""A request, its answer, and the log record of each attempt."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer
from klaviyo_pipeline.klaviyo.rates import Endpoint


@dataclass(frozen=True)
class Call:
    """A request.

    `body` is sent as JSON. `data_kind` is the required type of the answer's `data`. With `exact`, numbers with a
    fraction or an exponent become Decimal.
    """

    endpoint: Endpoint
    url: str
    params: tuple[tuple[str, str], ...] = ()
    body: dict[str, object] | None = None
    data_kind: type = list
    exact: bool = False

    @property
    def method(self) -> str:
        """POST with a body, else GET. Queries of reports and metric aggregates have a body."""
        return "GET" if self.body is None else "POST"

    def at(self, url: str) -> "Call":
        """The same request to another address, which already contains all query parameters."""
        return replace(self, url=url, params=())


@dataclass(frozen=True)
class Answer:
    """The answer to a request. For `clean` and `rows`, see `Document`.

    `observed_at` is the time of the observation (UTC). `attempts` is the number of attempts that the request took.
    """

    body: dict[str, object]
    clean: bool
    rows: int
    observed_at: datetime
    attempts: int = 1
    request_id: str | None = None


@contextmanager
def with_request_info(answer: Answer, endpoint: Endpoint) -> Iterator[None]:
    """Completes a `MalformedAnswer` that code in this block raises about the content of `answer`.

    Adds what to do, the endpoint and Klaviyo's id of the request.
    """
    try:
        yield
    except MalformedAnswer as error:
        error.args = (f"{error.args[0]} Run again later; if the error persists, report this line.",)
        error.endpoint, error.request_id = endpoint.name, answer.request_id
        raise


@dataclass(frozen=True)
class RequestRecord:
    """One attempt, for logs and statistics.

    `status` is None without a response. `rows` counts the resources or report results in the response.
    `waited_seconds` is the backoff before the attempt and the wait for its slot. `retried_because` is the reason of
    the retry, None for the first attempt.
    """

    endpoint: str
    method: str
    status: int | None
    milliseconds: int
    rows: int
    request_id: str | None
    attempt: int
    waited_seconds: float
    retried_because: str | None
