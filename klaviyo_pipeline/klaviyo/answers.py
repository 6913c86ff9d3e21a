"""What came back: a JSON:API document, or a fault with its meaning.

A 200 is believed only if it holds JSON with `data` of the expected kind: an edge or a proxy answers 200
with a page of HTML now and then, and a missing `data` is a failure, not an empty page.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NoReturn, TypedDict

import httpx
import orjson

from klaviyo_pipeline.klaviyo import errors
from klaviyo_pipeline.klaviyo.errors import (
    BadRequest,
    KlaviyoError,
    Meaning,
    MissingScope,
    NotFound,
    shortened,
)
from klaviyo_pipeline.klaviyo.escape import may_need_escape
from klaviyo_pipeline.klaviyo.nesting import MOST_LEVELS, cut_at
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.retry import asked_wait

# Python reads no integer that is much longer.
MOST_DIGITS = 4_000

# Digits that the fast parser might round, or an exponent that a float might not hold.
_UNUSUAL_NUMBER = re.compile(r"[\s:,\[]-?\d[\d.]*(?:\d{18}|[eE][+-]?\d{3})")

_SCOPE = re.compile(r"\b[a-z][a-z-]*:(?:read|write)\b")


@dataclass(frozen=True)
class Document:
    """A believed answer. `clean` promises that nothing in it needs an escape; `rows` counts its data."""

    body: dict[str, object]
    clean: bool
    rows: int


@dataclass(frozen=True)
class Fault:
    """A failed attempt: the error it is, whether asking again can help, and a word for the log.

    `detail` is Klaviyo's own sentence; `pause` the seconds that the answer asks to wait, if it does.
    """

    error: KlaviyoError
    retried: bool
    reason: str
    detail: str | None = None
    pause: float | None = None


class Facts(TypedDict):
    """What every error of an answer carries."""

    request_id: str | None
    status: int | None
    endpoint: str | None


class UnreadableError(ValueError):
    """The body is not what the API promises."""


def read_document(response: httpx.Response, data_kind: type, *, exact: bool) -> Document:
    """The document of a 200 whose `data` is a `data_kind` (list or dict).

    `exact` reads figures with a fraction as Decimal. Raises `UnreadableError` for anything else.
    """
    # A resource lies one level deeper in a list: wherever it stands, it is cut at the same level of its own.
    text = cut_at(_text(response), MOST_LEVELS + (2 if data_kind is list else 1))
    quickly = None if exact else _quickly_parsed(text)
    body = _parsed(text, exact=exact) if quickly is None else quickly
    if not isinstance(body, dict):
        raise UnreadableError("its JSON is no object")
    if not isinstance(body.get("data"), data_kind):
        raise UnreadableError(f"it has no data of the expected kind, but {type(body.get('data')).__name__}")
    suspects = may_need_escape(text, surrogates=quickly is None)
    return Document(body, not suspects, _row_count(body["data"]))


def fault_of(response: httpx.Response, endpoint: Endpoint, now: datetime, redact: Callable[[str], str]) -> Fault:
    """What a status other than 200 means. `redact` takes secrets out of the answer's words."""
    first = _first_error(response.text, redact)
    detail = _detail(first)
    if response.is_redirect:
        detail = redact(f"to {response.headers['location']}")
    meaning = _meaning(response, first, detail)
    facts = _facts(response, endpoint)
    facts["request_id"] = facts["request_id"] or _string(first, "id")
    error = _error(meaning, detail, first, endpoint.scopes, facts)
    pause = asked_wait(response.headers, detail, now)
    return Fault(error, meaning.retried, f"HTTP {response.status_code}", detail, pause)


def malformed(response: httpx.Response, endpoint: Endpoint, why: str) -> Fault:
    """A 200 that is not to be believed."""
    meaning = errors.MALFORMED
    error = meaning.error(_sentence(meaning, why), **_facts(response, endpoint))
    return Fault(error, meaning.retried, "malformed answer")


def no_answer(trouble: httpx.RequestError, endpoint: Endpoint) -> Fault:
    """The connection failed, or broke before the answer was complete."""
    meaning = errors.NO_ANSWER
    said = f"{type(trouble).__name__} {trouble}".strip()
    return Fault(meaning.error(_sentence(meaning, said), endpoint=endpoint.name), meaning.retried, said)


def request_id(response: httpx.Response) -> str | None:
    """Klaviyo's id of the request."""
    told: str | None = response.headers.get("x-klaviyo-req-id")
    return told


def _text(response: httpx.Response) -> str:
    try:
        return response.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError("it is not UTF-8") from None


def _quickly_parsed(text: str) -> object | None:
    """What the fast parser makes of it: None where it refuses, as it does lone surrogates, or might round a number."""
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
    except (ValueError, RecursionError) as error:
        kind = "HTML" if text.lstrip()[:1] == "<" else "no complete JSON"
        raise UnreadableError(f"it is {kind} ({type(error).__name__})") from None
    return parsed


def _fraction(figure: str) -> float | str:
    # JSON sets no bounds and a float does: a number beyond them must not cost the page, and stays as its text.
    number = float(figure)
    return figure if math.isinf(number) else number


def _integer(figure: str) -> int | str:
    return int(figure) if len(figure) <= MOST_DIGITS else figure


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name}")


def _row_count(data: object) -> int:
    if isinstance(data, list):
        return len(data)
    attributes = data.get("attributes") if isinstance(data, Mapping) else None
    results = attributes.get("results") if isinstance(attributes, Mapping) else None
    return len(results) if isinstance(results, list) else 1


def _first_error(text: str, redact: Callable[[str], str]) -> Mapping[str, object] | None:
    """The first of the JSON:API errors; an empty one for other JSON objects, None if there is no JSON."""
    try:
        # Before and after: JSON may write the letters of a secret in other ways.
        body = _redacted(json.loads(redact(text)), redact)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    told = body.get("errors")
    if isinstance(told, list) and told and isinstance(told[0], dict):
        return told[0]
    return {"detail": body["message"]} if isinstance(body.get("message"), str) else {}


def _redacted(value: object, redact: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redacted(item, redact) for name, item in value.items()}
    return [_redacted(item, redact) for item in value] if isinstance(value, list) else value


def _string(first: Mapping[str, object] | None, name: str) -> str | None:
    value = (first or {}).get(name)
    return value if isinstance(value, str) else None


def _detail(first: Mapping[str, object] | None) -> str | None:
    return _string(first, "detail") or _string(first, "title")


def _meaning(response: httpx.Response, first: Mapping[str, object] | None, detail: str | None) -> Meaning:
    status, words = response.status_code, (detail or "").lower()
    if 200 <= status < 300:
        return errors.MALFORMED
    if status == 403 and (first is None or "cf-mitigated" in response.headers):
        return errors.EDGE_BLOCK
    if status == 400 and "invalid cursor" in words:
        return errors.OLD_CURSOR
    if status == 400 and _is_about_the_metric(first, words):
        return errors.INELIGIBLE
    return errors.meaning_of(status)


def _is_about_the_metric(first: Mapping[str, object] | None, words: str) -> bool:
    """Whether the conversion metric is what is refused: by what the error points to, or by its words without that."""
    pointer = _pointer(first)
    if pointer not in (None, "/data/"):
        return pointer.endswith("/conversion_metric_id")
    return "conversion metric" in words or "conversion_metric_id" in words


def _facts(response: httpx.Response, endpoint: Endpoint) -> Facts:
    return Facts(request_id=request_id(response), status=response.status_code, endpoint=endpoint.name)


def _sentence(meaning: Meaning, detail: str | None) -> str:
    said = f": {shortened(detail).rstrip('. ')}" if detail else ""
    return f"{meaning.wrong}{said}. {meaning.remedy}"


def _error(
    meaning: Meaning,
    detail: str | None,
    first: Mapping[str, object] | None,
    scopes: tuple[str, ...],
    facts: Facts,
) -> KlaviyoError:
    sentence = _sentence(meaning, detail)
    if meaning.error is MissingScope:
        needed = tuple(_SCOPE.findall(detail or "")) or scopes
        return MissingScope(f"{sentence} {', '.join(needed)}.", scopes=needed, **facts)
    if meaning.error is NotFound:
        return NotFound(sentence, code=_string(first, "code"), **facts)
    if issubclass(meaning.error, BadRequest):
        pointer = _pointer(first)
        located = f"{sentence} It points to {pointer}." if pointer else sentence
        return meaning.error(located, detail=detail, pointer=pointer, **facts)
    return meaning.error(sentence, **facts)


def _pointer(first: Mapping[str, object] | None) -> str | None:
    source = (first or {}).get("source")
    if not isinstance(source, Mapping):
        return None
    return _string(source, "pointer") or _string(source, "parameter")
