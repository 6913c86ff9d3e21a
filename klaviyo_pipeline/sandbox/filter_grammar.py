"""The grammar of Klaviyo's `filter` parameter: `operator(field,value)`, joined by commas or by `and(…)`.

Values are strings in quotes, bare words (booleans, times, numbers), or lists of these. Klaviyo's grammar also has `or`
and `not`, but none of the simulated endpoints supports them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


class MalformedFilterError(ValueError):
    """The text is not a valid filter. The message names the position of the error."""


@dataclass(frozen=True)
class Word:
    """One value. `quoted` distinguishes `'true'` from `true`."""

    text: str
    quoted: bool


@dataclass(frozen=True)
class Condition:
    """One `operator(field,value)`. `listed` distinguishes `['a']` from `'a'`."""

    operator: str
    field: str
    words: tuple[Word, ...]
    listed: bool


_NAME = re.compile(r"[a-z][a-z-]*(?=\()")
_FIELD = re.compile(r"[A-Za-z_][\w.]*")
_BARE = re.compile(r"[^\s,()\[\]'\"]+")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)


def parse_filter(text: str) -> list[Condition]:
    """All conditions of the filter, with nested `and`s flattened. Raises `MalformedFilterError`."""
    reader = _Reader(text)
    conditions = reader.conditions()
    if reader.position != len(text):
        raise reader.error("an end")
    return conditions


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def error(self, expected: str) -> MalformedFilterError:
        return MalformedFilterError(f"Expected {expected} at position {self.position} of the filter.")

    def conditions(self) -> list[Condition]:
        found = self._term()
        while self._skip(","):
            found += self._term()
        return found

    def _term(self) -> list[Condition]:
        name = self._take(_NAME, "an operator")
        if name in ("or", "not"):
            raise MalformedFilterError(f"The operator '{name}' is not supported here.")
        self._need("(")
        if name == "and":
            inner = self.conditions()
        else:
            field = self._take(_FIELD, "a field")
            self._need(",")
            words, listed = self._value()
            inner = [Condition(name, field, words, listed)]
        self._need(")")
        return inner

    def _value(self) -> tuple[tuple[Word, ...], bool]:
        if not self._skip("["):
            return (self._word(),), False
        words: list[Word] = []
        while not self._skip("]"):
            if words:
                self._need(",")
                self._spaces()
            words.append(self._word())
        return tuple(words), True

    def _word(self) -> Word:
        found = _QUOTED.match(self.text, self.position)
        if found is None:
            return Word(self._take(_BARE, "a value"), quoted=False)
        self.position = found.end()
        inner = found[1] if found[1] is not None else found[2]
        return Word(re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL), quoted=True)

    def _take(self, pattern: re.Pattern[str], expected: str) -> str:
        found = pattern.match(self.text, self.position)
        if found is None:
            raise self.error(expected)
        self.position = found.end()
        return found[0]

    def _skip(self, sign: str) -> bool:
        if not self.text.startswith(sign, self.position):
            return False
        self.position += len(sign)
        return True

    def _need(self, sign: str) -> None:
        if not self._skip(sign):
            raise self.error(f"'{sign}'")

    def _spaces(self) -> None:
        while self._skip(" "):
            pass
