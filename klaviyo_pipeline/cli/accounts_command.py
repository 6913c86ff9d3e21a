"""The command `klaviyo-pipeline accounts`."""

import os
from datetime import datetime
from typing import Any

import click
import sqlalchemy as sa

from klaviyo_pipeline.cli.shared import chosen_accounts, console, format_option, json_text, table, warehouse
from klaviyo_pipeline.config.accounts import duplicates
from klaviyo_pipeline.config.settings import Settings
from klaviyo_pipeline.postgres.account_binding import stored_account_id
from klaviyo_pipeline.postgres.ledger import last_synced

COLUMNS = {
    "account": "account",
    "timezone": "zone",
    "sync_window": "window",
    "start_date": "start",
    "key": "key",
    "last_synced_at": "last synced",
}


@click.command()
@format_option
def accounts(form: str) -> None:
    """List the configured accounts: those in accounts.yaml, or the one in the environment.

    The output says whether the variable with the API key is set, and never contains the key. If an entry of
    accounts.yaml is invalid, the command prints an error for it, still lists the other accounts, and exits with 1. Two
    entries for the same Klaviyo account cause a warning.

    \b
    Examples:
      klaviyo-pipeline accounts
      klaviyo-pipeline accounts --format json
    """
    with chosen_accounts(()) as chosen:
        stored = {settings.account.slug: found for settings, found in chosen.each(_stored)}
        rows = [_row(settings, *stored.get(settings.account.slug, (None, None))) for settings in chosen.every]
        if form == "json":
            click.echo(json_text(rows))
        else:
            output = [
                {**row, "key": f"{row['key_variable']}{'' if row['key_is_set'] else ' (not set)'}"} for row in rows
            ]
            console().print(table(output, COLUMNS))
        account_ids = {slug: account_id for slug, (account_id, _) in stored.items()}
        for line in duplicates(chosen.every, os.environ, account_ids):
            click.echo(f"warning: {line}; sums over all accounts count this Klaviyo account twice.", err=True)


COMMANDS = (accounts,)


def _stored(settings: Settings) -> tuple[str | None, datetime | None]:
    """The id of the Klaviyo account that the schema belongs to, and the time of the last sync; each None if unknown."""
    slug = settings.account.slug
    with warehouse(settings) as engine, engine.connect() as connection:
        if not sa.inspect(connection).has_table("sync_windows", schema=slug):
            return None, None
        return stored_account_id(connection, slug), last_synced(connection, slug)


def _row(settings: Settings, account_id: str | None, synced: datetime | None) -> dict[str, Any]:
    account = settings.account
    return {
        "account": account.slug,
        "account_id": account_id,
        "timezone": account.timezone,
        "sync_window": account.sync_window,
        "start_date": account.start_date,
        "key_variable": account.api_key_variable,
        "key_is_set": bool(os.environ.get(account.api_key_variable, "").strip()),
        "last_synced_at": synced,
    }
