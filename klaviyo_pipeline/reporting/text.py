"""Text that came from the account, made fit to be shown."""

from __future__ import annotations

JOINERS = frozenset("\u200c\u200d")
"""They join letters and emoji, and neither hide nor reorder what stands beside them."""


def printable(text: str) -> str:
    """The text without control characters and marks of direction: it must neither drive a terminal nor mislead."""
    return "".join(c if c.isprintable() or c in JOINERS else "�" for c in text)


def shortened(text: str, length: int) -> str:
    """At most `length` characters of the text, on one line, the last an ellipsis where something was cut."""
    line = printable(" ".join(text[: 4 * length].split()))
    return line if len(line) <= length and len(text) <= 4 * length else f"{line[: length - 1].rstrip()}…"
