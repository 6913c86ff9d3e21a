"""Reads a response: it becomes a JSON:API document, or a fault.

A 200 is accepted only if it contains JSON with `data` of the expected type. Klaviyo's edge network or a proxy sometimes
returns an HTML page with status 200, and a missing `data` is a failure, not an empty page.
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

# An integer with more digits is kept as text. For more than 4,300 digits, Python itself would raise an error.
MOST_DIGITS = 4_000

# The most errors of one response that a message contains.
MOST_ERRORS = 10

# A number with so many digits that the fast parser might round it, or with an exponent that may be too large for a
# float.
_UNUSUAL_NUMBER = re.compile(r"[\s:,\[]-?\d[\d.]*(?:\d{18}|[eE][+-]?\d{3})")

_SCOPE = re.compile(r"\b[a-z][a-z-]*:(?:read|write)\b")


@dataclass(frozen=True)
class Document:
    """An accepted response. `clean` means that no text in it needs an escape.

    `rows` is the number of its resources or report results.
    """

    body: dict[str, object]
    clean: bool
    rows: int


@dataclass(frozen=True)
class Fault:
    """A failed attempt: the error, whether it is retried, and a short reason for the log.

    `pause` is the wait in seconds that the response requests; None if it requests none.
    """

    error: KlaviyoError
    retried: bool
    reason: str
    pause: float | None = None


class UnreadableError(ValueError):
    """The body of a response does not have the API's format."""


def read_document(response: httpx.Response, data_kind: type, *, exact: bool) -> Document:
    """The document of a 200 whose `data` has the type `data_kind` (list or dict).

    With `exact`, numbers with a fraction or an exponent become Decimal. Raises `UnreadableError` for any other body.
    """
    # A resource in a list is nested one level deeper than a single one, so the limit for its text is one level higher.
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
    """The fault of a response with a status other than 200. `redact` removes secrets from the text of the response."""
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
    return Fault(error, meaning.retried, f"HTTP {response.status_code}", pause)


def malformed(response: httpx.Response, endpoint: Endpoint, why: str) -> Fault:
    """The fault of a 200 whose body is not accepted. `why` is the reason, as a part of the error's text."""
    meaning = errors.MALFORMED
    error = meaning.error(_sentence(meaning, [why]), **_facts(response, endpoint))
    return Fault(error, meaning.retried, "malformed response")


def other_revision(response: httpx.Response, endpoint: Endpoint, requested: str, answered_as: str) -> Fault:
    """The fault of a response of another revision than the one requested."""
    meaning = errors.OTHER_REVISION
    why = f"requested {requested}, answered with {shortened(answered_as)}"
    return Fault(meaning.error(_sentence(meaning, [why]), **_facts(response, endpoint)), meaning.retried, why)


def no_answer(trouble: httpx.RequestError, endpoint: Endpoint, proxy: str | None) -> Fault:
    """The fault of a connection that failed, or broke before the response was complete.

    `proxy` is the name of the environment variable that sets a proxy; None without a proxy.
    """
    message = f"{type(trouble).__name__} {trouble}".strip()
    wrong = f"Klaviyo cannot be reached: {shortened(message).rstrip('. ')}"
    line = f"{wrong}. Check {where_to_look(trouble, proxy)}, then run again."
    return Fault(Unavailable(line, endpoint=endpoint.name), True, message)


def request_id(response: httpx.Response) -> str | None:
    """Klaviyo's id of the request, from the headers of the response."""
    id: str | None = response.headers.get("x-klaviyo-req-id")
    return id


def _text(response: httpx.Response) -> str:
    try:
        return response.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError("it is not UTF-8") from None


def _fast_parsed(text: str) -> object | None:
    """The result of the fast parser; None if it might round a number, or if it rejects the text.

    It rejects lone surrogates, for example.
    """
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
        found = "HTML" if text.lstrip()[:1] == "<" else "incomplete or invalid JSON"
        raise UnreadableError(f"it is {found} ({type(error).__name__})") from None
    return parsed


def _fraction(digits: str) -> float | str:
    # A number that is too large for a float must not fail the page, so it stays text.
    number = float(digits)
    return digits if math.isinf(number) else number


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MOST_DIGITS else digits


def _no_constant(name: str) -> NoReturn:
    raise UnreadableError(f"it contains {name}, which is not valid JSON")


def _row_count(data: object) -> int:
    if isinstance(data, list):
        return len(data)
    attributes = data.get("attributes") if isinstance(data, Mapping) else None
    results = attributes.get("results") if isinstance(attributes, Mapping) else None
    return len(results) if isinstance(results, list) else 1


def _problems(text: str, redact: Callable[[str], str]) -> list[Problem] | None:
    """The JSON:API errors of a body, in order. None if the body is not a JSON object.

    An object without `errors` has one problem if it has a `message`, else none.
    """
    try:
        # The text is redacted before and after decoding, because JSON may write the characters of a secret as escapes.
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
    """The first line of a plain-text body, such as a proxy sends; empty for an HTML page."""
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
    """Whether Klaviyo rejects the conversion metric, judging by the pointers of the errors, or else by their text."""
    pointers = _pointers(problems)
    if pointers:
        return any(pointer.endswith("conversion_metric_id") for pointer in pointers)
    return "conversion metric" in text or "conversion_metric_id" in text


def _pointers(problems: list[Problem]) -> set[str]:
    """The pointers of the errors, without those to the request as a whole."""
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
