"""Commands that read the warehouse: `status`, `metrics`, `list` and `get`."""

import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import click
import sqlalchemy as sa

from klaviyo_pipeline.assets.lookup import Lookup, repository
from klaviyo_pipeline.cli.shared import (
    DAY,
    console,
    json_text,
    number,
    settings_of_environment,
    table,
    told_bytes,
    warehouse,
)
from klaviyo_pipeline.klaviyo.entities import LISTINGS
from klaviyo_pipeline.postgres.metrics import flow_metrics_between
from klaviyo_pipeline.postgres.repositories import Criteria
from klaviyo_pipeline.postgres.sizes import table_bytes
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.settings import Account, Settings
from klaviyo_pipeline.text import printable
from klaviyo_pipeline.upkeep.sizes import dagster_bytes

STATUS_COLUMNS = {
    "entity": "asset",
    "status": "status",
    "synced_through": "synced through",
    "windows_synced": "synced",
    "windows_missing": "missing",
    "windows_failed": "failed",
    "row_count": "rows",
    "bytes": "on disk",
    "history_bytes": "history",
    "last_synced_at": "last synced",
    "last_error": "last error",
}

DISK_COLUMNS = {"of": "of", "table": "table", "bytes": "on disk"}

METRICS_COLUMNS = {
    "flow_id": "flow",
    "flow_name": "name",
    "flow_status": "status",
    "recipients": "recipients",
    "delivered": "delivered",
    "opens": "opens",
    "clicks": "clicks",
    "conversions": "conversions",
    "conversion_value": "revenue",
    "open_rate": "open rate*",
    "click_rate": "click rate*",
    "conversion_rate": "conversion rate*",
    "revenue_per_recipient": "revenue per recipient",
}
DAGSTER = "dagster"
"""What no account may be called."""

RATES_NOTE = "* daily rates weighted by deliveries; a span's unique opens, clicks and conversions are not known."

SPREADSHEET_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What spreadsheets take for the beginning of a formula, the wide forms of Asian keyboards among them."""


@click.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--disk", is_flag=True, help="Instead: every table with its size on disk, Dagster's own too.")
def status(form: str, disk: bool) -> None:
    """How far each asset is synced, what is missing, what failed, and how much room it takes.

    Sizes are those of a table with its indexes. In JSON they are bytes.
    """
    settings = settings_of_environment()
    rows = read_disk(settings) if disk else read_status(settings)
    if form == "json":
        click.echo(json_text(rows))
        return
    shown = console()
    shown.print(table(rows, DISK_COLUMNS) if disk else status_table(rows))
    shown.print(f"\n{_room(rows if disk else read_disk(settings), settings.account.slug)}", markup=False)


@click.command()
@click.option("--from", "first", type=DAY, required=True, help="First day, inclusive, in the account's zone.")
@click.option("--to", "last", type=DAY, required=True, help="Last day, inclusive.")
@click.option("--flow", "flow_id", help="One flow, by its id.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def metrics(first: date, last: date, flow_id: str | None, form: str) -> None:
    """What each flow did over a span of days, highest revenue first.

    Counts are summed. Rates that rest on uniques are the daily rates weighted by deliveries: a span's uniques
    cannot be had from daily ones. In CSV a name that a spreadsheet would run as a formula gets a ' before it; in JSON,
    and in Postgres, it is as it is.
    """
    if first > last:
        raise click.UsageError(f"--from {first} lies after --to {last}.")
    rows = read_metrics(settings_of_environment(), first, last, flow_id)
    if form == "json":
        click.echo(json_text(rows))
    elif form == "csv":
        _write_csv(rows)
    else:
        shown = console()
        shown.print(table(rows, METRICS_COLUMNS))
        shown.print(RATES_NOTE if rows else "No figures: sync flow_report and flow_metrics for these days first.")


@click.command("list", short_help="List flows, campaigns, forms or segments.")
@click.argument("asset", type=click.Choice(list(LISTINGS)))
@click.option("--name", help="Exact name.")
@click.option("--status", "state", help="Exact status.")
@click.option("--trigger-type", help="Exact trigger type (flows).")
@click.option("--from", "first", type=DAY, help="Updated on this day of KLAVIYO_TIMEZONE or later.")
@click.option("--to", "last", type=DAY, help="Updated on this day or earlier.")
@click.option("--deleted", is_flag=True, help="Include deleted objects.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--after", help="Begin behind this id: the last one of the page before.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def list_(
    asset: str,
    name: str | None,
    state: str | None,
    trigger_type: str | None,
    first: date | None,
    last: date | None,
    deleted: bool,
    limit: int,
    after: str | None,
    form: str,
) -> None:
    """List flows, campaigns, forms or segments from Postgres, in order of id."""
    settings = settings_of_environment()
    criteria = Criteria(
        name=name,
        status=state,
        trigger_type=trigger_type,
        since=_midnight(settings.account, first) if first else None,
        before=_midnight(settings.account, last + timedelta(days=1)) if last else None,
        deleted=deleted,
    )
    with warehouse(settings) as engine:
        rows = repository(engine, settings.account.slug, LISTINGS[asset]).page(criteria, limit=limit, after=after)
    if form == "json":
        click.echo(json_text(rows))
        return
    shown = console()
    hidden = {"raw", "definition", "observed_at"}
    columns = {name: name.replace("_", " ") for name in (rows[0] if rows else {}) if name not in hidden}
    shown.print(table(rows, columns) if rows else "Nothing matches.")
    if len(rows) == limit:
        shown.print(f"More: --after {rows[-1]['id']}", markup=False)


@click.command(short_help="One object by id, as JSON: from Postgres, or else Klaviyo.")
@click.argument("asset", type=click.Choice(list(LISTINGS)))
@click.argument("id")
def get(asset: str, id: str) -> None:
    """One object by id, as JSON: from Postgres, or else from Klaviyo, and then stored."""
    settings = settings_of_environment()
    with warehouse(settings) as engine:
        row = repository(engine, settings.account.slug, LISTINGS[asset]).get(id)
    if row is None:
        from klaviyo_pipeline.resources import KlaviyoResource

        with KlaviyoResource().session(settings.account, Warehouse()) as session:
            row = Lookup(session, LISTINGS[asset]).get(id)
    if row is None:
        raise click.ClickException(f"neither Postgres nor Klaviyo has {asset} {id}.")
    click.echo(json_text(row))


COMMANDS = (status, metrics, list_, get)


def read_status(settings: Settings) -> list[dict[str, Any]]:
    """The rows of the view `sync_status`, with the bytes on disk of each table and of its history, if it has one."""
    with warehouse(settings) as engine, engine.connect() as connection:
        view = sa.table("sync_status", schema=settings.account.slug)
        rows = connection.execute(sa.select(sa.text("*")).select_from(view)).mappings().all()
        room = table_bytes(connection, settings.account.slug)
    return [
        {**row, "bytes": room.get(row["entity"]), "history_bytes": room.get(f"{row['entity']}_history")} for row in rows
    ]


def read_disk(settings: Settings) -> list[dict[str, Any]]:
    """Every table with its bytes on disk: those of the account's schema, and Dagster's own."""
    with warehouse(settings) as engine, engine.connect() as connection:
        found = {settings.account.slug: table_bytes(connection, settings.account.slug)}
    found[DAGSTER] = dagster_bytes()
    return [{"of": of, "table": name, "bytes": size} for of, sizes in found.items() for name, size in sizes.items()]


def _room(rows: Sequence[Mapping[str, Any]], slug: str) -> str:
    ours, dagsters = (sum(row["bytes"] for row in rows if row["of"] == of) for of in (slug, DAGSTER))
    own = f"{told_bytes(dagsters)} of Dagster's own" if dagsters else "none of Dagster's tables within reach"
    return f"On disk: {told_bytes(ours)} in schema {slug}, {own}."


def status_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """The status as a table; the column of errors only where there is one."""
    columns = {key: heading for key, heading in STATUS_COLUMNS.items() if key != "last_error"}
    if any(row["last_error"] for row in rows):
        columns["last_error"] = STATUS_COLUMNS["last_error"]
    return table(rows, columns)


def read_metrics(settings: Settings, first: date, last: date, flow_id: str | None = None) -> list[dict[str, Any]]:
    """One row for each flow over these days, highest revenue first; figures as numbers."""
    with warehouse(settings) as engine, engine.connect() as connection:
        found = flow_metrics_between(connection, settings.account.slug, first, last, flow_id=flow_id)
        return [{key: number(value) for key, value in row.items()} for row in found]


def _midnight(account: Account, day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=account.zone).astimezone(UTC)


def _write_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    writer = csv.writer(sys.stdout)
    if rows:
        writer.writerow(rows[0])
    for row in rows:
        writer.writerow([_inert(value) for value in row.values()])


def _inert(value: Any) -> Any:
    """A name that a spreadsheet would run as a formula is quoted, as spreadsheets do."""
    if not isinstance(value, str):
        return value
    shown = printable(value) if sys.stdout.isatty() else value
    return f"'{shown}" if value.startswith(SPREADSHEET_FORMULA) else shown
