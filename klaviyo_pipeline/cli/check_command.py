"""The command `klaviyo-pipeline check`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from klaviyo_pipeline.cli.shared import (
    accounts_option,
    chosen_accounts,
    console,
    format_option,
    json_text,
    quiet,
    shared_sessions,
    warehouse,
)
from klaviyo_pipeline.config.settings import Settings
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import api_key
from klaviyo_pipeline.postgres.account_binding import check_schema_owner
from klaviyo_pipeline.reporting.text import printable

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from klaviyo_pipeline.sync.check_runs import Checked

SIGNS = {"passed": ("✔", "green"), "warning": ("!", "yellow"), "error": ("✘", "red")}


@click.command()
@accounts_option
@click.option("--api", is_flag=True, help="Also compare the data with Klaviyo's API. Uses requests and report quota.")
@format_option
def check(slugs: tuple[str, ...], api: bool, form: str) -> None:
    """Run the asset checks, and print one line for each: the result and, if something is wrong, the remedy.

    By default only the checks that read Postgres run. With --api, additional checks compare the data with Klaviyo. They
    read the full listing of each entity, and use at least one request of a daily quota for each daily report. All
    results also appear in the Dagster UI. The exit code is 1 if a check ends with an error (✘). A warning (!) does not
    change the exit code.

    \b
    Examples:
      klaviyo-pipeline check
      klaviyo-pipeline check --api
    """
    quiet()
    with chosen_accounts(slugs) as chosen, shared_sessions(chosen), ExitStack() as opened:
        # The instance is opened at its first use, after `check_schema_owner` has accepted an account.
        instance = cache(lambda: opened.enter_context(_instance()))
        by_account = chosen.each(lambda settings: _results(settings, instance, api=api))
        if form == "json":
            summaries = [
                {"account": settings.account.slug, **vars(result)} if chosen.several else vars(result)
                for settings, results in by_account
                for result in results
            ]
            click.echo(json_text(summaries))
        for settings, results in by_account if form == "table" else ():
            if chosen.several:
                console().print(f"[bold]{settings.account.slug}[/bold]")
            console().print(checks_table(results))
        if any(result.outcome == "error" for _, results in by_account for result in results):
            raise click.exceptions.Exit(1)


@contextmanager
def _instance() -> "Iterator[DagsterInstance]":
    """The project's Dagster instance."""
    from dagster import DagsterInstance

    from klaviyo_pipeline.dagster_internals.storage import use_project_instance

    use_project_instance()
    with DagsterInstance.get() as instance:
        yield instance


def check_results(settings: Settings) -> "list[Checked]":
    """Run the checks that read Postgres only, and return their results. The results also appear in the UI."""
    with _instance() as instance:
        return _results(settings, lambda: instance, api=False)


def check_after_first_sync(settings: Settings, instance: "DagsterInstance") -> str | None:
    """If the checks that read Postgres have never run, run them for the UI. Return a line about the results.

    If a check cannot run, the line is a warning, because the sync itself succeeded. Returns None if the checks ran
    before.
    """
    from klaviyo_pipeline.sync.check_runs import have_run

    if have_run(settings.account, instance):
        return None
    try:
        results = _results(settings, lambda: instance, api=False)
    except click.ClickException as error:
        return f"warning: the checks did not run: {error.message}"
    return f"{checks_summary(results)} `klaviyo-pipeline check` repeats them and prints each result."


def checks_summary(results: Sequence["Checked"]) -> str:
    """The number of checks by outcome, on one line: `Checks: 190 passed, 9 warnings, 1 error.`"""
    numbers = Counter(result.outcome for result in results)
    others = [counted(numbers[outcome], outcome) for outcome in ("warning", "error") if numbers[outcome]]
    passed = f"{numbers['passed']:,} passed"
    return f"Checks: {', '.join((passed, *others))}."


def _results(settings: Settings, instance: "Callable[[], DagsterInstance]", *, api: bool) -> "list[Checked]":
    if api:
        api_key(settings.account.api_key_variable)
    with warehouse(settings) as engine, engine.connect() as connection:
        check_schema_owner(connection, settings.account, None)
    from klaviyo_pipeline.sync.check_runs import CheckBroken, run_checks

    try:
        return run_checks(settings.account, instance(), api=api)
    except CheckBroken as error:
        raise click.ClickException(str(error)) from None


COMMANDS = (check,)


def checks_table(results: Sequence["Checked"]) -> Table:
    """A table with one line for each check, in the order of `results`."""
    output = Table(box=None, show_header=False, pad_edge=False)
    for column in ("sign", "asset", "check", "found"):
        output.add_column(column, overflow="fold", no_wrap=column != "found")
    for result in results:
        sign, style = SIGNS[result.outcome]
        output.add_row(Text(sign, style), Text(result.asset), Text(result.check), Text(printable(result.found)))
    return output
