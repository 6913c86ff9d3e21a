"""The simulated API as an ASGI application: authentication, revisions, routing and response headers."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from klaviyo_pipeline.sandbox.api_errors import (
    ApiError,
    GoneError,
    authentication_failed,
    missing_scope,
    no_path,
    not_authenticated,
)
from klaviyo_pipeline.sandbox.cursors import Cursors
from klaviyo_pipeline.sandbox.endpoints import ENDPOINTS, Endpoint
from klaviyo_pipeline.sandbox.faults import Fault, Faults
from klaviyo_pipeline.sandbox.limits import RateLimits
from klaviyo_pipeline.sandbox.parameters import read_query
from klaviyo_pipeline.sandbox.request_context import Call
from klaviyo_pipeline.sandbox.request_log import RequestLog, RequestLogEntry
from klaviyo_pipeline.sandbox.revisions import NEWEST, OPT_OUT, SERVED, answering_revision, retirement
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.timestamps import Clock

JSON_API = "application/vnd.api+json"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create_app(
    account: SandboxAccount | Sequence[SandboxAccount],
    *,
    clock: Clock | None = None,
    rate_scale: float = 1.0,
    timer: Callable[[], float] = time.monotonic,
) -> Starlette:
    """An application that serves one or several accounts. The API key of a request selects the account.

    `clock` (aware UTC) becomes the accounts' clock. The windows of the rate limits last 1/`rate_scale` of their
    published length, measured by `timer`. A `rate_scale` of 0 switches the limits off. Tests use `app.state.log` and
    `app.state.faults`.
    """
    accounts = [account] if isinstance(account, SandboxAccount) else list(account)
    if len({key for served in accounts for key in served.api_keys}) < sum(len(a.api_keys) for a in accounts):
        raise ValueError("two accounts of one sandbox cannot share a key")
    if clock is not None:
        for served in accounts:
            served.clock = clock
    desk = _Desk(accounts, RateLimits(rate_scale, timer), RequestLog(), Faults())
    app = Starlette(routes=[Route("/{path:path}", desk.answer, methods=_METHODS)])
    app.state.log = desk.log
    app.state.faults = desk.faults
    return app


@dataclass
class _Admission:
    """What is known about a request so far. The response headers and the log contain it, even for a failed request."""

    request_id: str
    endpoint: Endpoint | None = None
    account: SandboxAccount | None = None
    revision: date | None = None
    limit_headers: dict[str, str] | None = None


class _Desk:
    def __init__(self, accounts: Sequence[SandboxAccount], limits: RateLimits, log: RequestLog, faults: Faults) -> None:
        if not accounts:
            raise ValueError("a sandbox needs an account")
        self.accounts = accounts
        self.limits = limits
        self.log = log
        self.faults = faults
        self.cursors = Cursors()

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        admission = _Admission(str(uuid.uuid4()))
        fault = self.faults.take(request)
        if fault is not None:
            await asyncio.sleep(fault.delay)
        response = (
            self._faulty(admission, request, fault)
            if fault and (fault.replaces or fault.cut_connection)
            else self._true_answer(admission, request, body)
        )
        if fault is not None:
            response.headers.update(fault.headers)
        self._note(admission, request, body, response, fault)
        return _Cut(response, whole=not fault.replaces) if fault and fault.cut_connection else response

    def _faulty(self, admission: _Admission, request: Request, fault: Fault) -> Response:
        admission.endpoint, _ = _find(request)
        status = fault.status or 200
        known = {"X-Klaviyo-Req-Id": admission.request_id} if fault.content_type == JSON_API else None
        return Response(fault.payload(request, admission.request_id), status, known, fault.content_type)

    def _true_answer(self, admission: _Admission, request: Request, body: bytes) -> Response:
        headers: dict[str, str] = {}
        try:
            status, document = 200, self._serve(admission, request, body)
        except ApiError as error:
            status, document = error.status, error.document(admission.request_id)
            if status == 429:
                admission.limit_headers = None
            if error.retry_after is not None:
                headers["Retry-After"] = str(error.retry_after)
        except GoneError as gone:
            status, document = 410, {"message": gone.message}
        headers |= {"X-Klaviyo-Req-Id": admission.request_id, **(admission.limit_headers or {})}
        if admission.revision is not None:
            headers["X-Klaviyo-Api-Revision"] = admission.revision.isoformat()
            headers["X-Klaviyo-Api-Retirement-Date"] = retirement(admission.revision).isoformat()
        return Response(json.dumps(document, allow_nan=False), status, headers, JSON_API)

    def _serve(self, admission: _Admission, request: Request, body: bytes) -> dict[str, Any]:
        if re.match(r"/api/v[12](/|\Z)", request.url.path):
            raise GoneError("This API version has been retired. Please use a current revision.")
        admission.endpoint, _ = _find(request)
        admission.account = account = self._account(request.headers.get("authorization", ""))
        admission.revision = answering_revision(request.headers.get("revision"), request.headers.get(OPT_OUT), account)
        endpoint, id = _find(request, admission.revision)
        admission.endpoint = endpoint
        slow = endpoint.slow_rates is not None and any("additional-fields" in name for name in request.query_params)
        name = f"{endpoint.name} with additional fields" if slow else endpoint.name
        rates = (endpoint.slow_rates if slow else None) or endpoint.rates
        quota = self.limits.quota(account.id, name, rates)
        try:
            self._check_scopes(request, account, endpoint)
            quota.spend()
        finally:
            admission.limit_headers = quota.headers()
        with account.lock:
            document = endpoint.handler(
                Call(
                    account=account,
                    cursors=self.cursors,
                    now=account.clock(),
                    operation=endpoint.name,
                    base=f"{request.url.scheme}://{request.url.netloc}",
                    path=request.url.path,
                    query=read_query(request.query_params.multi_items(), endpoint.parameters),
                    id=id,
                    content_type=request.headers.get("content-type", ""),
                    body=body,
                )
            )
        hints = {"next_steps": ["Read the documentation of this endpoint."]}
        shown = account.agent_hints and admission.revision == NEWEST
        return {**document, "meta": {"agent_hints": hints}} if shown else document

    def _account(self, authorization: str) -> SandboxAccount:
        scheme, _, key = authorization.partition(" ")
        for account in self.accounts:
            if scheme == "Klaviyo-API-Key" and key in account.api_keys:
                return account
        raise authentication_failed() if scheme == "Klaviyo-API-Key" and key else not_authenticated()

    def _check_scopes(self, request: Request, account: SandboxAccount, endpoint: Endpoint) -> None:
        key = request.headers["authorization"].partition(" ")[2]
        needed = list(endpoint.scopes)
        if account.tags_need_their_scope and "tags" in request.query_params.get("include", "").split(","):
            needed.append("tags:read")
        if missing := [scope for scope in needed if scope not in account.api_keys[key]]:
            raise missing_scope(missing)

    def _note(
        self, admission: _Admission, request: Request, body: bytes, response: Response, fault: Fault | None
    ) -> None:
        account = admission.account
        retry_after = response.headers.get("retry-after")
        cut = fault is not None and fault.cut_connection
        self.log.add(
            RequestLogEntry(
                method=request.method,
                path=request.url.path,
                query=dict(request.query_params),
                status=None if cut else response.status_code,
                endpoint=admission.endpoint.name if admission.endpoint else None,
                at=(account or self.accounts[0]).clock(),
                account_id=account.id if account else None,
                request_id=admission.request_id,
                retry_after=int(retry_after) if retry_after and retry_after.isdigit() else None,
                body=body.decode(errors="replace"),
                faulty=fault is not None,
            )
        )


class _Cut(Response):
    """A response whose connection breaks: halfway through the body, or before the first byte if `whole` is True."""

    def __init__(self, response: Response, whole: bool) -> None:
        self._response = response
        self._whole = whole

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        cut = scope.get("extensions", {}).get("sandbox.cut")
        body = bytes(self._response.body)
        if not self._whole:
            headers = self._response.raw_headers
            await send({"type": "http.response.start", "status": self._response.status_code, "headers": headers})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        if cut is not None:
            cut()
            # The server notices the lost connection in the next loop iteration, and then stops sending.
            await asyncio.sleep(0)


def _find(request: Request, revision: date | None = None) -> tuple[Endpoint, str]:
    """The endpoint, of this revision (None: of any), and the id in the path. Raises `ApiError` 404 or 405."""
    known = ENDPOINTS[revision] if revision else [one for served in reversed(SERVED) for one in ENDPOINTS[served]]
    there = [(endpoint, found) for endpoint in known if (found := endpoint.pattern.match(request.url.path))]
    if not there:
        raise no_path(request.url.path)
    for endpoint, found in there:
        if endpoint.method == request.method:
            return endpoint, found.groupdict().get("id", "")
    allowed = _listed(endpoint.method for endpoint, _ in there)
    detail = f"Method '{request.method}' is not allowed; allowed: {allowed}."
    raise ApiError(405, "method_not_allowed", "Method not allowed.", detail)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
