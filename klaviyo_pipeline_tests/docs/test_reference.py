"""The reference documents and the example match the code and the database."""

from __future__ import annotations

import re

import psycopg
import pytest

from klaviyo_pipeline.config.settings import PROJECT_ROOT, SQL_DIR
from klaviyo_pipeline.config.variables import VARIABLES
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline_tests.docs.reference import SCHEMA, SETTINGS, TABLES, settings_document, tables_document

EXAMPLE = (PROJECT_ROOT / ".env.example").read_text(encoding="utf-8")
INTERNAL = {"KLAVIYO_IGNORE_DOTENV"}
"""For the tests and the demo, which must not read somebody's `.env`."""


def test_the_settings_document_is_the_declarations() -> None:
    assert SETTINGS.read_text(encoding="utf-8") == settings_document(), "out of date; run: make docs"


def test_the_tables_document_is_the_catalog(database: str) -> None:
    migrate(database, SCHEMA, SQL_DIR)
    with psycopg.connect(database) as connection:
        assert TABLES.read_text(encoding="utf-8") == tables_document(connection), "out of date; run: make docs"


def test_every_variable_that_the_code_names_is_declared() -> None:
    code = [path.read_text(encoding="utf-8") for path in (PROJECT_ROOT / "klaviyo_pipeline").rglob("*.py")]
    named = {name for text in code for name in re.findall(r"KLAVIYO_[A-Z_]*[A-Z]", text)}
    assert named - INTERNAL == VARIABLES.keys()


@pytest.mark.parametrize("name", VARIABLES)
def test_the_example_offers_every_variable_with_its_default(name: str) -> None:
    [offered] = re.findall(rf"^#?{name}=(.*)$", EXAMPLE, re.MULTILINE)
    default = VARIABLES[name].default
    assert offered == default or offered.startswith("postgresql://user:password@localhost")
