"""Sends a request, and retries it until it succeeds or fails for good.

Every attempt reserves its own slot and is logged. The time of the slot is the observation time of the data in the
response.
"""

import json
import logging
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

import httpx

from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.klaviyo.answers import (
    Fault,
    UnreadableError,
    fault_of,
    malformed,
    no_answer,
    other_revision,
    read_document,
    request_id,
)
from klaviyo_pipeline.klaviyo.calls import Answer, Call, RequestRecord
from klaviyo_pipeline.klaviyo.errors import BadKey, NotFound, RevisionRetired, Stopped, Throttled, Unavailable
from klaviyo_pipeline.klaviyo.origin import Origin
from klaviyo_pipeline.klaviyo.pacing import Pacer, quota_spent
from klaviyo_pipeline.klaviyo.proxy_settings import proxy_errors, proxy_variable
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.retry import FailureBudget, RetryPolicy, daily_wait

JSON_API = "application/vnd.api+json"
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
LONGEST_BODY_SECONDS = 300.0
"""The longest time that the body of a response may take. The timeout of httpx starts again with each part of a body, so
a body that trickles in would never end. Klaviyo's longest answers take seconds."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Try:
    """An attempt to send. `because` is the reason of the retry, None for the first attempt; `backed_off` are the
    seconds of backoff before it.
    """

    number: int
    because: str | None
    backed_off: float


def tls_context(trust_env: bool) -> ssl.SSLContext:
    """The TLS context with the certificates that this process trusts.

    All clients share it, because loading the certificates takes longer than a request.
    """
    return _tls_context(trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _tls_context(trust_env: bool, *_: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=trust_env)


class _TimedBody(httpx.SyncByteStream):
    """The body of a response. Reading it raises `httpx.ReadTimeout` after `LONGEST_BODY_SECONDS`."""

    def __init__(self, parts: httpx.SyncByteStream, request: httpx.Request) -> None:
        self._parts, self._request = parts, request

    def __iter__(self) -> Iterator[bytes]:
        began = time.monotonic()
        for part in self._parts:
            if time.monotonic() - began > LONGEST_BODY_SECONDS:
                raise httpx.ReadTimeout(f"the answer took more than {LONGEST_BODY_SECONDS:g} s", request=self._request)
            yield part

    def close(self) -> None:
        self._parts.close()


def _time_body(response: httpx.Response) -> None:
    assert isinstance(response.stream, httpx.SyncByteStream)
    response.stream = _TimedBody(response.stream, response.request)


class Sender:
    """Sends requests with the API key, to one origin. It is safe to use from many threads."""

    def __init__(
        self,
        *,
        api_key: str,
        origin: Origin,
        revision: str,
        pacer: Pacer,
        retry: RetryPolicy,
        stop: threading.Event | None,
        on_request: Callable[[RequestRecord], None] | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self.origin = origin
        self.retirement_date: str | None = None
        self._key = _checked_key(api_key)
        self._revision = revision
        self._pacer = pacer
        self._retry = retry
        self._stop = stop or threading.Event()
        self._on_request = on_request
        self._lost = FailureBudget(retry.clock)
        self._exhausted = 0
        self._last_reason = ""
        self._lock = threading.Lock()
        self._proxy = proxy_variable() if origin.encrypted else None
        with proxy_errors():
            self._http = httpx.Client(
                headers={
                    "Authorization": f"Klaviyo-API-Key {self._key}",
                    "revision": revision,
                    # Without this header, Klaviyo answers a request for a retired revision with the oldest revision
                    # that it still serves.
                    "X-Klaviyo-Revision-Fall-Forward-Opt-Out": "1",
                    "accept": JSON_API,
                },
                timeout=TIMEOUT,
                follow_redirects=False,
                event_hooks={"response": [_time_body]},
                transport=transport,
                verify=tls_context(origin.encrypted),
                # A proxy from the environment would see the key of an unencrypted request.
                trust_env=origin.encrypted,
            )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def ask(self, call: Call) -> Answer:
        """Sends the request, with as many attempts as the policy allows, and returns the answer.

        Raises a `KlaviyoError` if the last attempt fails, or if a retry cannot help.
        """
        self._refuse_after_exhausted_retries(call.endpoint)
        attempt = _Try(1, None, 0.0)
        while True:
            outcome = self._attempt(call, attempt)
            if isinstance(outcome, Answer):
                self._count(exhausted=False)
                return outcome
            outcome.error.attempts = attempt.number
            if not outcome.retried:
                self._count(exhausted=False)
                raise outcome.error
            backed_off = self._back_off(call.endpoint, outcome, attempt.number)
            if attempt.number == self._retry.attempts:
                self._count(exhausted=True, reason=outcome.reason)
                raise outcome.error
            attempt = _Try(attempt.number + 1, outcome.reason, backed_off)

    def _attempt(self, call: Call, attempt: _Try) -> Answer | Fault:
        slot = self._pacer.reserve(call.endpoint)
        self._refuse_to_lose(slot.blocked, call.endpoint, attempt.because or "another request was rate-limited")
        self._wait(slot.wait)
        self._lost.add(slot.blocked)
        began = time.perf_counter()
        response: httpx.Response | None = None
        try:
            response = self._send(call)
        except httpx.RequestError as trouble:
            outcome: Answer | Fault = no_answer(trouble, call.endpoint, self._proxy)
        else:
            outcome = self._judge(call, response, slot.at, attempt.number)
        elapsed = time.perf_counter() - began
        if isinstance(outcome, Fault):
            self._lost.add(elapsed)
        self._note(
            RequestRecord(
                endpoint=call.endpoint.name,
                method=call.method,
                status=None if response is None else response.status_code,
                milliseconds=round(elapsed * 1000),
                rows=outcome.rows if isinstance(outcome, Answer) else 0,
                request_id=None if response is None else request_id(response),
                attempt=attempt.number,
                waited_seconds=attempt.backed_off + slot.wait,
                retried_because=attempt.because,
            )
        )
        return outcome

    def _send(self, call: Call) -> httpx.Response:
        if call.body is None:
            return self._http.get(call.url, params=call.params or None)
        return self._http.post(
            call.url,
            params=call.params or None,
            content=json.dumps(call.body),
            headers={"content-type": JSON_API},
        )

    def _judge(self, call: Call, response: httpx.Response, at: datetime, attempt: int) -> Answer | Fault:
        self.retirement_date = response.headers.get("x-klaviyo-api-retirement-date", self.retirement_date)
        if (spent := daily_wait(response.headers)) is not None:
            self._pacer.block(call.endpoint, spent)
        fault = None
        if response.status_code != httpx.codes.OK:
            fault = fault_of(response, call.endpoint, self._pacer.now(), self._redact)
            if isinstance(fault.error, NotFound):
                fault.error.observed_at = at
        answered_as = response.headers.get("x-klaviyo-api-revision", "").strip() or self._revision
        if answered_as != self._revision and (fault is None or _is_about_the_request(fault)):
            return other_revision(response, call.endpoint, self._revision, self._redact(answered_as))
        if fault is not None:
            return fault
        try:
            document = read_document(response, call.data_kind, exact=call.exact)
        except UnreadableError as why:
            return malformed(response, call.endpoint, str(why))
        return Answer(document.body, document.clean, document.rows, at, attempt, request_id(response))

    def _note(self, record: RequestRecord) -> None:
        logger.debug(
            "%s %s: status %s, %d rows, %d ms, attempt %d, waited %.3f s, request %s",
            record.method,
            record.endpoint,
            record.status,
            record.rows,
            record.milliseconds,
            record.attempt,
            record.waited_seconds,
            record.request_id,
        )
        if self._on_request is not None:
            self._on_request(record)

    def _back_off(self, endpoint: Endpoint, fault: Fault, attempt: int) -> float:
        """Waits before the next attempt, and returns the seconds of this wait.

        After a 429 this method does not wait: the endpoint is blocked, and the next attempt waits for its slot.
        """
        if isinstance(fault.error, Throttled):
            self._obey(endpoint, fault, attempt)
            return 0.0
        requested_pause = min(fault.pause or 0.0, self._retry.longest_retry_after)
        if requested_pause > 0:
            # All requests to this endpoint have to wait, not only this one.
            self._pacer.block(endpoint, requested_pause)
        if attempt == self._retry.attempts:
            return 0.0
        seconds = max(requested_pause, self._retry.backoff(attempt))
        self._refuse_to_lose(seconds, endpoint, fault.reason)
        self._wait(seconds)
        self._lost.add(seconds)
        return seconds

    def _obey(self, endpoint: Endpoint, fault: Fault, attempt: int) -> None:
        """Blocks the endpoint, for all processes that share the pacer, for as long as a 429 requests.

        Raises `QuotaSpent` if that is longer than `longest_retry_after`.
        """
        seconds = fault.pause or self._retry.backoff(attempt)
        self._pacer.block(endpoint, seconds)
        if seconds > self._retry.longest_retry_after:
            raise quota_spent(
                endpoint,
                self._pacer.now() + timedelta(seconds=seconds),
                status=fault.error.status,
                request_id=fault.error.request_id,
            )

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(max(0.0, seconds)):
            raise Stopped("The run was stopped.")

    def _refuse_to_lose(self, seconds: float, endpoint: Endpoint, why: str) -> None:
        """Raises `Unavailable` if a wait of `seconds` would make the run lose more than `longest_loss`.

        A new run later is better than a run that waits for hours.
        """
        if seconds > 0 and self._lost.seconds + seconds > self._retry.longest_loss:
            raise Unavailable(
                f"Giving up: {counted(round(self._lost.seconds / 60), 'minute')} spent on failed requests and backoff; "
                f"last reason: {why}. Run again later.",
                endpoint=endpoint.name,
            )

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "[API key]")

    def _count(self, *, exhausted: bool, reason: str = "") -> None:
        with self._lock:
            self._exhausted = self._exhausted + 1 if exhausted else 0
            self._last_reason = reason

    def _refuse_after_exhausted_retries(self, endpoint: Endpoint) -> None:
        with self._lock:
            exhausted, reason = self._exhausted, self._last_reason
        if exhausted >= self._retry.consecutive_exhausted:
            raise Unavailable(
                f"Stopped after {exhausted} consecutive requests to Klaviyo exhausted their retries; "
                f"last reason: {reason}. Run again later.",
                endpoint=endpoint.name,
            )


def _checked_key(api_key: str) -> str:
    key = api_key.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise BadKey("The API key is empty or contains invalid characters. Check KLAVIYO_API_KEY.")
    return key


def _is_about_the_request(fault: Fault) -> bool:
    """Whether the error is about the request itself. Such an error depends on the revision that Klaviyo answered with.

    Temporary errors do not count. Neither do errors about a wrong key or a retired revision, since Klaviyo checks both
    before it reads the request.
    """
    return not fault.retried and not isinstance(fault.error, (BadKey, RevisionRetired))
