"""What a request is, what its answer is, and what is noted of each attempt."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer
from klaviyo_pipeline.klaviyo.rates import Endpoint


@dataclass(frozen=True)
class Call:
    """A request.

    `body` is sent as JSON, `data_kind` is what the answer's `data` must be, `exact` reads figures as Decimal.
    """

    endpoint: Endpoint
    url: str
    params: tuple[tuple[str, str], ...] = ()
    body: dict[str, object] | None = None
    data_kind: type = list
    exact: bool = False

    @property
    def method(self) -> str:
        """A request with a body is a query of a report."""
        return "GET" if self.body is None else "POST"

    def at(self, url: str) -> "Call":
        """The same request at another address, whose query is complete."""
        return replace(self, url=url, params=())


@dataclass(frozen=True)
class Answer:
    """What was answered, when it was observed (UTC), and the attempts it took."""

    body: dict[str, object]
    clean: bool
    rows: int
    observed_at: datetime
    attempts: int = 1
    request_id: str | None = None


@contextmanager
def with_request_info(answer: Answer, endpoint: Endpoint) -> Iterator[None]:
    """Names the request in a `MalformedAnswer` about what it brought."""
    try:
        yield
    except MalformedAnswer as error:
        error.endpoint, error.request_id = endpoint.name, answer.request_id
        raise


@dataclass(frozen=True)
class RequestRecord:
    """One attempt, for logs and statistics.

    `status` is None without an answer; `rows` counts the resources or results in it; `waited_seconds` is
    the time spent waiting for leave to send; `retried_because` says what failed before, None on a first
    attempt.
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
