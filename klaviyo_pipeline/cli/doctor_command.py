"""The command `klaviyo-pipeline doctor`."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from klaviyo_pipeline.cli.shared import accounts_option, console, format_option, json_text, quiet
from klaviyo_pipeline.config.settings import load_dotenv_file

if TYPE_CHECKING:
    from klaviyo_pipeline.diagnosis.findings import Finding

SIGNS = {"ok": ("✔", "green"), "warning": ("!", "yellow"), "failed": ("✘", "red"), "skipped": ("–", "dim")}


@click.command()
@accounts_option
@format_option
def doctor(slugs: tuple[str, ...], form: str) -> None:
    """Check everything that a sync needs, and print one line for each check, with a remedy if it fails.

    The checks cover the settings, the API key and its scopes, the API revision, the time zone, the conversion metric,
    the database and its role, the migrations, Dagster's instance, and the clocks. They use no report quota. They make
    two corrections in Dagster: a run of `sync` whose process died on this machine is marked as failed, and partitions
    that differ from the ledger are corrected. The exit code is 1 if a check fails or is skipped. A warning (!) means
    that something works today but needs attention; it does not change the exit code.

    \b
    Examples:
      klaviyo-pipeline doctor
      klaviyo-pipeline doctor --format json
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
    """A table with one line for each finding, followed by a line with its remedy, if it has one."""
    output = Table(box=None, show_header=False, pad_edge=False)
    for column in ("sign", "check", "found"):
        output.add_column(column, overflow="fold", no_wrap=column != "found")
    for finding in findings:
        sign, style = SIGNS[finding.verdict]
        output.add_row(Text(sign, style), Text(finding.check), Text(finding.found))
        if finding.remedy:
            output.add_row("", "", Text(f"→ {finding.remedy}", style))
    return output
