"""Limits how deep JSON is nested: an array or object below the limit becomes a string that contains its JSON text.

Python's parser, the JSON writers and Postgres all fail at some depth, and one deep object would fail its whole page.
So the deep parts are replaced before the text is parsed.
"""

import json
import re

from klaviyo_pipeline.klaviyo.escape import DEEP

MOST_LEVELS = 100
"""The most levels within one resource. Definitions of flows and segments have about 20."""

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_STRING_OR_BRACKET = re.compile(rf"{_STRING.pattern}|{_BRACKET.pattern}", re.DOTALL)


def cut_at(json_text: str, levels: int) -> str:
    """`json_text`, with a string in place of each array or object that is nested below this many levels.

    The string is `DEEP`, followed by the text of the array or object. Returns `json_text` itself if nothing is so deep.
    """
    return _cut(json_text, levels) if _depth(json_text) > levels else json_text


def _depth(json_text: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub("", json_text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _cut(json_text: str, levels: int) -> str:
    pieces: list[str] = []
    depth = began = written = 0
    for token in _STRING_OR_BRACKET.finditer(json_text):
        if token[0] in "[{":
            depth += 1
            if depth == levels + 1:
                began = token.start()
                pieces.append(json_text[written:began])
        elif token[0] in "]}":
            depth -= 1
            if depth == levels:
                written = token.end()
                pieces.append(json.dumps(DEEP + json_text[began:written], ensure_ascii=False))
    return "".join([*pieces, json_text[written:]])
