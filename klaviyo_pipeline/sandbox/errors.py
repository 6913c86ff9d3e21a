"""What the simulated API refuses, as JSON:API errors.

Every refusal is an `ApiError`; only `app` turns it into an answer. The codes `not_authenticated`,
`not_found`, `invalid` and `throttled` were seen in recordings of the real API, the others are plausible
neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class ApiError(Exception):
    """A refusal: `status` is the HTTP status, `parameter` or `pointer` says which part of the request is
    meant."""

    status: int
    code: str
    title: str
    detail: str
    parameter: str | None = None
    pointer: str | None = None
    retry_after: int | None = None

    def document(self, request_id: str) -> dict[str, Any]:
        """The JSON:API body; its `id` is the answer's `X-Klaviyo-Req-Id`."""
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
            "source": source or {"pointer": "/data/"},
            "links": {},
            "meta": {},
        }
        return {"errors": [error]}


@dataclass(eq=False)
class GoneError(Exception):
    """410, whose body is no JSON:API but `{"message": …}`: the old v1 and v2 paths, and retired revisions."""

    message: str


def bad_parameter(parameter: str, detail: str) -> ApiError:
    return ApiError(400, "invalid", "Invalid input.", detail, parameter=parameter)


def bad_body(pointer: str, detail: str) -> ApiError:
    return ApiError(400, "invalid", "Invalid input.", detail, pointer=pointer)


def bad_cursor(parameter: str) -> ApiError:
    return bad_parameter(parameter, "Invalid cursor provided.")


def not_found(detail: str) -> ApiError:
    return ApiError(404, "not_found", "Not found.", detail)


def not_authenticated() -> ApiError:
    title = "Authentication credentials were not provided."
    return ApiError(401, "not_authenticated", title, "Missing or invalid private key.")


def missing_scope(scopes: list[str]) -> ApiError:
    title = "You do not have permission to perform this action."
    detail = f"The API key is missing required scopes: {', '.join(scopes)}"
    return ApiError(403, "permission_denied", title, detail)


def throttled(wait_seconds: float) -> ApiError:
    seconds = max(1, math.ceil(wait_seconds))
    detail = f"Request was throttled. Expected available in {seconds} second{'' if seconds == 1 else 's'}."
    return ApiError(429, "throttled", "Rate limit exceeded.", detail, retry_after=seconds)
