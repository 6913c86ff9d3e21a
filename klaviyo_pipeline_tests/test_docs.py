"""The documents name tests and settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from klaviyo_pipeline.settings import PROJECT_ROOT

TESTS = PROJECT_ROOT / "klaviyo_pipeline_tests"
DOCUMENTS = sorted([*(PROJECT_ROOT / "docs").glob("*.md"), PROJECT_ROOT / "README.md"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    written = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())}
    named = set(re.findall(r"`(test_\w+)`", document.read_text()))
    assert named <= written


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_within_the_project_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []
