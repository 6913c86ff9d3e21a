"""Commands that read the warehouse: `status`, `metrics`, `list` and `get`."""

import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from io import StringIO
from typing import Any

import click
import sqlalchemy as sa

from klaviyo_pipeline.catalog import ENTITIES, FLOW_METRICS
from klaviyo_pipeline.cli.shared import (
    DAGSTER,
    DAY,
    Chosen,
    account_option,
    accounts_option,
    check_begun,
    check_order,
    chosen_accounts,
    console,
    format_bytes,
    is_writable,
    json_text,
    number,
    one_account,
    table,
    warehouse,
)
from klaviyo_pipeline.config.settings import Account, Settings
from klaviyo_pipeline.orchestration.assets.lookup import Lookup, repository
from klaviyo_pipeline.postgres.census_runs import CensusRecord
from klaviyo_pipeline.postgres.metrics_tables import flow_metrics_between, is_known_flow
from klaviyo_pipeline.postgres.table_sizes import table_bytes
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.postgres.write.repositories import Criteria
from klaviyo_pipeline.reporting.content import coverage_notices, named_days
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader
from klaviyo_pipeline.reporting.text import printable

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
Read = Sequence[tuple[Settings, list[dict[str, Any]]]]
"""Rows by the account that they are of."""


RATES_NOTE = "* daily rates weighted by deliveries; a span's unique opens, clicks and conversions are not known."

SPREADSHEET_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What spreadsheets take for the beginning of a formula, the wide forms of Asian keyboards among them."""


@click.command()
@accounts_option
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--disk", is_flag=True, help="Instead: every table with its size on disk, Dagster's own too.")
def status(slugs: tuple[str, ...], form: str, disk: bool) -> None:
    """How far each asset is synced, what is missing, what failed, and how much room it takes.

    Sizes are those of a table with its indexes. In JSON they are bytes.
    """
    with chosen_accounts(slugs) as chosen:
        found = chosen.each(read_disk if disk else read_status)
        rows = _disk_rows(found) if disk else _status_rows(chosen, found)
        if form == "json":
            click.echo(json_text(rows))
            return
        output = console()
        output.print(table(rows, DISK_COLUMNS) if disk else status_table(rows))
        room = rows if disk else _disk_rows([(settings, read_disk(settings)) for settings, _ in found])
        output.print(f"\n{_room(room, [settings.account.slug for settings, _ in found])}", markup=False)


@click.command()
@account_option
@click.option("--from", "first", type=DAY, required=True, help="First day, inclusive, in the account's zone.")
@click.option("--to", "last", type=DAY, required=True, help="Last day, inclusive.")
@click.option("--flow", "flow_id", help="One flow, by its id.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def metrics(slug: str | None, first: date, last: date, flow_id: str | None, form: str) -> None:
    """What each flow did over a span of days, highest revenue first.

    Counts are summed. Rates that rest on uniques are the daily rates weighted by deliveries: a span's uniques
    cannot be had from daily ones. In CSV a name that a spreadsheet would run as a formula gets a ' before it; in JSON,
    and in Postgres, it is as it is. Days that are not synced, or not final, are named: with JSON and CSV on stderr.
    """
    check_order(first, last)
    with one_account(slug) as settings:
        check_begun(settings.account, first)
        rows = read_metrics(settings, first, last, flow_id)
        notice = _metrics_notice(settings, first, last)
    if form == "table":
        output = console()
        output.print(table(rows, METRICS_COLUMNS))
        output.print(RATES_NOTE if rows else "No figures.")
        output.print(notice or "Every one of these days is synced and final.", markup=False, soft_wrap=True)
        return
    if form == "json":
        click.echo(json_text(rows))
    else:
        _write_csv(rows)
    _warn(notice)


@click.command("list", short_help="List flows, campaigns, forms or segments.")
@account_option
@click.argument("asset", type=click.Choice(list(ENTITIES)))
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
    slug: str | None,
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
    """List flows, campaigns, forms or segments from Postgres, in order of id.

    What Postgres may lack is named: with JSON on stderr.
    """
    check_order(first, last)
    with one_account(slug) as settings, warehouse(settings) as engine:
        check_begun(settings.account, first)
        criteria = Criteria(
            name=name,
            status=state,
            trigger_type=trigger_type,
            since=_midnight(settings.account, first) if first else None,
            before=_midnight(settings.account, last + timedelta(days=1)) if last else None,
            deleted=deleted,
        )
        rows = repository(engine, settings.account.slug, ENTITIES[asset]).page(criteria, limit=limit, after=after)
        with engine.connect() as connection:
            notice = _listing_notice(connection, settings.account, asset, first, last)
    if form == "json":
        click.echo(json_text(rows))
        _warn(notice)
        return
    output = console()
    hidden = {"raw", "definition", "observed_at"}
    columns = {name: name.replace("_", " ") for name in (rows[0] if rows else {}) if name not in hidden}
    output.print(table(rows, columns) if rows else "Nothing matches.")
    if len(rows) == limit:
        output.print(f"More: --after {rows[-1]['id']}", markup=False)
    if notice:
        output.print(notice, markup=False, soft_wrap=True)


@click.command(short_help="One object by id, as JSON: from Postgres, or else Klaviyo.")
@account_option
@click.argument("asset", type=click.Choice(list(ENTITIES)))
@click.argument("id")
def get(slug: str | None, asset: str, id: str) -> None:
    """One object by id, as JSON: from Postgres, or else from Klaviyo, and then stored."""
    with one_account(slug) as settings:
        with warehouse(settings) as engine:
            row = repository(engine, settings.account.slug, ENTITIES[asset]).get(id)
        if row is None:
            from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource

            with KlaviyoResource().session(settings.account, Warehouse.of([settings.account])) as session:
                row = Lookup(session, ENTITIES[asset]).get(id)
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
        {**row, "bytes": room.get(row["entity"]), "history_bytes": room.get(f"{row['entity']}_superseded")}
        for row in rows
    ]


def read_disk(settings: Settings) -> list[dict[str, Any]]:
    """Every table of the account's schema, with its bytes on disk."""
    with warehouse(settings) as engine, engine.connect() as connection:
        return _sizes(settings.account.slug, table_bytes(connection, settings.account.slug))


def _sizes(of: str, sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"of": of, "table": name, "bytes": size} for name, size in sizes.items()]


def _disk_rows(found: Read) -> list[dict[str, Any]]:
    """The accounts' tables, and Dagster's own, which they share."""
    # It imports Dagster's storage: no other command should wait for that.
    from klaviyo_pipeline.maintenance.disk_usage import dagster_bytes

    return [*(row for _, rows in found for row in rows), *_sizes(DAGSTER, dagster_bytes())]


def _status_rows(chosen: Chosen, found: Read) -> list[dict[str, Any]]:
    return [
        {"account": settings.account.slug, **row} if chosen.several else row for settings, rows in found for row in rows
    ]


def _room(rows: Sequence[Mapping[str, Any]], slugs: Sequence[str]) -> str:
    dagsters = sum(row["bytes"] for row in rows if row["of"] == DAGSTER)
    ours = sum(row["bytes"] for row in rows) - dagsters
    where = f"schema {slugs[0]}" if len(slugs) == 1 else f"{len(slugs)} schemas"
    own = f"{format_bytes(dagsters)} of Dagster's own" if dagsters else "none of Dagster's tables within reach"
    return f"On disk: {format_bytes(ours)} in {where}, {own}."


def status_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """The status as a table; the column of errors only where there is one."""
    columns = {"account": "account"} if any("account" in row for row in rows) else {}
    columns |= {key: heading for key, heading in STATUS_COLUMNS.items() if key != "last_error"}
    if any(row["last_error"] for row in rows):
        columns["last_error"] = STATUS_COLUMNS["last_error"]
    return table(rows, columns)


def read_metrics(settings: Settings, first: date, last: date, flow_id: str | None = None) -> list[dict[str, Any]]:
    """One row for each flow over these days, highest revenue first; figures as numbers.

    Raises a usage error for a flow that Postgres does not know.
    """
    with warehouse(settings) as engine, engine.connect() as connection:
        if flow_id is not None and not is_known_flow(connection, settings.account.slug, flow_id):
            raise click.UsageError(
                f"--flow {flow_id!r}: Postgres has no flow with this id; `klaviyo-pipeline get flows ID` asks Klaviyo."
            )
        found = flow_metrics_between(connection, settings.account.slug, first, last, flow_id=flow_id)
        return [{key: number(value) for key, value in row.items()} for row in found]


def _metrics_notice(settings: Settings, first: date, last: date) -> str | None:
    """Which of these days flow_metrics does not cover, or not finally; None where every day is final."""
    account = settings.account
    period = Period(first, min(last, account.today(datetime.now(UTC))))
    with warehouse(settings) as engine, engine.connect() as connection:
        covered = Reader(connection, account.slug).coverage(FLOW_METRICS, period)
    notices = " ".join(coverage_notices(covered))
    if not notices:
        return None
    sync = f"sync flow_report flow_metrics --from {first} --to {period.last}"
    remedy = "" if covered.is_whole else f" Run `klaviyo-pipeline {sync}`."
    return f"{covered.synced:,} of {len(period.days):,} days are synced: {notices}{remedy}"


def _listing_notice(
    connection: sa.Connection, account: Account, entity: str, first: date | None, last: date | None
) -> str | None:
    """What Postgres may lack of the objects that were updated on these days; None where it has them all.

    A census lists every object: what was updated before it is there, whatever the windows say.
    """
    today = account.today(datetime.now(UTC))
    census = CensusRecord(account.slug, entity).last_complete(connection)
    listed_until = account.today(census) if census else account.start_date
    period = Period(max(first or listed_until, listed_until), min(last or today, today))
    notices = []
    if census is None and (first is None or first < account.start_date):
        notices.append(f"no full listing yet, {entity} last updated before {account.start_date} may be missing")
    # On the day of the census itself its rows are as good as a window's.
    if period.days and not (census and period.first == today):
        covered = Reader(connection, account.slug).coverage_of_listing(entity, period)
        notices += [f"not synced for {named_days(covered.missing)}"] if covered.missing else []
    if not notices:
        return None
    return f"{entity}: {'; '.join(notices)}. Run `klaviyo-pipeline sync {entity} {entity}_census`."


def _warn(notice: str | None) -> None:
    if notice:
        click.echo(f"warning: {notice}", err=True)


def _midnight(account: Account, day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=account.zone).astimezone(UTC)


def _write_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    text = StringIO()
    writer = csv.writer(text)
    if rows:
        writer.writerow(rows[0])
    for row in rows:
        writer.writerow([_inert(value) for value in row.values()])
    if not is_writable(text.getvalue()):
        raise click.ClickException(
            f"the output's encoding, {sys.stdout.encoding}, lacks characters of the data; set PYTHONIOENCODING=utf-8."
        )
    sys.stdout.write(text.getvalue())


def _inert(value: Any) -> Any:
    """A name that a spreadsheet would run as a formula is quoted, as spreadsheets do."""
    if not isinstance(value, str):
        return value
    output = printable(value) if sys.stdout.isatty() else value
    return f"'{output}" if value.startswith(SPREADSHEET_FORMULA) else output
