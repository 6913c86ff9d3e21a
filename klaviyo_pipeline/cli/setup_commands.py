"""The commands that set up or repair the account's schema: `migrate`, `reset-windows` and `reset-clock`."""

import click

from klaviyo_pipeline.cli.shared import (
    account_option,
    accounts_option,
    chosen_accounts,
    one_account,
    quiet,
    refresh_views,
    warehouse,
)
from klaviyo_pipeline.config.accounts import in_terms_of
from klaviyo_pipeline.config.settings import SQL_DIR, Settings
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.postgres.account_binding import record_assets
from klaviyo_pipeline.postgres.account_binding import reset_windows as clear_ledger
from klaviyo_pipeline.postgres.engine import clear_errors, in_transaction, warehouse_url
from klaviyo_pipeline.postgres.future_times import reset_clock as move_to_present
from klaviyo_pipeline.postgres.schema.migrations import migrate as apply_migrations


@click.command()
@accounts_option
def migrate(slugs: tuple[str, ...]) -> None:
    """Create or upgrade the account's schema: apply the numbered files in sql/ that are not applied yet, in order.

    `sync`, `demo` and `dev` migrate automatically. With several accounts, the cross-account views are recreated too.

    \b
    Example:
      klaviyo-pipeline migrate
    """
    with chosen_accounts(slugs) as chosen:
        chosen.each(_migrate)
        if chosen.several:
            refresh_views(chosen.every)


def _migrate(settings: Settings) -> None:
    url = warehouse_url(settings.database_url)
    with clear_errors(url):
        applied = apply_migrations(url, settings.account.slug, SQL_DIR)
    with warehouse(settings) as engine:
        in_transaction(engine, lambda connection: record_assets(connection, settings.account))
    for name in applied:
        click.echo(f"applied {name}")
    click.echo(f"schema {settings.account.slug} is up to date")


@click.command()
@account_option
@click.confirmation_option(prompt="The next sync will request every window again. Continue?")
def reset_windows(slug: str | None) -> None:
    """Reset sync windows after a change of KLAVIYO_TIMEZONE or KLAVIYO_SYNC_WINDOW.

    The command empties the ledger and binds the schema to the new settings. Every row in the data tables is kept. The
    next sync requests every window again. Until then, Dagster shows no partition as materialized.

    \b
    Examples:
      klaviyo-pipeline reset-windows
      klaviyo-pipeline reset-windows --yes
    """
    with one_account(slug) as settings, warehouse(settings, migrated=True) as engine:
        removed = in_transaction(engine, lambda connection: clear_ledger(connection, settings.account))
    _align(settings)
    removed_line = (
        f"Removed {counted(removed, 'window')} from the ledger. Windows are now "
        f"{settings.account.sync_window}, in {settings.account.timezone}. Run `klaviyo-pipeline sync`."
    )
    click.echo(in_terms_of(settings.account, removed_line))


def _align(settings: Settings) -> None:
    quiet()
    from klaviyo_pipeline.dagster_internals.storage import use_project_instance

    use_project_instance()
    from dagster import DagsterInstance

    from klaviyo_pipeline.postgres.warehouse import Warehouse
    from klaviyo_pipeline.sync.instance_state import align_with_ledger

    account = settings.account
    with DagsterInstance.get() as instance:
        align_with_ledger(instance, account, Warehouse.of([account]), click.echo)


@click.command("reset-clock")
@account_option
@click.confirmation_option(prompt="Is the database's clock correct now?")
def reset_clock(slug: str | None) -> None:
    """Correct stored times that are ahead of the database's clock. First correct the clock itself.

    Observation times in the future are moved to just before now, in the same order, so that later observations replace
    the rows again. Records of requests, such as the rows of the ledger, are deleted if their time is in the future.
    Their windows and censuses are then due again.

    \b
    Example:
      klaviyo-pipeline reset-clock
    """
    with one_account(slug) as settings, warehouse(settings, migrated=True) as engine:
        changed = in_transaction(engine, lambda connection: move_to_present(connection, settings.account.slug))
    if not changed:
        click.echo("No stored time is ahead of the database's clock.")
        return
    rows = ", ".join(f"{rows:,} in {table}" for table, rows in changed.items())
    reset = f"Corrected rows: {rows}. Run `klaviyo-pipeline sync`, then `klaviyo-pipeline sync census`."
    click.echo(in_terms_of(settings.account, reset))


COMMANDS = (migrate, reset_windows, reset_clock)
