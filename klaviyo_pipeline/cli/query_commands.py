"""The commands that print rows of the warehouse: `metrics`, `list` and `get`."""

import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from io import StringIO
from typing import Any

import click
import sqlalchemy as sa

from klaviyo_pipeline.catalog import EXACT_METRICS, FLOW_METRICS, LISTED_IN_FULL, OBJECTS, as_chosen
from klaviyo_pipeline.cli.shared import (
    DAY,
    account_option,
    check_not_future,
    check_order,
    console,
    format_option,
    is_writable,
    json_text,
    number,
    one_account,
    table,
    warehouse,
)
from klaviyo_pipeline.config.accounts import in_terms_of
from klaviyo_pipeline.config.settings import Account, Settings
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.klaviyo.refused_statistics import refused_words
from klaviyo_pipeline.klaviyo.reports import VALUES, VALUES_CHUNK_DAYS
from klaviyo_pipeline.orchestration.assets.lookup import Lookup, repository
from klaviyo_pipeline.postgres.census_runs import CensusRecord
from klaviyo_pipeline.postgres.exact_answers import ExactAnswer, current_answer, exact_metrics
from klaviyo_pipeline.postgres.metrics_tables import flow_metrics_between, is_known_flow
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.postgres.write.repositories import Criteria
from klaviyo_pipeline.reporting.content import coverage_notices, named_days
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader
from klaviyo_pipeline.reporting.text import printable

_OF_MESSAGES = {
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
METRICS_COLUMNS = {"flow_id": "flow", "flow_name": "name", "flow_status": "status", **_OF_MESSAGES}
EXACT_COLUMNS = {
    "flows": METRICS_COLUMNS,
    "campaigns": {"campaign_id": "campaign", "campaign_name": "name", "campaign_status": "status", **_OF_MESSAGES},
    "forms": {
        "form_id": "form",
        "form_name": "name",
        "form_status": "status",
        "viewed_form": "views",
        "viewed_form_uniques": "people who viewed*",
        "submits": "submits",
        "closed_form": "closes",
        "submit_rate": "submit rate",
    },
}

RATES_NOTE = (
    "* Average of the daily rates, weighted by deliveries. `metrics --exact` prints rates from Klaviyo's own unique "
    "counts."
)
EXACT_NOTE = "* Computed from Klaviyo's own unique counts for these days, summed over the messages of each flow."

SPREADSHEET_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""The first characters of a formula in a spreadsheet, including the full-width forms of East Asian keyboards."""


@click.command()
@account_option
@click.option("--from", "first", type=DAY, required=True, help="First day, inclusive, in the account's time zone.")
@click.option("--to", "last", type=DAY, required=True, help="Last day, inclusive.")
@click.option("--flow", "flow_id", help="Print only the flow with this id.")
@click.option("--exact", is_flag=True, help="Request Klaviyo's own values for exactly these days, at most 365.")
@click.option("--campaigns", "entity", flag_value="campaigns", help="Print campaigns instead of flows. Needs --exact.")
@click.option("--forms", "entity", flag_value="forms", help="Print forms instead of flows. Needs --exact.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Output format.",
)
def metrics(
    slug: str | None, first: date, last: date, flow_id: str | None, exact: bool, entity: str | None, form: str
) -> None:
    """Print the metrics of each flow for a range of days, highest revenue first.

    Counts are summed. Rates that depend on unique counts are averages of the daily rates, weighted by deliveries,
    because unique counts of several days cannot be added. A notice names the days that are not synced or not final. For
    JSON and CSV, the notice goes to stderr. A name that a spreadsheet would run as a formula begins with an apostrophe
    in the CSV. The JSON contains every name unchanged.

    With --exact, the counts are Klaviyo's own for exactly these days, and the rates are computed from them. This takes
    one request of a daily quota, and stderr shows how much of the quota is used. The answer is stored and used again
    for an hour, or for longer if its values were final. Flows, campaigns and forms have separate quotas. All values of
    a campaign count on the day of its send.

    \b
    Examples:
      klaviyo-pipeline metrics --from 2026-10-01 --to 2026-10-31
      klaviyo-pipeline metrics --from 2026-10-01 --to 2026-10-31 --exact
      klaviyo-pipeline metrics --from 2026-10-01 --to 2026-10-31 --exact --campaigns
      klaviyo-pipeline metrics --from 2026-10-01 --to 2026-10-31 --flow XyZ123 --format csv
    """
    check_order(first, last)
    if entity is not None and not exact:
        table_name = EXACT_METRICS[entity].metrics.name
        raise click.UsageError(f"--{entity} needs --exact. The table {table_name} has the values by day.")
    if entity is not None and flow_id is not None:
        raise click.UsageError(f"--flow cannot be used with --{entity}.")
    entity = entity or FLOW_METRICS.entity
    with one_account(slug) as settings:
        check_not_future(settings.account, first)
        last = min(last, settings.account.today(datetime.now(UTC)))
        if exact:
            click.echo(_request_unless_stored(settings, entity, first, last), err=True)
        if entity == FLOW_METRICS.entity:
            rows = read_metrics(settings, first, last, flow_id)
        else:
            rows = _read_exact(settings, entity, first, last)
        notice = _metrics_notice(settings, entity, first, last)
    if form == "table":
        output = console()
        output.print(table(rows, EXACT_COLUMNS[entity]))
        if rows and entity != FLOW_METRICS.entity:
            output.print(f"* Computed from Klaviyo's own unique counts of the {entity} for these days.")
        elif rows:
            output.print(EXACT_NOTE if rows[0]["uniques"] == "exact" else RATES_NOTE)
        else:
            output.print("No metrics for these days.")
        final = "All of these days are final." if exact else "All of these days are synced and final."
        output.print(notice or final, markup=False, soft_wrap=True)
        return
    if form == "json":
        click.echo(json_text(rows))
    else:
        _write_csv(rows)
    _warn(notice)


@click.command("list")
@account_option
@click.argument("asset", type=click.Choice(list(OBJECTS)))
@click.option("--name", help="List only objects with exactly this name.")
@click.option("--status", "state", help="List only objects with exactly this status.")
@click.option("--trigger-type", help="List only flows with exactly this trigger type.")
@click.option("--from", "first", type=DAY, help="List only objects updated on or after this day, in KLAVIYO_TIMEZONE.")
@click.option("--to", "last", type=DAY, help="List only objects updated on or before this day.")
@click.option("--deleted", is_flag=True, help="List deleted objects too.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Maximum number of objects."
)
@click.option("--after", help="List only objects after this id. For the next page, pass the last id of this page.")
@format_option
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
    """List flows, campaigns, forms, segments, lists, templates, metrics or form versions from Postgres, sorted by id.

    If objects may be missing because they are not synced yet, the command prints a notice. For JSON, the notice goes to
    stderr.

    \b
    Examples:
      klaviyo-pipeline list flows --status live
      klaviyo-pipeline list campaigns --from 2026-10-01 --limit 200 --format json
    """
    check_order(first, last)
    with one_account(slug) as settings, warehouse(settings) as engine:
        check_not_future(settings.account, first)
        criteria = Criteria(
            name=name,
            status=state,
            trigger_type=trigger_type,
            since=_midnight(settings.account, first) if first else None,
            before=_midnight(settings.account, last + timedelta(days=1)) if last else None,
            deleted=deleted,
        )
        rows = repository(engine, settings.account.slug, OBJECTS[asset]).page(criteria, limit=limit, after=after)
        with engine.connect() as connection:
            notice = _listing_notice(connection, settings.account, asset, first, last)
    if form == "json":
        click.echo(json_text(rows))
        _warn(notice)
        return
    output = console()
    hidden = {"raw", "definition", "observed_at"}
    columns = {name: name.replace("_", " ") for name in (rows[0] if rows else {}) if name not in hidden}
    output.print(table(rows, columns) if rows else f"No {asset} match.")
    if len(rows) == limit:
        output.print(f"For the next page, add --after {rows[-1]['id']}.", markup=False)
    if notice:
        output.print(notice, markup=False, soft_wrap=True)


@click.command()
@account_option
@click.argument("asset", type=click.Choice(list(OBJECTS)))
@click.argument("id")
def get(slug: str | None, asset: str, id: str) -> None:
    """Print one object by id as JSON. An object that Postgres lacks is requested from Klaviyo and stored.

    \b
    Example:
      klaviyo-pipeline get flows XyZ123
    """
    with one_account(slug) as settings:
        with warehouse(settings) as engine:
            row = repository(engine, settings.account.slug, OBJECTS[asset]).get(id)
        if row is None:
            from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource

            with KlaviyoResource().session(settings.account, Warehouse.of([settings.account])) as session:
                row = Lookup(session, as_chosen(OBJECTS[asset], settings.account)).get(id)
    if row is None:
        raise click.ClickException(f"{asset} {id} exists neither in Postgres nor in Klaviyo.")
    click.echo(json_text(row))


COMMANDS = (metrics, list_, get)


def read_metrics(settings: Settings, first: date, last: date, flow_id: str | None = None) -> list[dict[str, Any]]:
    """The metrics of each flow for these days, one row each, highest revenue first. Decimals become int or float.

    Raises a usage error if Postgres has no flow with this id.
    """
    with warehouse(settings) as engine, engine.connect() as connection:
        if flow_id is not None and not is_known_flow(connection, settings.account.slug, flow_id):
            message = (
                f"--flow {flow_id!r}: Postgres has no flow with this id; `klaviyo-pipeline get flows ID` requests it "
                "from Klaviyo and stores it."
            )
            raise click.UsageError(in_terms_of(settings.account, message))
        found = flow_metrics_between(connection, settings.account.slug, first, last, flow_id=flow_id)
        return [{key: number(value) for key, value in row.items()} for row in found]


def _read_exact(settings: Settings, entity: str, first: date, last: date) -> list[dict[str, Any]]:
    """Klaviyo's stored values of each object for exactly these days, one row each. Decimals become int or float."""
    with warehouse(settings) as engine, engine.connect() as connection:
        found = exact_metrics(connection, settings.account.slug, EXACT_METRICS[entity], first, last)
        return [{key: number(value) for key, value in row.items()} for row in found]


def _request_unless_stored(settings: Settings, entity: str, first: date, last: date) -> str:
    """Request Klaviyo's values for exactly these days, unless a stored answer is still valid.

    Returns a line about the cost. Raises a usage error for too many days.
    """
    account, days = settings.account, (last - first).days + 1
    if days > VALUES_CHUNK_DAYS:
        raise click.UsageError(f"--exact allows at most {VALUES_CHUNK_DAYS} days; {first} to {last} are {days:,} days.")
    with warehouse(settings) as engine, engine.connect() as connection:
        answer = current_answer(connection, account.slug, entity, first, last)
    if answer is not None and _has_metric(answer, account):
        answered = f"{answer.asked_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return f"Used Klaviyo's stored answer of {answered}. No request was sent."
    from klaviyo_pipeline.orchestration.assets.exact_metrics import request_exactly
    from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource

    with KlaviyoResource().session(account, Warehouse.of([account])) as session:
        quota = request_exactly(session, EXACT_METRICS[entity], first, last)
    return (
        f"Sent {counted(quota.wanted, 'request')} to the {VALUES[entity].name} report. Used in the last 24 hours: "
        f"{quota.spent} of {quota.per_day} requests."
    )


def _has_metric(answer: ExactAnswer, account: Account) -> bool:
    """Whether the answer is for the account's first conversion metric.

    Also True if the settings name no metric, and for answers about forms, which have no conversion metric.
    """
    metrics = (answer.conversion_metric_id, account.first_conversion_metric)
    return None in metrics or metrics[0] == metrics[1]


def _metrics_notice(settings: Settings, entity: str, first: date, last: date) -> str | None:
    """A notice about the printed values: which days are missing, or may still change. None if all are final.

    If an exact answer is stored for these days, the notice is about that answer.
    """
    account = settings.account
    period = Period(first, last)
    with warehouse(settings) as engine, engine.connect() as connection:
        if answer := current_answer(connection, account.slug, entity, first, last):
            return _answer_notice(answer, entity)
        covered = Reader(connection, account.slug).coverage(FLOW_METRICS, period)
    notices = " ".join(coverage_notices(covered))
    if not notices:
        return None
    sync = f" Run `klaviyo-pipeline sync flow_report flow_metrics --from {first} --to {period.last}`."
    remedy = "" if covered.is_whole else in_terms_of(account, sync)
    return f"{covered.synced:,} of {len(period.days):,} days are synced: {notices}{remedy}"


def _answer_notice(answer: ExactAnswer, entity: str) -> str | None:
    """A notice about an exact answer that may still change or that lacks statistics; None if neither applies."""
    notices = []
    if not answer.is_final:
        notices.append(f"These values may change until {answer.settled_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC.")
    if answer.refused_statistics:
        notices.append(f"{refused_words(VALUES[entity], answer.conversion_metric_id, answer.refused_statistics)}.")
    return " ".join(notices) or None


def _listing_notice(
    connection: sa.Connection, account: Account, entity: str, first: date | None, last: date | None
) -> str | None:
    """A notice that Postgres may lack objects that were updated on these days. None if it has all of them.

    A census lists every object. Postgres therefore has every object that was updated before the last census, even in
    windows that are not synced.
    """
    today = account.today(datetime.now(UTC))
    census = CensusRecord(account.slug, entity).last_complete(connection)
    if entity in LISTED_IN_FULL:
        sync = f"{entity}: there was no full listing yet. Run `klaviyo-pipeline sync {entity}`."
        return None if census else in_terms_of(account, sync)
    listed_until = account.today(census) if census else account.start_date
    period = Period(max(first or listed_until, listed_until), min(last or today, today))
    notices = []
    if census is None and (first is None or first < account.start_date):
        notices.append(f"there was no census yet, so {entity} last updated before {account.start_date} may be missing")
    # If the census ran today, its rows are as recent as those of today's window.
    if period.days and not (census and listed_until == today):
        covered = Reader(connection, account.slug).coverage_of_listing(entity, period)
        notices += [f"not synced for {named_days(covered.missing)}"] if covered.missing else []
    if not notices:
        return None
    sync = f"{entity}: {'; '.join(notices)}. Run `klaviyo-pipeline sync {entity} {entity}_census`."
    return in_terms_of(account, sync)


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
        writer.writerow([_escaped(value) for value in row.values()])
    if not is_writable(text.getvalue()):
        raise click.ClickException(
            f"The output encoding {sys.stdout.encoding} lacks characters of the data; set PYTHONIOENCODING=utf-8."
        )
    sys.stdout.write(text.getvalue())


def _escaped(value: Any) -> Any:
    """A value of the CSV. If a spreadsheet would run it as a formula, a leading apostrophe makes it plain text."""
    if not isinstance(value, str):
        return value
    output = printable(value) if sys.stdout.isatty() else value
    return f"'{output}" if value.startswith(SPREADSHEET_FORMULA) else output
