"""Reads a response: it becomes a JSON:API document, or a fault with its meaning.

A 200 is accepted only if it contains JSON with `data` of the expected kind: an edge or a proxy sometimes returns an
HTML page with status 200, and a missing `data` is a failure, not an empty page.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NoReturn

import httpx
import orjson

from klaviyo_pipeline.klaviyo import errors
from klaviyo_pipeline.klaviyo.errors import (
    BadRequest,
    Facts,
    KlaviyoError,
    Meaning,
    MissingScope,
    NotFound,
    Problem,
    Unavailable,
    shortened,
)
from klaviyo_pipeline.klaviyo.escape import may_need_escape
from klaviyo_pipeline.klaviyo.nesting import MOST_LEVELS, cut_at
from klaviyo_pipeline.klaviyo.proxy_settings import where_to_look
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.retry import requested_wait

# Python's own limit for the digits of an integer is slightly higher.
MOST_DIGITS = 4_000

# How many errors of one response a message contains.
MOST_ERRORS = 10

# Digits that the fast parser might round, or an exponent that might be too large for a float.
_UNUSUAL_NUMBER = re.compile(r"[\s:,\[]-?\d[\d.]*(?:\d{18}|[eE][+-]?\d{3})")

_SCOPE = re.compile(r"\b[a-z][a-z-]*:(?:read|write)\b")


@dataclass(frozen=True)
class Document:
    """An accepted response. `clean` means that no text in it needs an escape; `rows` counts its data."""

    body: dict[str, object]
    clean: bool
    rows: int


@dataclass(frozen=True)
class Fault:
    """A failed attempt: the error, whether a retry can help, and a short reason for the log.

    `detail` is Klaviyo's own text. `pause` is the wait in seconds that the response requests, None without one.
    """

    error: KlaviyoError
    retried: bool
    reason: str
    detail: str | None = None
    pause: float | None = None


class UnreadableError(ValueError):
    """The body does not have the API's format."""


def read_document(response: httpx.Response, data_kind: type, *, exact: bool) -> Document:
    """The document of a 200 whose `data` is a `data_kind` (list or dict).

    `exact` reads numbers with a fraction as Decimal. Raises `UnreadableError` for any other body.
    """
    # In a list, a resource is nested one level deeper. Both limits cut a resource at the same level, counted within the
    # resource.
    text = cut_at(_text(response), MOST_LEVELS + (2 if data_kind is list else 1))
    fast = None if exact else _fast_parsed(text)
    body = _parsed(text, exact=exact) if fast is None else fast
    if not isinstance(body, dict):
        raise UnreadableError("its JSON is not an object")
    if not isinstance(body.get("data"), data_kind):
        raise UnreadableError(f"its data has the type {type(body.get('data')).__name__}, not {data_kind.__name__}")
    suspects = may_need_escape(text, surrogates=fast is None)
    return Document(body, not suspects, _row_count(body["data"]))


def fault_of(response: httpx.Response, endpoint: Endpoint, now: datetime, redact: Callable[[str], str]) -> Fault:
    """What a status other than 200 means. `redact` removes secrets from the text of the response."""
    problems = _problems(response.text, redact)
    texts = list(dict.fromkeys(problem.text for problem in problems or [] if problem.text))
    if problems is None:
        texts = _plain_text(redact(response.text))
    if response.has_redirect_location:
        texts = [redact(f"to {response.headers['location']}")]
    meaning = _meaning(response, problems, texts)
    facts = _facts(response, endpoint)
    facts["request_id"] = facts["request_id"] or next((one.id for one in problems or [] if one.id), None)
    titles = [problem.title for problem in problems or [] if problem.title]
    pause = requested_wait(response.headers, " ".join([*texts, *titles]), now)
    error = _error(meaning, texts, problems or [], facts)
    return Fault(error, meaning.retried, f"HTTP {response.status_code}", "; ".join(texts) or None, pause)


def malformed(response: httpx.Response, endpoint: Endpoint, why: str) -> Fault:
    """A 200 that cannot be accepted."""
    meaning = errors.MALFORMED
    error = meaning.error(_sentence(meaning, [why]), **_facts(response, endpoint))
    return Fault(error, meaning.retried, "malformed response")


def other_revision(response: httpx.Response, endpoint: Endpoint, requested: str, answered_as: str) -> Fault:
    """An answer of another revision than the one requested."""
    meaning = errors.OTHER_REVISION
    why = f"requested {requested}, answered as {shortened(answered_as)}"
    return Fault(meaning.error(_sentence(meaning, [why]), **_facts(response, endpoint)), meaning.retried, why)


def no_answer(trouble: httpx.RequestError, endpoint: Endpoint, proxy: str | None) -> Fault:
    """The connection failed, or broke before the response was complete. `proxy` is the variable that sets a proxy."""
    message = f"{type(trouble).__name__} {trouble}".strip()
    wrong = f"Klaviyo cannot be reached: {shortened(message).rstrip('. ')}"
    line = f"{wrong}. Check {where_to_look(trouble, proxy)}, then run again."
    return Fault(Unavailable(line, endpoint=endpoint.name), True, message)


def request_id(response: httpx.Response) -> str | None:
    """Klaviyo's id of the request."""
    id: str | None = response.headers.get("x-klaviyo-req-id")
    return id


def _text(response: httpx.Response) -> str:
    try:
        return response.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError("it is not UTF-8") from None


def _fast_parsed(text: str) -> object | None:
    """The result of the fast parser; None if it rejects the text (lone surrogates) or might round a number."""
    if _UNUSUAL_NUMBER.search(text) is not None:
        return None
    try:
        parsed: object = orjson.loads(text)
    except ValueError:
        return None
    return parsed


def _parsed(text: str, *, exact: bool) -> object:
    try:
        parsed: object = json.loads(
            text, parse_float=Decimal if exact else _fraction, parse_int=_integer, parse_constant=_no_constant
        )
    except UnreadableError:
        raise
    except (ValueError, RecursionError) as error:
        kind = "HTML" if text.lstrip()[:1] == "<" else "no complete JSON"
        raise UnreadableError(f"it is {kind} ({type(error).__name__})") from None
    return parsed


def _fraction(figure: str) -> float | str:
    # A number that is too large for a float must not fail the page: it is kept as its text.
    number = float(figure)
    return figure if math.isinf(number) else number


def _integer(figure: str) -> int | str:
    return int(figure) if len(figure) <= MOST_DIGITS else figure


def _no_constant(name: str) -> NoReturn:
    raise UnreadableError(f"it contains {name}, which is not valid JSON")


def _row_count(data: object) -> int:
    if isinstance(data, list):
        return len(data)
    attributes = data.get("attributes") if isinstance(data, Mapping) else None
    results = attributes.get("results") if isinstance(attributes, Mapping) else None
    return len(results) if isinstance(results, list) else 1


def _problems(text: str, redact: Callable[[str], str]) -> list[Problem] | None:
    """The JSON:API errors in their order: an empty list for other JSON, None for a body that is not JSON."""
    try:
        # Redacted before and after decoding: JSON may write the characters of a secret as escapes.
        body = _redacted(json.loads(redact(text)), redact)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    errors = body.get("errors")
    if isinstance(errors, list) and errors:
        return [_problem(one) for one in errors if isinstance(one, dict)]
    return [Problem(detail=body["message"])] if isinstance(body.get("message"), str) else []


def _problem(error: Mapping[str, object]) -> Problem:
    source = error.get("source")
    source = source if isinstance(source, Mapping) else {}
    return Problem(
        id=_string(error, "id"),
        code=_string(error, "code"),
        title=_string(error, "title"),
        detail=_string(error, "detail"),
        pointer=_string(source, "pointer") or _string(source, "parameter"),
    )


def _plain_text(text: str) -> list[str]:
    """The first line of a plain-text body, such as a proxy's; nothing for an HTML page."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return [line] if line and not line.startswith("<") else []


def _redacted(value: object, redact: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redacted(item, redact) for name, item in value.items()}
    return [_redacted(item, redact) for item in value] if isinstance(value, list) else value


def _string(error: Mapping[str, object], name: str) -> str | None:
    value = error.get(name)
    return value if isinstance(value, str) and value else None


def _meaning(response: httpx.Response, problems: list[Problem] | None, texts: list[str]) -> Meaning:
    status, message = response.status_code, " ".join(texts)
    if 200 <= status < 300:
        return errors.MALFORMED
    if status == 403 and (problems is None or "cf-mitigated" in response.headers):
        return errors.EDGE_BLOCK
    if status == 403 and _SCOPE.search(message):
        return errors.LACKS_SCOPE
    if status == 400 and "cursor" in " ".join([message.lower(), *_pointers(problems or [])]):
        return errors.OLD_CURSOR
    if status == 400 and _is_about_the_metric(problems or [], message.lower()):
        return errors.INELIGIBLE
    return errors.meaning_of(status)


def _is_about_the_metric(problems: list[Problem], text: str) -> bool:
    """Whether Klaviyo rejects the conversion metric: decided by the errors' pointers, else by their text."""
    pointers = _pointers(problems)
    if pointers:
        return any(pointer.endswith("conversion_metric_id") for pointer in pointers)
    return "conversion metric" in text or "conversion_metric_id" in text


def _pointers(problems: list[Problem]) -> set[str]:
    """What the errors point to, without pointers to the whole request."""
    pointers = {one.pointer.rstrip("/") for one in problems if one.pointer}
    return pointers - {"", "/data", "/data/attributes"}


def _facts(response: httpx.Response, endpoint: Endpoint) -> Facts:
    return Facts(request_id=request_id(response), status=response.status_code, endpoint=endpoint.name)


def _sentence(meaning: Meaning, texts: list[str]) -> str:
    seen = [shortened(one).rstrip(". ") for one in texts[:MOST_ERRORS]]
    if len(texts) > MOST_ERRORS:
        seen.append(f"and {len(texts) - MOST_ERRORS} more")
    message = f": {'; '.join(seen)}" if seen else ""
    return f"{meaning.wrong}{message}. {meaning.remedy}"


def _error(meaning: Meaning, texts: list[str], problems: list[Problem], facts: Facts) -> KlaviyoError:
    sentence = _sentence(meaning, texts)
    if meaning.error is MissingScope:
        scopes = tuple(dict.fromkeys(_SCOPE.findall(" ".join(texts))))
        return MissingScope(f"{sentence} {', '.join(scopes)}.", scopes=scopes, **facts)
    if meaning.error is NotFound:
        return NotFound(sentence, problems=problems, **facts)
    if issubclass(meaning.error, BadRequest):
        pointers = list(dict.fromkeys(problem.pointer for problem in problems if problem.pointer))
        located = f"{sentence} The error points to {', '.join(pointers)}." if pointers else sentence
        return meaning.error(
            located, detail="; ".join(texts) or None, pointer=pointers[0] if pointers else None, **facts
        )
    return meaning.error(sentence, **facts)
