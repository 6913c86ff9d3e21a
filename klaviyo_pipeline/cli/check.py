"""`klaviyo-pipeline check`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from klaviyo_pipeline.cli.shared import console, json_text, quiet, settings_of_environment, warehouse
from klaviyo_pipeline.postgres.account import verify
from klaviyo_pipeline.resources import api_key
from klaviyo_pipeline.text import printable

if TYPE_CHECKING:
    from klaviyo_pipeline.checks.running import Checked

SIGNS = {"passed": ("✔", "green"), "warning": ("!", "yellow"), "error": ("✘", "red")}


@click.command(short_help="Is what is in Postgres whole, plausible and fresh?")
@click.option("--ask", is_flag=True, help="Also compare with what Klaviyo shows now; costs requests.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def check(ask: bool, form: str) -> None:
    """Run every asset check and print a line for each: what was found and, where something is wrong, what to do.

    The checks read Postgres alone. With --ask, others compare it with what Klaviyo shows now: a full listing of every
    entity, and one request of the daily quota for each report. The results stand in the Dagster UI too. Exit code 1
    if a check comes to an error; a warning (!) is none.
    """
    settings = settings_of_environment()
    if ask:
        api_key(settings.account.api_key_variable)
    quiet()
    with warehouse(settings) as engine, engine.connect() as connection:
        verify(connection, settings.account, None)
    from klaviyo_pipeline.checks.running import CheckBroken, run_checks
    from klaviyo_pipeline.instance import use_project_instance

    use_project_instance()
    try:
        found = run_checks(settings.account, ask=ask)
    except CheckBroken as error:
        raise click.ClickException(str(error)) from None
    if form == "json":
        click.echo(json_text([vars(one) for one in found]))
    else:
        console().print(checks_table(found))
    if any(one.outcome == "error" for one in found):
        raise click.exceptions.Exit(1)


COMMANDS = (check,)


def checks_table(found: Sequence["Checked"]) -> Table:
    """A line for each check, those of an asset together."""
    shown = Table(box=None, show_header=False, pad_edge=False)
    for column in ("sign", "asset", "check", "found"):
        shown.add_column(column, overflow="fold", no_wrap=column != "found")
    for one in found:
        sign, style = SIGNS[one.outcome]
        shown.add_row(Text(sign, style), Text(one.asset), Text(one.check), Text(printable(one.found)))
    return shown
