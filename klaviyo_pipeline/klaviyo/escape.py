"""A reversible escape for characters that `jsonb` and `text` cannot store: NUL and lone surrogates.

`U+0000` becomes `␛u0000` and a lone `U+D83D` becomes `␛uD83D`, where ␛ is the visible character U+241B. Text that
already looks like an escape must survive: a sequence of ␛ is doubled if it stands directly before `u` and four
upper-case hex digits, or before a character that is escaped. To read back, count the ␛ before `uXXXX`. An even
number is halved, and `uXXXX` is plain text. For an odd number, the last ␛ and `uXXXX` are the escape of one character,
and the others are halved. No two texts have the same escape.

JSON that is nested too deep (`nesting`) becomes a string: `␛json:`, followed by the JSON text.
"""

import re

ESCAPE = "␛"
DEEP = f"{ESCAPE}json:"

_SUSPECT = re.compile("[\x00\ud800-\udfff␛]")
_TO_ESCAPE = re.compile("(␛*)([\x00\ud800-\udfff])|(␛+)(?=u[0-9A-F]{4})")
_ESCAPED = re.compile("(␛+)u([0-9A-F]{4})")
_SUSPECT_JSON = re.compile(r"␛|\\u(?:0000|241[bB])")
_SURROGATE_JSON = re.compile(r"\\u[dD][89a-fA-F]")


def escape(text: str) -> str:
    """`text` with its forbidden characters escaped; the same object if there is nothing to escape."""
    return _counted(text)[0]


def unescape(text: str) -> str:
    """The original text of an escaped one."""
    return _ESCAPED.sub(_read_back, text)


def escape_json(value: object) -> tuple[object, int]:
    """`value` (decoded JSON) with its strings and keys escaped, and the number of escaped characters and cut levels.

    A value with nothing to escape is returned as the same object.
    """
    if isinstance(value, str):
        return _counted(value)
    if isinstance(value, dict):
        return _escape_object(value)
    if isinstance(value, list):
        return _escape_array(value)
    return value, 0


def may_need_escape(json_text: str, *, surrogates: bool = True) -> bool:
    """Whether JSON text may contain anything to escape: a quick search that avoids decoding and walking the value.

    `surrogates` is False if the text cannot contain a lone surrogate. Pairs of surrogates are valid: they encode emoji.
    """
    if surrogates and _SURROGATE_JSON.search(json_text) is not None:
        return True
    return _SUSPECT_JSON.search(json_text) is not None


def _counted(text: str) -> tuple[str, int]:
    if _SUSPECT.search(text) is None:
        return text, 0
    escaped = _TO_ESCAPE.sub(_replacement, text)
    refused = sum(1 for char in text if char == "\0" or "\ud800" <= char <= "\udfff") + text.startswith(DEEP)
    return (text if escaped == text else escaped), refused


def _escape_object(value: dict[str, object]) -> tuple[dict[str, object], int]:
    walked: dict[str, object] = {}
    total, changed = 0, False
    for key, item in value.items():
        new_key, in_key = _counted(key)
        walked[new_key], in_item = escape_json(item)
        total += in_key + in_item
        changed = changed or new_key is not key or walked[new_key] is not item
    return (walked if changed else value), total


def _escape_array(value: list[object]) -> tuple[list[object], int]:
    walked = [escape_json(item) for item in value]
    changed = any(new is not old for (new, _), old in zip(walked, value, strict=True))
    return ([new for new, _ in walked] if changed else value), sum(count for _, count in walked)


def _replacement(match: re.Match[str]) -> str:
    before, refused, lookalike = match.groups()
    if refused is None:
        return str(lookalike) * 2
    return f"{before}{before}{ESCAPE}u{ord(refused):04X}"


def _read_back(match: re.Match[str]) -> str:
    run, digits = len(match[1]), match[2]
    return ESCAPE * (run // 2) + (chr(int(digits, 16)) if run % 2 else f"u{digits}")
