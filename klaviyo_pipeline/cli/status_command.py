"""The command `klaviyo-pipeline status`."""

from collections.abc import Mapping, Sequence
from typing import Any

import click
import sqlalchemy as sa

from klaviyo_pipeline.catalog import ASSETS, switched_on
from klaviyo_pipeline.cli.shared import (
    DAGSTER,
    Chosen,
    accounts_option,
    chosen_accounts,
    console,
    format_bytes,
    format_option,
    json_text,
    shared_sessions,
    table,
    warehouse,
)
from klaviyo_pipeline.config.settings import Settings
from klaviyo_pipeline.maintenance.disk_usage import dagster_bytes
from klaviyo_pipeline.postgres.table_sizes import table_bytes

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

DISK_COLUMNS = {"of": "owner", "table": "table", "bytes": "on disk"}


Read = Sequence[tuple[Settings, list[dict[str, Any]]]]
"""The settings of each account, with the rows to print for it."""


@click.command()
@accounts_option
@format_option
@click.option("--disk", is_flag=True, help="Print the size on disk of every table instead, including Dagster's tables.")
def status(slugs: tuple[str, ...], form: str, disk: bool) -> None:
    """Print the sync status of each asset with windows: progress, missing and failed windows, and size on disk.

    Each size includes the table's indexes. In JSON, sizes are in bytes.

    \b
    Examples:
      klaviyo-pipeline status
      klaviyo-pipeline status --disk
    """
    with chosen_accounts(slugs) as chosen, shared_sessions(chosen):
        found = chosen.each(read_disk if disk else read_status)
        rows = _disk_rows(found) if disk else _status_rows(chosen, found)
        if form == "json":
            click.echo(json_text(rows))
            return
        output = console()
        output.print(table(rows, DISK_COLUMNS) if disk else status_table(rows))
        sizes = rows if disk else _disk_rows([(settings, read_disk(settings)) for settings, _ in found])
        output.print(f"\n{_disk_summary(sizes, [settings.account.slug for settings, _ in found])}", markup=False)


COMMANDS = (status,)


def read_status(settings: Settings) -> list[dict[str, Any]]:
    """The rows of the view `sync_status`, each with the bytes on disk of the asset's table and of its earlier states.

    Leaves out assets that are switched off in the settings, even if the schema still records them as switched on.
    """
    off = {*ASSETS} - switched_on(settings.account.assets)
    with warehouse(settings) as engine, engine.connect() as connection:
        view = sa.table("sync_status", schema=settings.account.slug)
        rows = connection.execute(sa.select(sa.text("*")).select_from(view)).mappings().all()
        sizes = table_bytes(connection, settings.account.slug)
    return [
        {**row, "bytes": sizes.get(row["entity"]), "history_bytes": sizes.get(f"{row['entity']}_superseded")}
        for row in rows
        if row["entity"] not in off
    ]


def read_disk(settings: Settings) -> list[dict[str, Any]]:
    """Every table in the account's schema, with its bytes on disk."""
    with warehouse(settings) as engine, engine.connect() as connection:
        return _sizes(settings.account.slug, table_bytes(connection, settings.account.slug))


def _sizes(of: str, sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"of": of, "table": name, "bytes": size} for name, size in sizes.items()]


def _disk_rows(found: Read) -> list[dict[str, Any]]:
    """The tables of all accounts, followed by Dagster's tables, which all accounts share."""
    return [*(row for _, rows in found for row in rows), *_sizes(DAGSTER, dagster_bytes())]


def _status_rows(chosen: Chosen, found: Read) -> list[dict[str, Any]]:
    return [
        {"account": settings.account.slug, **row} if chosen.several else row for settings, rows in found for row in rows
    ]


def _disk_summary(rows: Sequence[Mapping[str, Any]], slugs: Sequence[str]) -> str:
    dagsters = sum(row["bytes"] for row in rows if row["of"] == DAGSTER)
    ours = sum(row["bytes"] for row in rows) - dagsters
    where = f"schema {slugs[0]}" if len(slugs) == 1 else f"{len(slugs)} schemas"
    own = f"{format_bytes(dagsters)} in Dagster's tables"
    own = own if dagsters else "Dagster's tables do not exist or cannot be read"
    return f"On disk: {format_bytes(ours)} in {where}, {own}."


def status_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """The rows as a table. The column `last error` is left out if no row has an error."""
    columns = {"account": "account"} if any("account" in row for row in rows) else {}
    columns |= {key: heading for key, heading in STATUS_COLUMNS.items() if key != "last_error"}
    if any(row["last_error"] for row in rows):
        columns["last_error"] = STATUS_COLUMNS["last_error"]
    return table(rows, columns)
