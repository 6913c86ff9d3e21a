"""The README names what there is: settings, commands, assets, schedules."""

import re

from klaviyo_pipeline.cli.main import cli
from klaviyo_pipeline.cli.sync_command import NAMES
from klaviyo_pipeline.config.settings import PROJECT_ROOT, Account
from klaviyo_pipeline.orchestration.build import build_defs

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
VARIABLE = re.compile(r"KLAVIYO_[A-Z_]+[A-Z]")


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> str:
    """The first column of the tables in a text."""
    return "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))


def test_every_setting_of_the_example_is_in_the_readme_and_the_other_way_round() -> None:
    example = (PROJECT_ROOT / ".env.example").read_text(encoding="utf-8")
    offered = set(re.findall(r"^#?(KLAVIYO_[A-Z_]+)=", example, re.MULTILINE))
    assert set(VARIABLE.findall(first_cells(section("Settings")))) == offered


def test_every_command_is_in_the_readme() -> None:
    listed = set(re.findall(r"[a-z]+", first_cells(section("Commands"))))
    assert set(cli.commands) <= listed


def test_every_asset_that_sync_knows_is_in_the_readme() -> None:
    text = section("Commands")
    assert [name for name in NAMES if name not in text and not name.endswith("_census")] == []


def test_every_schedule_and_sensor_is_in_the_readme() -> None:
    definitions = build_defs([Account()])
    named = {one.name for one in [*(definitions.schedules or []), *(definitions.sensors or [])]}
    assert named - set(re.findall(r"\w+", section("Switch on the schedules"))) == set()
