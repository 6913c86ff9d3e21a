"""Every line that `docs/troubleshoot.md` quotes is one that the code can say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from klaviyo_pipeline.config.settings import PROJECT_ROOT

DOCUMENT = (PROJECT_ROOT / "docs" / "troubleshoot.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^\| `([^`]+)` \|", DOCUMENT, re.MULTILINE)
QUOTED += re.findall(r"`([A-Z][^`]+\.)` stands", DOCUMENT)


@cache
def messages() -> frozenset[str]:
    """Every text in the code, with `…` for what is filled in."""
    files = (PROJECT_ROOT / "klaviyo_pipeline").rglob("*.py")
    return frozenset(text for file in files for text in _texts(file))


def _texts(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def says(text: str, quoted: str) -> bool:
    """Whether the text contains the pieces of the quotation, in their order. `…` stands for anything."""
    pattern = ".*?".join(re.escape(piece.strip()) for piece in quoted.split("…"))
    return re.search(pattern, text, re.DOTALL) is not None


def test_the_document_quotes_many_lines() -> None:
    assert len(QUOTED) > 30


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_line_is_one_that_the_code_says(quoted: str) -> None:
    # A message that several variables share has a placeholder for the name of the variable.
    forms = {quoted, quoted.replace("KLAVIYO_API_KEY is not", "… is not", 1)}
    assert any(says(text, form) for text in messages() for form in forms)
