"""The rooms of the package: imports run one way, importing builds nothing, and no two modules share a name."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import klaviyo_pipeline
from klaviyo_pipeline.config.settings import PROJECT_ROOT

PACKAGE = PROJECT_ROOT / "klaviyo_pipeline"

ROOMS = (
    "config",
    "klaviyo",
    "sandbox",
    "catalog",
    "windows",
    "postgres.server",
    "postgres.schema",
    "postgres",
    "postgres.write",
    "planning",
    "dagster_internals",
    "dagster_internals.celery",
    "reporting",
    "maintenance",
    "orchestration.resources",
    "orchestration.assets",
    "orchestration.checks",
    "orchestration",
    "definitions",
    "sync",
    "diagnosis",
    "cli",
)
"""Every room, in an order in which each imports only from those before it."""


def modules() -> dict[str, Path]:
    """The modules of the package by name; a package has the name of its folder."""
    names = {file.relative_to(PACKAGE).with_suffix(""): file for file in PACKAGE.rglob("*.py")}
    return {".".join(part for part in name.parts if part != "__init__"): file for name, file in names.items()}


MODULES = modules()


def room_of(module: str) -> str:
    """The folder of a module. A module at the top level is its own room."""
    folder = MODULES[module].relative_to(PACKAGE).parent
    return ".".join(folder.parts) or module


def imports_of(module: str) -> Iterator[str]:
    """The modules of the package that a module imports, anywhere in its code."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("klaviyo_pipeline"):
            package = (node.module or "").removeprefix("klaviyo_pipeline").removeprefix(".")
            for alias in node.names:
                name = f"{package}.{alias.name}".removeprefix(".")
                yield name if name in MODULES else package
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("klaviyo_pipeline."):
                    yield alias.name.removeprefix("klaviyo_pipeline.")


def test_imports_run_one_way() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in MODULES
        if module
        for imported in imports_of(module)
        if ROOMS.index(room_of(imported)) > ROOMS.index(room_of(module))
    ]
    assert wrong == []


def test_every_room_is_in_the_order() -> None:
    assert {room_of(module) for module in MODULES if module} == set(ROOMS)


def test_two_modules_never_share_a_name() -> None:
    names = Counter(file.stem for file in MODULES.values() if file.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("klaviyo_pipeline, klaviyo_pipeline.orchestration", ("dagster", "pandas", "klaviyo_pipeline.config.settings")),
        ("klaviyo_pipeline.catalog", ("dagster", "pandas", "sqlalchemy")),
        ("klaviyo_pipeline.klaviyo.client", ("dagster", "psycopg", "sqlalchemy")),
        ("klaviyo_pipeline.cli.main", ("dagster", "pandas", "psycopg", "rich", "sqlalchemy")),
        ("klaviyo_pipeline.cli.status_command", ("dagster", "httpx", "numpy", "pandas")),
    ],
)
def test_an_import_loads_no_unneeded_module(imported: str, absent: tuple[str, ...]) -> None:
    code = f"import {imported}, sys; print(*sorted(set({absent!r}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == ""


def test_importing_the_definitions_of_accounts_reads_no_environment() -> None:
    code = (
        "import os\n"
        "read = os.environ.get\n"
        "def refuse(name, *default):\n"
        "    assert not name.startswith('KLAVIYO_'), name\n"
        "    return read(name, *default)\n"
        "os.environ.get = refuse\n"
        "import klaviyo_pipeline.orchestration.build"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)


@pytest.mark.parametrize("name", klaviyo_pipeline.__all__)
def test_the_public_names_can_be_imported(name: str) -> None:
    assert getattr(klaviyo_pipeline, name).__module__.startswith("klaviyo_pipeline.")


def test_other_names_raise_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = klaviyo_pipeline.nothing
