"""Shared by the commands: settings, accounts, the warehouse, dates, tables, numbers."""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import click
import orjson
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from klaviyo_pipeline.config.accounts import errors_in_terms_of, load_accounts
from klaviyo_pipeline.config.settings import SQL_DIR, Account, Settings
from klaviyo_pipeline.postgres.engine import DatabaseUnreachable, clear_errors, shared_engine, warehouse_url
from klaviyo_pipeline.postgres.schema.cross_account_views import CrossAccountViewsRefused, refresh_cross_account_views
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.server.embedded import project_server
from klaviyo_pipeline.reporting.text import printable

WIDE = 200

DAGSTER = "dagster"
"""In the output of commands, the owner of everything that all accounts share. No account may have this name."""

Result = TypeVar("Result")


class Day(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """A calendar date, YYYY-MM-DD."""

    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a valid date; write it as YYYY-MM-DD.", param, ctx)


DAY = Day()


def check_not_future(account: Account, first: date | None) -> None:
    """Raises a usage error if the first day is in the future in the account's time zone."""
    today = account.today(datetime.now(UTC))
    if first is not None and first > today:
        raise click.UsageError(f"--from {first} is in the future; today is {today} in {account.timezone}.")


def check_order(first: date | None, last: date | None) -> None:
    """Raises a usage error if the first day is after the last."""
    if first is not None and last is not None and first > last:
        raise click.UsageError(f"--from {first} is after --to {last}.")


def quiet() -> None:
    """Suppress Dagster's warnings about beta and preview parameters."""
    warnings.filterwarnings("ignore", category=Warning, message=".*is currently in (beta|preview).*")
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")


@contextmanager
def warehouse(settings: Settings, *, migrated: bool = False) -> Iterator[sa.Engine]:
    """An engine for the warehouse. Starts the embedded server if no URL is set; migrates first if `migrated`."""
    url = warehouse_url(settings.database_url)
    with clear_errors(url):
        if migrated:
            migrate(url, settings.account.slug, SQL_DIR)
        with shared_engine(url) as engine:
            yield engine


@dataclass
class Chosen:
    """The accounts of one command. They are processed in order, and a failing account does not stop the others."""

    every: Sequence[Settings]
    failed: bool = False

    @property
    def several(self) -> bool:
        return len(self.every) > 1

    def each(self, work: Callable[[Settings], Result]) -> list[tuple[Settings, Result]]:
        """The result of `work` for each account that succeeds.

        With several accounts an error is printed, and the command exits with code 1 at the end.
        """
        if not self.several:
            return [(settings, work(settings)) for settings in self.every]
        done = []
        for settings in self.every:
            try:
                with errors_in_terms_of(settings.account):
                    done.append((settings, work(settings)))
            except click.UsageError as error:
                self.report_error(f"{settings.account.slug}: {error.format_message()}")
            except Exception as error:
                from klaviyo_pipeline.cli.error_lines import clear_line

                self.report_error(f"{settings.account.slug}: {clear_line(error)}")
        return done

    def report_error(self, line: str) -> None:
        """Print an error and continue; the command exits with code 1 at the end."""
        click.echo(f"Error: {printable(line)}", err=True)
        self.failed = True


@contextmanager
def chosen_accounts(slugs: Sequence[str]) -> Iterator[Chosen]:
    """The accounts with these slugs, or all accounts.

    Prints an error for each invalid entry of accounts.yaml. Exits with code 1 at the end if anything failed.
    """
    found = load_accounts(chosen=slugs)
    chosen = Chosen(found.every)
    for error in found.errors:
        chosen.report_error(error)
    if chosen.several:
        yield chosen
    else:
        with errors_in_terms_of(found.every[0].account):
            yield chosen
    if chosen.failed:
        raise click.exceptions.Exit(1)


@contextmanager
def shared_sessions(chosen: Chosen) -> Iterator[None]:
    """In this block, accounts in one database share the sessions that `warehouse` opens, and the compiled queries."""
    with ExitStack() as opened:
        for url in {settings.database_url for settings in chosen.every} - {None}:
            opened.enter_context(shared_engine(str(url)))
        if project_server().running:
            opened.enter_context(shared_engine(project_server().dsn))
        yield


def refresh_views(settings: Iterable[Settings]) -> None:
    """Recreate the cross-account views in the shared database. A failure is a warning, not an error.

    Does nothing if every account has its own database URL, because the role in it can read only that account.
    """
    variable = Account.database_url_variable
    shared = os.environ.get(variable, "").strip()
    if not shared and all(each.account.database_url_variable != variable for each in settings):
        return
    url = warehouse_url(shared)
    try:
        with clear_errors(url):
            refresh_cross_account_views(url)
    except (CrossAccountViewsRefused, DatabaseUnreachable) as error:
        from klaviyo_pipeline.cli.error_lines import clear_line

        click.echo(f"warning: {clear_line(error)}", err=True)


@contextmanager
def one_account(slug: str | None) -> Iterator[Settings]:
    """The account of a command that works on a single one. Raises a usage error if the choice is ambiguous."""
    found = load_accounts(chosen=[slug] if slug else [])
    if len(found.every) > 1:
        known = ", ".join(settings.account.slug for settings in found.every)
        raise click.UsageError(f"Several accounts are configured; choose one with --account: {known}.")
    with errors_in_terms_of(found.every[0].account):
        yield found.every[0]


accounts_option = click.option(
    "--account",
    "slugs",
    multiple=True,
    metavar="SLUG",
    help="Account in accounts.yaml; repeat the option for several. [default: all accounts]",
)
account_option = click.option(
    "--account", "slug", metavar="SLUG", help="Account in accounts.yaml. Required if there are several."
)
format_option = click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Output format."
)


def console(*, err: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for a table if the output is a file or a pipe."""
    output = Console(stderr=err, highlight=False)
    return output if output.is_terminal else Console(stderr=err, highlight=False, width=WIDE)


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str | None = None) -> Table:
    """Rows as a table. `columns` maps each key to its heading."""
    output = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for key, heading in columns.items():
        numeric = any(isinstance(row.get(key), int | float | Decimal) for row in rows)
        output.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        output.add_row(*(_cell(row.get(key), key) for key in columns))
    return output


def json_text(value: Any) -> str:
    """JSON with Decimals as numbers and times in ISO 8601.

    Control characters, and characters that the output's encoding lacks, are escaped as \\uXXXX.
    """
    try:
        text = orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # orjson writes no integer of more than 64 bits.
        text = json.dumps(value, default=_plain, indent=2, ensure_ascii=False)
    if text.replace("\n", "").isprintable() and is_writable(text):
        return text
    return "".join(c if (c.isprintable() and is_writable(c)) or c == "\n" else json.dumps(c)[1:-1] for c in text)


def is_writable(text: str) -> bool:
    """Whether the output's encoding has all of these characters."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def number(value: Any) -> Any:
    """A Decimal as an int if it is whole, else as a float; any other value unchanged."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _cell(value: Any, key: str) -> str:
    if value is None:
        return "–"
    if key.endswith("_rate") and isinstance(value, Decimal | float | int):
        return f"{float(value):.2%}"
    if key.endswith("bytes"):
        return format_bytes(value)
    if isinstance(value, Decimal | float):
        return f"{value:,.2f}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    # rich reads brackets as markup.
    return printable(str(value)).replace("[", "\\[")


def format_bytes(count: int) -> str:
    """A size with its unit, in powers of 1024: `12 MB`."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:,.0f} {units[0]}" if size >= 10 or units[0] == "B" else f"{size:.1f} {units[0]}"
