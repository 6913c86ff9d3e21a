"""The documents name tests, files and headings that exist, and commands that are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from klaviyo_pipeline.cli.main import cli
from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.klaviyo.retry import RetryPolicy

TESTS = PROJECT_ROOT / "klaviyo_pipeline_tests"
RUN = {PROJECT_ROOT / "docs" / "extend.md"}
"""Its commands name an asset that is not there before; `test_extend.py` runs them."""
DOCUMENTS = sorted(
    [*(PROJECT_ROOT / "docs").rglob("*.md"), *(PROJECT_ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
)


def commands_of(document: Path) -> list[str]:
    """The lines for `klaviyo-pipeline` in a document's blocks of shell, without the program's name."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"^\.venv/bin/klaviyo-pipeline (.*)$", "\n".join(blocks), re.MULTILINE)


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_heading_that_a_link_leads_to_is_there(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text())
    missing = [
        (target, anchor)
        for target, anchor in links
        if anchor not in anchors(document.parent / target if target else document)
    ]
    assert missing == []


def anchors(document: Path) -> set[str]:
    """The headings of a document, as anchors for links."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_documents_name_the_retry_budget_of_the_code() -> None:
    policy = RetryPolicy()
    assert (policy.attempts, sum(policy.ceilings), policy.longest_loss / 60) == (5, 20, 30)
    named = {
        "reliability.md": ("5 attempts, with up to 20 s of backoff in total", "A run loses thirty minutes to failed"),
        "fidelity.md": ("sent up to five times, with up to 20 s",),
        "troubleshoot.md": ("5xx or 408 five times", "to five attempts of a request", "lost half an hour to failed"),
    }
    for name, sentences in named.items():
        text = (PROJECT_ROOT / "docs" / name).read_text()
        assert [sentence for sentence in sentences if sentence not in text] == []


@pytest.mark.parametrize("line", sorted({line for one in DOCUMENTS if one not in RUN for line in commands_of(one)}))
def test_every_command_that_a_document_has_is_understood(line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.make_context(name, [word for word in arguments if word not in (">", "march.csv")])
