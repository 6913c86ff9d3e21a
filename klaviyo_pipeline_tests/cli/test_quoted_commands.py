"""Every command that a message, a help text or a document quotes is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache

import click
import pytest

from klaviyo_pipeline.cli.main import cli
from klaviyo_pipeline.config.accounts import in_terms_of
from klaviyo_pipeline.config.settings import PROJECT_ROOT, Account
from klaviyo_pipeline_tests.docs.test_docs import DOCUMENTS, RUN
from klaviyo_pipeline_tests.docs.test_troubleshoot_document import messages

OF_A_FILE = Account(slug="shop", described_in="accounts.yaml")
QUOTED = re.compile(
    r"`klaviyo-pipeline ([a-z-][^`]*)`|<code>klaviyo-pipeline ([^<]+)</code>|^ +klaviyo-pipeline (.+)$", re.MULTILINE
)


def texts() -> Iterator[str]:
    """Every text in the code, in the templates and in the documents. `…` and `{{ … }}` stand for what is filled in."""
    yield from messages()
    yield from (
        re.sub(r"\{\{.*?\}\}", "…", one.read_text()) for one in (PROJECT_ROOT / "klaviyo_pipeline").rglob("*.j2")
    )
    yield from (one.read_text() for one in DOCUMENTS if one not in RUN)


@cache
def quoted() -> list[str]:
    """The command lines without the program's name, each once; not the patterns of such lines."""
    found = (next(filter(None, match.groups())) for text in texts() for match in QUOTED.finditer(text))
    return sorted({" ".join(line.split()) for line in found if not re.search(r"COMMAND|\(", line)})


def filled_in(line: str) -> list[str]:
    """The words of a command line, with a day or the name of an asset for what is filled in."""
    words = shlex.split(line, comments=True)
    for place, word in enumerate(words):
        is_day = place and words[place - 1] in ("--from", "--to")
        words[place] = word.replace("…", "2026-01-01" if is_day else "flows")
    return [word for word in words if word not in ("--help", "--debug")]


def parse(words: list[str]) -> None:
    """Raises click's error for a command or an option that does not exist, and for a wrong value.

    A command that is only named may need options.
    """
    name, *arguments = words
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    confirmed = ["--yes"] if name in ("reset-clock", "reset-windows") else []
    try:
        command.make_context(name, [*arguments, *confirmed])
    except click.MissingParameter:
        assert not arguments or arguments[0] == "--account"


def test_many_commands_are_quoted() -> None:
    assert len(quoted()) > 50


@pytest.mark.parametrize("line", quoted())
def test_a_quoted_command_is_understood_also_for_an_account_of_a_file(line: str) -> None:
    parse(filled_in(line))
    of_account = in_terms_of(OF_A_FILE, f"`klaviyo-pipeline {line}`").strip("`").removeprefix("klaviyo-pipeline ")
    parse(filled_in(of_account))
    named = {word for word in of_account.split() if word == "--account"}
    assert named or filled_in(line)[0] in (
        "accounts",
        "database",
        "demo",
        "dev",
        "doctor",
        "prune",
        "report",
        "sandbox",
    )
