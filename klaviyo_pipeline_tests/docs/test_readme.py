"""The README is short, and the documents behind it name every command, asset, schedule and sensor."""

import re

from klaviyo_pipeline.cli.main import COMMANDS
from klaviyo_pipeline.cli.sync_command import NAMES
from klaviyo_pipeline.config.settings import PROJECT_ROOT, Account
from klaviyo_pipeline.orchestration.build import project_defs

LIST = (PROJECT_ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
MOST_LINES = 160


def first_cells(text: str) -> str:
    """The first column of the tables in a text."""
    return "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len((PROJECT_ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_every_document_is_linked_from_the_readme() -> None:
    readme = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in (PROJECT_ROOT / "docs").glob("*.md") if f"(docs/{path.name})" not in readme] == []


def test_every_command_is_in_the_list_of_commands() -> None:
    listed = set(re.findall(r"[a-z]+(?:-[a-z]+)*", first_cells(LIST)))
    assert set(COMMANDS) <= listed


def test_every_asset_that_sync_knows_is_in_the_list_of_commands() -> None:
    assert [name for name in NAMES if name not in LIST and not name.endswith("_census")] == []


def test_every_schedule_and_sensor_is_in_the_document_about_them() -> None:
    schedule = (PROJECT_ROOT / "docs" / "schedule.md").read_text(encoding="utf-8")
    definitions = project_defs([Account()])
    named = {one.name for one in [*(definitions.schedules or []), *(definitions.sensors or [])]}
    assert named - set(re.findall(r"\w+", schedule)) == set()
