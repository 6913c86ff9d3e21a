"""Commands that change how the warehouse is set up: `migrate`, `reset-windows` and `reset-clock`."""

import click

from klaviyo_pipeline.cli.shared import (
    account_option,
    accounts_option,
    chosen_accounts,
    one_account,
    refresh_views,
    warehouse,
)
from klaviyo_pipeline.config.settings import SQL_DIR, Settings
from klaviyo_pipeline.postgres.account_binding import reset_windows as forget_windows
from klaviyo_pipeline.postgres.engine import clear_errors, warehouse_url
from klaviyo_pipeline.postgres.future_times import reset_clock as move_to_present
from klaviyo_pipeline.postgres.schema.migrations import migrate as apply_migrations


@click.command(short_help="Create or upgrade the account's schema.")
@accounts_option
def migrate(slugs: tuple[str, ...]) -> None:
    """Create or upgrade the account's schema: the numbered files of sql/, each once, in order.

    `sync`, `demo` and `dev` do this first by themselves. Where there are several accounts, the views over all of them
    are made anew.
    """
    with chosen_accounts(slugs) as chosen:
        chosen.each(_migrate)
        if chosen.several:
            refresh_views(chosen.every)


def _migrate(settings: Settings) -> None:
    url = warehouse_url(settings.database_url)
    with clear_errors(url):
        applied = apply_migrations(url, settings.account.slug, SQL_DIR)
    for name in applied:
        click.echo(f"applied {name}")
    click.echo(f"schema {settings.account.slug} is up to date")


@click.command(short_help="Cut the windows anew, after a changed zone or window size.")
@account_option
@click.confirmation_option(prompt="Every window will be asked again by the next sync. Go on?")
def reset_windows(slug: str | None) -> None:
    """Cut the windows anew, after KLAVIYO_TIMEZONE or KLAVIYO_SYNC_WINDOW changed.

    The ledger is emptied and takes the new settings; every row of the data tables stays. The next sync asks for
    every window again.
    """
    with (
        one_account(slug) as settings,
        warehouse(settings, migrated=True) as engine,
        engine.begin() as connection,
    ):
        forgotten = forget_windows(connection, settings.account)
    click.echo(
        f"{forgotten} windows forgotten; they are cut {settings.account.sync_window} in "
        f"{settings.account.timezone} from now on. Run `klaviyo-pipeline sync`."
    )


@click.command("reset-clock", short_help="Reset times that are ahead of the database's clock.")
@account_option
@click.confirmation_option(prompt="Is the database's clock right now?")
def reset_clock(slug: str | None) -> None:
    """Reset times that are ahead of the database's clock, after that clock was ahead for a while.

    Rows that were observed ahead of the clock get the present time, in their order, so that later observations win
    again. Windows and censuses that were requested ahead of the clock are due again.
    """
    with (
        one_account(slug) as settings,
        warehouse(settings, migrated=True) as engine,
        engine.begin() as connection,
    ):
        changed = move_to_present(connection, settings.account.slug)
    if not changed:
        click.echo("No time is ahead of the database's clock.")
        return
    rows = ", ".join(f"{rows:,} in {table}" for table, rows in changed.items())
    click.echo(f"Reset {rows}. Run `klaviyo-pipeline sync`, then `klaviyo-pipeline sync census`.")


COMMANDS = (migrate, reset_windows, reset_clock)
