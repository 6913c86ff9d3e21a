"""What several commands need: settings, the warehouse, dates, tables, numbers."""

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import click
import orjson
import psycopg
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from klaviyo_pipeline.klaviyo.errors import KlaviyoError
from klaviyo_pipeline.postgres.account import AccountRefused
from klaviyo_pipeline.postgres.embedded import EmbeddedPostgresError
from klaviyo_pipeline.postgres.engine import (
    DatabaseUnreachable,
    NotMigrated,
    clear_errors,
    create_engine,
    reason,
    warehouse_url,
)
from klaviyo_pipeline.postgres.migrations import MigrationError, migrate
from klaviyo_pipeline.postgres.repositories import UnknownFilter
from klaviyo_pipeline.settings import SQL_DIR, Settings, SettingsError, load_settings
from klaviyo_pipeline.text import printable

WIDE = 200

EXPECTED = (
    SettingsError,
    KlaviyoError,
    AccountRefused,
    DatabaseUnreachable,
    NotMigrated,
    MigrationError,
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


def settings_of_environment() -> Settings:
    """The settings, from the environment and `.env`."""
    return load_settings(now=datetime.now(UTC))


def console(*, err: bool = False) -> Console:
    """Output for people: as wide as the terminal, or wide enough for a table in a file."""
    shown = Console(stderr=err, highlight=False)
    return shown if shown.is_terminal else Console(stderr=err, highlight=False, width=WIDE)


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
    """JSON with figures as numbers and times in ISO 8601; no character in it drives a terminal."""
    text = orjson.dumps(value, default=_number, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


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
        return told_bytes(value)
    if isinstance(value, Decimal | float):
        return f"{value:,.2f}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    # Brackets must not be markup.
    return printable(str(value)).replace("[", "\\[")


def told_bytes(count: int) -> str:
    """A size as a person says it, in powers of 1024."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:,.0f} {units[0]}" if size >= 10 or units[0] == "B" else f"{size:.1f} {units[0]}"
