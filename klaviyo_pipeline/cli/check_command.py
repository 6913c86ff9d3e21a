"""`klaviyo-pipeline check`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from klaviyo_pipeline.cli.shared import accounts_option, chosen_accounts, console, json_text, quiet, warehouse
from klaviyo_pipeline.config.settings import Settings
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import api_key
from klaviyo_pipeline.postgres.account_binding import check_schema_owner
from klaviyo_pipeline.reporting.text import printable

if TYPE_CHECKING:
    from klaviyo_pipeline.sync.check_runs import Checked

SIGNS = {"passed": ("✔", "green"), "warning": ("!", "yellow"), "error": ("✘", "red")}


@click.command(short_help="Is what is in Postgres whole, plausible and fresh?")
@accounts_option
@click.option("--ask", is_flag=True, help="Also compare with what Klaviyo shows now; costs requests.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def check(slugs: tuple[str, ...], ask: bool, form: str) -> None:
    """Run every asset check and print a line for each: what was found and, where something is wrong, what to do.

    The checks read Postgres alone. With --ask, others compare it with what Klaviyo shows now: a full listing of every
    entity, and one request of the daily quota for each report. The results stand in the Dagster UI too. Exit code 1
    if a check comes to an error; a warning (!) is none.
    """
    quiet()
    with chosen_accounts(slugs) as chosen:
        by_account = chosen.each(lambda settings: _checked(settings, ask=ask))
        if form == "json":
            summaries = [
                {"account": settings.account.slug, **vars(one)} if chosen.several else vars(one)
                for settings, found in by_account
                for one in found
            ]
            click.echo(json_text(summaries))
        for settings, found in by_account if form == "table" else ():
            if chosen.several:
                console().print(f"[bold]{settings.account.slug}[/bold]")
            console().print(checks_table(found))
        if any(one.outcome == "error" for _, found in by_account for one in found):
            raise click.exceptions.Exit(1)


def _checked(settings: Settings, *, ask: bool) -> "list[Checked]":
    if ask:
        api_key(settings.account.api_key_variable)
    with warehouse(settings) as engine, engine.connect() as connection:
        check_schema_owner(connection, settings.account, None)
    from klaviyo_pipeline.dagster_internals.storage import use_project_instance
    from klaviyo_pipeline.sync.check_runs import CheckBroken, run_checks

    use_project_instance()
    try:
        return run_checks(settings.account, ask=ask)
    except CheckBroken as error:
        raise click.ClickException(str(error)) from None


COMMANDS = (check,)


def checks_table(found: Sequence["Checked"]) -> Table:
    """A line for each check, those of an asset together."""
    output = Table(box=None, show_header=False, pad_edge=False)
    for column in ("sign", "asset", "check", "found"):
        output.add_column(column, overflow="fold", no_wrap=column != "found")
    for one in found:
        sign, style = SIGNS[one.outcome]
        output.add_row(Text(sign, style), Text(one.asset), Text(one.check), Text(printable(one.found)))
    return output
