"""What several commands need: settings, the warehouse, dates, tables, numbers."""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import click
import orjson
import psycopg
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from klaviyo_pipeline.config.accounts import errors_in_terms_of, load_accounts
from klaviyo_pipeline.config.settings import SQL_DIR, Account, Settings, SettingsError, load_settings
from klaviyo_pipeline.klaviyo.errors import KlaviyoError
from klaviyo_pipeline.postgres.account_binding import AccountRefused
from klaviyo_pipeline.postgres.engine import (
    DatabaseUnreachable,
    RightsMissing,
    clear_errors,
    create_engine,
    reason,
    warehouse_url,
)
from klaviyo_pipeline.postgres.schema.cross_account_views import CrossAccountViewsRefused, refresh_cross_account_views
from klaviyo_pipeline.postgres.schema.migrations import MigrationError, migrate
from klaviyo_pipeline.postgres.schema.tables import NotMigrated
from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgresError
from klaviyo_pipeline.postgres.server.sessions import UnfitDatabase
from klaviyo_pipeline.postgres.write.repositories import UnknownFilter
from klaviyo_pipeline.reporting.text import printable

WIDE = 200

DAGSTER = "dagster"
"""Of whom things are that no account has for itself; no account may be called so."""

Result = TypeVar("Result")

EXPECTED = (
    SettingsError,
    KlaviyoError,
    AccountRefused,
    DatabaseUnreachable,
    UnfitDatabase,
    RightsMissing,
    NotMigrated,
    MigrationError,
    CrossAccountViewsRefused,
    EmbeddedPostgresError,
    UnknownFilter,
)


class Day(click.ParamType[date]):
    """A calendar date, YYYY-MM-DD."""

    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date; write it as YYYY-MM-DD.", param, ctx)


DAY = Day()


def check_begun(account: Account, first: date | None) -> None:
    """Raises a usage error for a first day that is still to come in the account's zone."""
    today = account.today(datetime.now(UTC))
    if first is not None and first > today:
        raise click.UsageError(f"--from {first} lies in the future; today is {today} in {account.timezone}.")


def check_order(first: date | None, last: date | None) -> None:
    """Raises a usage error for a first day after the last."""
    if first is not None and last is not None and first > last:
        raise click.UsageError(f"--from {first} lies after --to {last}.")


def clear_line(error: BaseException) -> str:
    """One line for any error; an unexpected one names its kind and how to see more."""
    if isinstance(error, EXPECTED):
        return printable(" ".join(str(error).split()))
    text = printable(reason(error))
    if isinstance(error, psycopg.Error | sa.exc.DBAPIError):
        return f"Postgres: {text}"
    return f"unexpected {type(error).__name__}: {text} (run again with --debug for the traceback)"


def quiet() -> None:
    """Keep Dagster's notices about beta parameters out of the command line's output."""
    warnings.filterwarnings("ignore", category=Warning, message=".*is currently in (beta|preview).*")
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")


@contextmanager
def warehouse(settings: Settings, *, migrated: bool = False) -> Iterator[sa.Engine]:
    """An engine on the warehouse; starts the embedded server where no URL is set, and migrates on request."""
    url = warehouse_url(settings.database_url)
    with clear_errors(url):
        if migrated:
            migrate(url, settings.account.slug, SQL_DIR)
        engine = create_engine(url)
        try:
            yield engine
        finally:
            engine.dispose()


@dataclass
class Chosen:
    """The accounts that a command works on, one after the other; one that fails does not stop the others."""

    every: Sequence[Settings]
    failed: bool = False

    @property
    def several(self) -> bool:
        return len(self.every) > 1

    def each(self, work: Callable[[Settings], Result]) -> list[tuple[Settings, Result]]:
        """What `work` came to for each account. With several, an error is told, and the command fails in the end."""
        if not self.several:
            return [(settings, work(settings)) for settings in self.every]
        done = []
        for settings in self.every:
            try:
                with errors_in_terms_of(settings.account):
                    done.append((settings, work(settings)))
            except click.UsageError as error:
                self.tell(f"{settings.account.slug}: {error.format_message()}")
            except Exception as error:
                self.tell(f"{settings.account.slug}: {clear_line(error)}")
        return done

    def tell(self, line: str) -> None:
        """Say what failed; the command goes on, and fails in the end."""
        click.echo(f"Error: {printable(line)}", err=True)
        self.failed = True


@contextmanager
def chosen_accounts(slugs: Sequence[str]) -> Iterator[Chosen]:
    """The accounts of these slugs, or every one. Tells of entries that are wrong; fails in the end if anything did."""
    found = load_accounts(chosen=slugs, now=datetime.now(UTC))
    chosen = Chosen(found.every)
    for error in found.errors:
        chosen.tell(error)
    if chosen.several:
        yield chosen
    else:
        with errors_in_terms_of(found.every[0].account):
            yield chosen
    if chosen.failed:
        raise click.exceptions.Exit(1)


def refresh_views(settings: Iterable[Settings]) -> None:
    """Make the views over all accounts anew, in the database that they share; what keeps them away is a warning.

    The role of one account's own URL reads that account alone, and makes none.
    """
    variable = Account.database_url_variable
    shared = os.environ.get(variable, "").strip()
    if not shared and all(one.account.database_url_variable != variable for one in settings):
        return
    url = warehouse_url(shared)
    try:
        with clear_errors(url):
            refresh_cross_account_views(url)
    except (CrossAccountViewsRefused, DatabaseUnreachable) as error:
        click.echo(f"warning: {clear_line(error)}", err=True)


@contextmanager
def one_account(slug: str | None) -> Iterator[Settings]:
    """The one account that a command works on. Raises a usage error where there are several to choose from."""
    found = load_accounts(chosen=[slug] if slug else [], now=datetime.now(UTC))
    if len(found.every) > 1:
        known = ", ".join(settings.account.slug for settings in found.every)
        raise click.UsageError(f"which account? Give --account with one of {known}.")
    with errors_in_terms_of(found.every[0].account):
        yield found.every[0]


accounts_option = click.option(
    "--account",
    "slugs",
    multiple=True,
    metavar="SLUG",
    help="An account of accounts.yaml; several times for several. [default: all of them]",
)
account_option = click.option("--account", "slug", metavar="SLUG", help="The account, where accounts.yaml has several.")


def settings_of_environment() -> Settings:
    """The settings, from the environment and `.env`."""
    return load_settings(now=datetime.now(UTC))


def console(*, err: bool = False) -> Console:
    """Output for people: as wide as the terminal, or wide enough for a table in a file."""
    output = Console(stderr=err, highlight=False)
    return output if output.is_terminal else Console(stderr=err, highlight=False, width=WIDE)


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str | None = None) -> Table:
    """Rows as a table; `columns` gives each column's heading by its key."""
    made = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for key, heading in columns.items():
        figures = any(isinstance(row.get(key), int | float | Decimal) for row in rows)
        made.add_column(heading, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_cell(row.get(key), key) for key in columns))
    return made


def json_text(value: Any) -> str:
    """JSON with figures as numbers and times in ISO 8601.

    No character of it drives a terminal, and none is lost where the output's encoding lacks it.
    """
    text = orjson.dumps(value, default=_number, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
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
    """A Decimal as a JSON number: an integer where it is one."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _number(value: Any) -> Any:
    if isinstance(value, Decimal):
        return number(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


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
    # Brackets must not be markup.
    return printable(str(value)).replace("[", "\\[")


def format_bytes(count: int) -> str:
    """A size as a person says it, in powers of 1024."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:,.0f} {units[0]}" if size >= 10 or units[0] == "B" else f"{size:.1f} {units[0]}"
