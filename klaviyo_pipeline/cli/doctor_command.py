"""`klaviyo-pipeline doctor`."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from klaviyo_pipeline.cli.shared import accounts_option, console, json_text, quiet
from klaviyo_pipeline.config.settings import load_dotenv_file

if TYPE_CHECKING:
    from klaviyo_pipeline.diagnosis.findings import Finding

SIGNS = {"ok": ("✔", "green"), "warning": ("!", "yellow"), "failed": ("✘", "red"), "skipped": ("–", "dim")}


@click.command(short_help="What is right and wrong with this installation.")
@accounts_option
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def doctor(slugs: tuple[str, ...], form: str) -> None:
    """Look at everything a sync needs, a line each: what is right, what is wrong, and what to do about it.

    Settings, key and scopes, revision, time zone, conversion metric, database, role, migrations, Dagster, clocks.
    Nothing is written, and no report quota is spent. Exit code 0 if nothing is wrong, 1 otherwise; what works today
    and may not tomorrow (!) is no failure.
    """
    quiet()
    load_dotenv_file()
    from klaviyo_pipeline.diagnosis.doctor import examine

    findings = examine(os.environ, chosen=slugs)
    if form == "json":
        click.echo(json_text([vars(finding) for finding in findings]))
    else:
        console().print(findings_table(findings))
    if any(finding.verdict in ("failed", "skipped") for finding in findings):
        raise click.exceptions.Exit(1)


COMMANDS = (doctor,)


def findings_table(findings: Sequence["Finding"]) -> Table:
    """A line for each finding, the remedy below it."""
    output = Table(box=None, show_header=False, pad_edge=False)
    for column in ("sign", "check", "found"):
        output.add_column(column, overflow="fold", no_wrap=column != "found")
    for finding in findings:
        sign, style = SIGNS[finding.verdict]
        output.add_row(Text(sign, style), Text(finding.check), Text(finding.found))
        if finding.remedy:
            output.add_row("", "", Text(f"→ {finding.remedy}", style))
    return output
