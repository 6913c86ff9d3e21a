"""The errors of the simulated API, as JSON:API errors.

Every rejected request raises an `ApiError`, which `app` turns into a response. The codes `not_authenticated`,
`authentication_failed`, `permission_denied`, `forbidden`, `not_found`, `invalid`, `throttled` and `error` are from
recordings of the real API. All other codes are plausible guesses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class ApiError(Exception):
    """A rejected request: `status` is the HTTP status, and `parameter` or `pointer` names the invalid part.

    If both are None, the source is `/data/`. If `has_source` is False, the error has no source, as for an unknown path.
    """

    status: int
    code: str
    title: str
    detail: str
    parameter: str | None = None
    pointer: str | None = None
    retry_after: int | None = None
    has_source: bool = True

    def document(self, request_id: str) -> dict[str, Any]:
        """The JSON:API body. Its `id` is also the response's `X-Klaviyo-Req-Id`."""
        source: dict[str, str] = {}
        if self.parameter is not None:
            source["parameter"] = self.parameter
        if self.pointer is not None:
            source["pointer"] = self.pointer
        error: dict[str, Any] = {
            "id": request_id,
            "status": self.status,
            "code": self.code,
            "title": self.title,
            "detail": self.detail,
            "links": {},
            "meta": {},
        }
        if self.has_source:
            error["source"] = source or {"pointer": "/data/"}
        return {"errors": [error]}


@dataclass(eq=False)
class GoneError(Exception):
    """A 410 for the old v1 and v2 paths and for retired revisions. Its body is `{"message": …}`, not JSON:API."""

    message: str


NO_PERMISSION = "You do not have permission to perform this action."
OTHER_403S = {
    "plan": ApiError(403, "permission_denied", NO_PERMISSION, "Account must have Advanced KDP enabled."),
    "entitlement": ApiError(403, "forbidden", "Forbidden", "The account is not entitled to use this feature."),
    "daily limit": ApiError(403, "forbidden", "Forbidden", "The daily limit of this account has been reached."),
    "no words": ApiError(403, "permission_denied", NO_PERMISSION, NO_PERMISSION),
}
"""403 errors that no scope would resolve. Tests inject them as faults."""


def bad_parameter(parameter: str, detail: str) -> ApiError:
    return ApiError(400, "invalid", "Invalid input.", detail, parameter=parameter)


def bad_body(pointer: str, detail: str) -> ApiError:
    return ApiError(400, "invalid", "Invalid input.", detail, pointer=pointer)


def bad_cursor(parameter: str) -> ApiError:
    return bad_parameter(parameter, "Invalid cursor provided.")


def not_found(detail: str) -> ApiError:
    """The object does not exist. `detail` contains its id."""
    return ApiError(404, "not_found", "Not found.", detail)


def no_path(path: str) -> ApiError:
    """The path does not exist: the same code as for a missing object, but no source."""
    return ApiError(404, "not_found", "Not found", f"The path {path} could not be found", has_source=False)


def not_authenticated() -> ApiError:
    title = "Authentication credentials were not provided."
    return ApiError(401, "not_authenticated", title, "Missing or invalid private key.")


def authentication_failed() -> ApiError:
    return ApiError(401, "authentication_failed", "Incorrect authentication credentials.", "Invalid API key.")


def missing_scope(scopes: list[str]) -> ApiError:
    detail = f"The API key is missing required scopes: {', '.join(scopes)}"
    return ApiError(403, "permission_denied", NO_PERMISSION, detail)


def throttled(wait_seconds: float) -> ApiError:
    seconds = max(1, math.ceil(wait_seconds))
    detail = f"Request was throttled. Expected available in {seconds} second{'' if seconds == 1 else 's'}."
    return ApiError(429, "throttled", "Request was throttled.", detail, retry_after=seconds)
