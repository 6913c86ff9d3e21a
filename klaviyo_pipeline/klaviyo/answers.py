"""What came back: a JSON:API document, or a fault with its meaning.

A 200 is believed only if it holds JSON with `data` of the expected kind: an edge or a proxy answers 200
with a page of HTML now and then, and a missing `data` is a failure, not an empty page.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
    Problem,
    shortened,
)
from klaviyo_pipeline.klaviyo.escape import may_need_escape
from klaviyo_pipeline.klaviyo.nesting import MOST_LEVELS, cut_at
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.retry import requested_wait

# Python reads no integer that is much longer.
MOST_DIGITS = 4_000

# Of an answer's errors so many are said.
MOST_ERRORS = 10

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
    problems = _problems(response.text, redact)
    words = list(dict.fromkeys(problem.words for problem in problems or [] if problem.words))
    if problems is None:
        words = _plain_words(redact(response.text))
    if response.is_redirect:
        words = [redact(f"to {response.headers['location']}")]
    meaning = _meaning(response, problems, words)
    facts = _facts(response, endpoint)
    facts["request_id"] = facts["request_id"] or next((one.id for one in problems or [] if one.id), None)
    titles = [problem.title for problem in problems or [] if problem.title]
    pause = requested_wait(response.headers, " ".join([*words, *titles]), now)
    error = _error(meaning, words, problems or [], facts)
    return Fault(error, meaning.retried, f"HTTP {response.status_code}", "; ".join(words) or None, pause)


def malformed(response: httpx.Response, endpoint: Endpoint, why: str) -> Fault:
    """A 200 that is not to be believed."""
    meaning = errors.MALFORMED
    error = meaning.error(_sentence(meaning, [why]), **_facts(response, endpoint))
    return Fault(error, meaning.retried, "malformed answer")


def other_revision(response: httpx.Response, endpoint: Endpoint, requested: str, answered_as: str) -> Fault:
    """An answer of another revision than the one requested."""
    meaning = errors.OTHER_REVISION
    why = f"requested {requested}, answered as {shortened(answered_as)}"
    return Fault(meaning.error(_sentence(meaning, [why]), **_facts(response, endpoint)), meaning.retried, why)


def no_answer(trouble: httpx.RequestError, endpoint: Endpoint, proxy: str | None) -> Fault:
    """The connection failed, or broke before the answer was complete; `proxy` is the variable that names one."""
    meaning = errors.NO_ANSWER
    if proxy is not None:
        meaning = replace(meaning, remedy=f"Check the network and the proxy that {proxy} names, then run again.")
    message = f"{type(trouble).__name__} {trouble}".strip()
    return Fault(meaning.error(_sentence(meaning, [message]), endpoint=endpoint.name), meaning.retried, message)


def request_id(response: httpx.Response) -> str | None:
    """Klaviyo's id of the request."""
    reported: str | None = response.headers.get("x-klaviyo-req-id")
    return reported


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


def _problems(text: str, redact: Callable[[str], str]) -> list[Problem] | None:
    """The JSON:API errors, in their order; none for other JSON, None if there is no JSON."""
    try:
        # Before and after: JSON may write the letters of a secret in other ways.
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


def _plain_words(text: str) -> list[str]:
    """The first line of a body in plain text, as a proxy sends it; of a page of HTML nothing."""
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


def _meaning(response: httpx.Response, problems: list[Problem] | None, words: list[str]) -> Meaning:
    status, message = response.status_code, " ".join(words)
    if 200 <= status < 300:
        return errors.MALFORMED
    if status == 403 and (problems is None or "cf-mitigated" in response.headers):
        return errors.EDGE_BLOCK
    if status == 403 and _SCOPE.search(message):
        return errors.LACKS_SCOPE
    if status == 400 and "invalid cursor" in message.lower():
        return errors.OLD_CURSOR
    if status == 400 and _is_about_the_metric(problems or [], message.lower()):
        return errors.INELIGIBLE
    return errors.meaning_of(status)


def _is_about_the_metric(problems: list[Problem], words: str) -> bool:
    """Whether the conversion metric is what is refused: by what an error points to, or by its words without that."""
    pointers = {one.pointer for one in problems} - {None, "/data/"}
    if pointers:
        return any(pointer is not None and pointer.endswith("/conversion_metric_id") for pointer in pointers)
    return "conversion metric" in words or "conversion_metric_id" in words


def _facts(response: httpx.Response, endpoint: Endpoint) -> Facts:
    return Facts(request_id=request_id(response), status=response.status_code, endpoint=endpoint.name)


def _sentence(meaning: Meaning, words: list[str]) -> str:
    seen = [shortened(one).rstrip(". ") for one in words[:MOST_ERRORS]]
    if len(words) > MOST_ERRORS:
        seen.append(f"and {len(words) - MOST_ERRORS} more")
    message = f": {'; '.join(seen)}" if seen else ""
    return f"{meaning.wrong}{message}. {meaning.remedy}"


def _error(meaning: Meaning, words: list[str], problems: list[Problem], facts: Facts) -> KlaviyoError:
    sentence = _sentence(meaning, words)
    if meaning.error is MissingScope:
        scopes = tuple(dict.fromkeys(_SCOPE.findall(" ".join(words))))
        return MissingScope(f"{sentence} {', '.join(scopes)}.", scopes=scopes, **facts)
    if meaning.error is NotFound:
        return NotFound(sentence, problems=problems, **facts)
    if issubclass(meaning.error, BadRequest):
        pointers = list(dict.fromkeys(problem.pointer for problem in problems if problem.pointer))
        located = f"{sentence} It points to {', '.join(pointers)}." if pointers else sentence
        return meaning.error(
            located, detail="; ".join(words) or None, pointer=pointers[0] if pointers else None, **facts
        )
    return meaning.error(sentence, **facts)
