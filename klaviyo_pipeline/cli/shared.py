"""What several commands use: options, the chosen accounts, the warehouse, and the output as tables or JSON."""

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
"""The width of the output, in characters, if it is a file or a pipe."""

DAGSTER = "dagster"
"""What the output of commands shows for Dagster's own tables and records, in place of the slug of an account.

No account can have this slug.
"""

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
    """Raise a usage error if `--from` is after today in the account's time zone."""
    today = account.today(datetime.now(UTC))
    if first is not None and first > today:
        raise click.UsageError(f"--from {first} is in the future; today is {today} in {account.timezone}.")


def check_order(first: date | None, last: date | None) -> None:
    """Raise a usage error if `--from` is after `--to`."""
    if first is not None and last is not None and first > last:
        raise click.UsageError(f"--from {first} is after --to {last}.")


def quiet() -> None:
    """Suppress Dagster's warnings about beta and preview parameters, and switch off its telemetry."""
    warnings.filterwarnings("ignore", category=Warning, message=".*is currently in (beta|preview).*")
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")


@contextmanager
def warehouse(settings: Settings, *, migrated: bool = False) -> Iterator[sa.Engine]:
    """An engine for the account's warehouse. The embedded server is started if no URL is set.

    With `migrated`, the account's missing migrations are applied first.
    """
    url = warehouse_url(settings.database_url)
    with clear_errors(url):
        if migrated:
            migrate(url, settings.account.slug, SQL_DIR)
        with shared_engine(url) as engine:
            yield engine


@dataclass
class Chosen:
    """The accounts that a command works on."""

    every: Sequence[Settings]
    failed: bool = False
    """Whether an error was reported; the command then exits with code 1."""

    @property
    def several(self) -> bool:
        return len(self.every) > 1

    def each(self, work: Callable[[Settings], Result]) -> list[tuple[Settings, Result]]:
        """Call `work` for each account in order, and return the results of those that succeed.

        With several accounts, an error is printed and the next account follows. With one account, it is raised.
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
        """Print an error, and let the command exit with code 1 after the other accounts."""
        click.echo(f"Error: {printable(line)}", err=True)
        self.failed = True


@contextmanager
def chosen_accounts(slugs: Sequence[str]) -> Iterator[Chosen]:
    """The accounts with these slugs. Without slugs, those that KLAVIYO_ACCOUNT selects, or all configured accounts.

    Prints an error for each invalid entry of accounts.yaml. After the block, the command exits with code 1 if an error
    was reported.
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
    """Within the block, accounts in the same database share one engine: its connections and its compiled queries."""
    with ExitStack() as opened:
        for url in {settings.database_url for settings in chosen.every} - {None}:
            opened.enter_context(shared_engine(str(url)))
        if project_server().running:
            opened.enter_context(shared_engine(project_server().dsn))
        yield


def refresh_views(settings: Iterable[Settings]) -> None:
    """Recreate the cross-account views in the shared database. A failure is printed as a warning.

    Does nothing if KLAVIYO_DATABASE_URL is not set and every account has its own database URL: the role of one account
    may be unable to read the other accounts.
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
    """The account with this slug, or the only one. Raises a usage error if there are several and no slug."""
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
    help="Slug of an account in accounts.yaml; repeat the option for several. [default: those in KLAVIYO_ACCOUNT, or "
    "all accounts]",
)
account_option = click.option(
    "--account", "slug", metavar="SLUG", help="Slug of an account in accounts.yaml. Required if there are several."
)
format_option = click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Output format."
)


def console(*, err: bool = False) -> Console:
    """A console as wide as the terminal, or `WIDE` if the output is a file or a pipe."""
    output = Console(stderr=err, highlight=False)
    return output if output.is_terminal else Console(stderr=err, highlight=False, width=WIDE)


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str | None = None) -> Table:
    """A table of these rows. `columns` maps the key of each column to its heading."""
    output = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for key, heading in columns.items():
        numeric = any(isinstance(row.get(key), int | float | Decimal) for row in rows)
        output.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        output.add_row(*(_cell(row.get(key), key) for key in columns))
    return output


def json_text(value: Any) -> str:
    """The value as indented JSON: a Decimal is a number, a date or time a string in ISO 8601.

    Control characters, and characters that the output's encoding lacks, are escaped as \\uXXXX.
    """
    try:
        text = orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # orjson cannot write integers of more than 64 bits.
        text = json.dumps(value, default=_plain, indent=2, ensure_ascii=False)
    if text.replace("\n", "").isprintable() and is_writable(text):
        return text
    return "".join(c if (c.isprintable() and is_writable(c)) or c == "\n" else json.dumps(c)[1:-1] for c in text)


def is_writable(text: str) -> bool:
    """Whether the encoding of stdout has every character of this text."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def number(value: Any) -> Any:
    """A Decimal as an int if it is a whole number, otherwise as a float. Any other value is returned unchanged."""
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
    # rich would read an opening bracket as markup.
    return printable(str(value)).replace("[", "\\[")


def format_bytes(count: int) -> str:
    """A size with its unit, such as `12 MB`. A kilobyte is 1024 bytes."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:,.0f} {units[0]}" if size >= 10 or units[0] == "B" else f"{size:.1f} {units[0]}"
