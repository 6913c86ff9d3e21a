"""A reversible escape for characters that `jsonb` and `text` cannot store: NUL and lone surrogates.

`U+0000` becomes `␛u0000` and a lone `U+D83D` becomes `␛uD83D`, where ␛ is the visible character U+241B. Text that
already looks like an escape must stay distinct. So if a sequence of ␛ is directly followed by `u` and four upper-case
hex digits, or by a character that is escaped, every ␛ in it is doubled. No two texts have the same escape.

To restore the text, count the ␛ before each `uXXXX`. If the number is even, half of them remain, and `uXXXX` is plain
text. If it is odd, the last ␛ and `uXXXX` stand for one character, and half of the other ␛ remain.

JSON that is nested too deep becomes a string: `␛json:`, followed by the JSON text (see `nesting`).
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
    """`text` with the escapes of this module. Returns the same object if there is nothing to escape."""
    return _counted(text)[0]


def unescape(text: str) -> str:
    """The original of an escaped text."""
    return _ESCAPED.sub(_read_back, text)


def escape_json(value: object) -> tuple[object, int]:
    """`value` (decoded JSON) with its strings and keys escaped, and how many parts of it could not be stored unchanged.

    These parts are NULs, lone surrogates, and JSON that is nested too deep. If there is nothing to escape, `value`
    itself is returned.
    """
    if isinstance(value, str):
        return _counted(value)
    if isinstance(value, dict):
        return _escape_object(value)
    if isinstance(value, list):
        return _escape_array(value)
    return value, 0


def may_need_escape(json_text: str, *, surrogates: bool = True) -> bool:
    """Whether JSON text may contain anything to escape. This search is faster than `escape_json`.

    `surrogates` is False if the text is known to contain no lone surrogate. Valid pairs of surrogates, which encode
    emoji, then do not count.
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
    count, digits = len(match[1]), match[2]
    return ESCAPE * (count // 2) + (chr(int(digits, 16)) if count % 2 else f"u{digits}")
