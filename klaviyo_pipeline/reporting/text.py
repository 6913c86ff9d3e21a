"""Makes text from the account safe to display."""

from __future__ import annotations

JOINERS = frozenset("\u200c\u200d")
"""Zero-width joiners. They join letters and emoji, and neither hide nor reorder the text around them."""


def printable(text: str) -> str:
    """The text without control characters and direction marks, which could control a terminal or reorder the text."""
    return "".join(c if c.isprintable() or c in JOINERS else "�" for c in text)


def shortened(text: str, length: int) -> str:
    """At most `length` characters of the text, on one line. A shortened text ends with an ellipsis."""
    line = printable(" ".join(text[: 4 * length].split()))
    return line if len(line) <= length and len(text) <= 4 * length else f"{line[: length - 1].rstrip()}…"
