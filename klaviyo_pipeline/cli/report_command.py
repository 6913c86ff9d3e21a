"""The command `klaviyo-pipeline report`."""

from datetime import UTC, date, datetime
from pathlib import Path

import click

from klaviyo_pipeline.cli.shared import DAY, account_option, check_not_future, check_order, one_account, warehouse
from klaviyo_pipeline.config.extras import require_extras
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.postgres.engine import snapshot
from klaviyo_pipeline.reporting.content import DAYS, gather, last_days
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader


class HtmlFile(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """The path of a file to create or overwrite. Its folder must exist."""

    name = "FILE"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        file = Path(value)
        if file.exists() and not file.is_file():
            self.fail(f"{file} is not a regular file.", param, ctx)
        if not file.parent.is_dir():
            self.fail(f"folder {file.parent} does not exist.", param, ctx)
        return file


@click.command()
@account_option
@click.option("--from", "first", type=DAY, help=f"First day, inclusive. [default: {DAYS} days up to --to]")
@click.option("--to", "last", type=DAY, help="Last day, inclusive. [default: the last day with final metrics]")
@click.option("--out", "file", type=HtmlFile(), required=True, help="HTML file to write.")
def report(slug: str | None, first: date | None, last: date | None, file: Path) -> None:
    """Write an HTML page with key metrics, charts, top flows, campaigns, forms and segments, and data freshness.

    The command reads Postgres only. The page is a single file that needs no network. It names the flows and
    forms whose activity stopped or fell, scheduled campaigns that were not sent, and days that are missing or may still
    change. The rates of flows are exact for a single day, for a calendar week or month, and for a range of days that
    `metrics --exact` requested. Days are in KLAVIYO_TIMEZONE.

    \b
    Examples:
      klaviyo-pipeline report --out report.html
      klaviyo-pipeline report --from 2026-10-01 --to 2026-10-31 --out october.html
    """
    require_extras("report", "report")
    with one_account(slug) as settings:
        check_not_future(settings.account, first)
        check_order(first, last)
        with warehouse(settings) as engine, snapshot(engine) as connection:
            reader = Reader(connection, settings.account.slug)
            content = gather(reader, _period(reader, settings.account, first, last), settings.account.zone)
    # The import is here because `reporting.page` imports matplotlib, which takes a second.
    from klaviyo_pipeline.reporting.page import render, write

    page = render(content)
    try:
        write(page, file)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}.") from None
    click.echo(f"Report for {content.period}: {file} ({len(page.encode()) // 1000:,} kB)")
    for notice in content.notices:
        click.echo(notice)


COMMANDS = (report,)


def _period(reader: Reader, account: Account, first: date | None, last: date | None) -> Period:
    if last is not None:
        last = min(last, account.today(datetime.now(UTC)))
        return Period(first, last) if first else Period.ending(last, DAYS)
    settled = last_days(reader, account.zone)
    if first is None:
        return settled
    return Period(first, max(first, settled.last))
