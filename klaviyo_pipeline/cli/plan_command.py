"""The command `klaviyo-pipeline plan`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click
import sqlalchemy as sa

from klaviyo_pipeline.cli.shared import (
    DAY,
    accounts_option,
    chosen_accounts,
    console,
    format_option,
    json_text,
    quiet,
    table,
    warehouse,
)
from klaviyo_pipeline.cli.sync_command import AssetName, check_days, sync_request
from klaviyo_pipeline.config.settings import Account, Settings
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.planning.durations import format_duration
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.account_binding import check_schema_owner
from klaviyo_pipeline.postgres.engine import database_now

if TYPE_CHECKING:
    from klaviyo_pipeline.planning.estimates import Estimate
    from klaviyo_pipeline.planning.quota import Quota

COLUMNS = {
    "asset": "asset",
    "windows": "windows",
    "already_there": "already synced",
    "to_request": "to request",
    "ranges": "ranges",
    "endpoint": "endpoint",
    "requests": "requests",
    "time": "minimum time",
}
QUOTA_COLUMNS = {
    "endpoint": "report",
    "share": "of the daily quota",
    "spent": "used in the last 24 hours",
    "days": "days needed",
}


@dataclass(frozen=True)
class Plan:
    """What a sync that starts now needs: an estimate for each asset, the total time, and the quotas of reports.

    `migrated` is whether the schema has its tables. `seconds` is a lower bound for the whole sync.
    """

    migrated: bool
    estimates: Sequence["Estimate"]
    seconds: float
    quotas: Sequence["Quota"]


@click.command()
@click.argument("assets", nargs=-1, type=AssetName(), metavar="[ASSET]...")
@accounts_option
@click.option("--from", "first", type=DAY, help="First day, inclusive. [default: KLAVIYO_START_DATE]")
@click.option("--to", "last", type=DAY, help="Last day, inclusive. A future day means now. [default: now]")
@click.option("--force", is_flag=True, help="Plan a sync that also requests windows that are already synced.")
@format_option
def plan(
    assets: tuple[str, ...], slugs: tuple[str, ...], first: date | None, last: date | None, force: bool, form: str
) -> None:
    """Print what `sync` would do now with the same arguments: windows, requests, time and report quota.

    The command sends no request to Klaviyo and needs no API key. For listings, the number of requests is estimated from
    the stored rows. For reports, the number is exact. "at least" marks a number that is only a minimum: Postgres may
    lack objects of the listing, Klaviyo may refuse a part of the report, or the asset is conversions_daily. The time is
    the minimum at Klaviyo's published rate limits, scaled by KLAVIYO_RATE_SCALE, without the time that Klaviyo takes to
    answer.

    \b
    Examples:
      klaviyo-pipeline plan
      klaviyo-pipeline plan flow_report --from 2026-01-01 --force
    """
    quiet()
    with chosen_accounts(slugs) as chosen:

        def planned(settings: Settings) -> tuple[SyncRequest, Plan]:
            days = check_days(settings.account, first, last, clipped=chosen.several)
            request = sync_request(settings.account, assets, *days, force=force)
            with warehouse(settings) as engine, engine.connect() as connection:
                return request, make_plan(connection, settings.account, request)

        made = chosen.each(planned)
        if form == "json":
            documents = [_document(settings.account, *one) for settings, one in made]
            named = [
                {"account": settings.account.slug, **document}
                for (settings, _), document in zip(made, documents, strict=True)
            ]
            click.echo(json_text(named if chosen.several else documents[0]))
        for settings, one in made if form == "table" else ():
            if chosen.several:
                console().print(f"[bold]{settings.account.slug}[/bold]")
            _print(settings.account, *one)


COMMANDS = (plan,)


def make_plan(connection: sa.Connection, account: Account, request: SyncRequest) -> Plan:
    """The plan for a request, from the current state of the warehouse.

    Raises `AccountRefused` if the ledger's windows have another time zone or length than the settings.
    """
    from klaviyo_pipeline.planning.durations import whole_sync
    from klaviyo_pipeline.planning.estimates import Estimator

    migrated = sa.inspect(connection).has_table("sync_windows", schema=account.slug)
    now = database_now(connection)
    if migrated:
        check_schema_owner(connection, account, None)
    ledger = connection if migrated else None
    estimates = Estimator(account, now, ledger, _metrics(ledger, account)).estimates(request)
    requests: Counter[str] = Counter()
    for estimate in estimates:
        requests.update({estimate.endpoint: estimate.requests} if estimate.endpoint is not None else {})
    quotas = list(_quotas(ledger, account, now, requests))
    return Plan(migrated, estimates, whole_sync(requests, account.rate_scale), quotas)


def _metrics(connection: sa.Connection | None, account: Account) -> dict[str, Sequence[str]]:
    """The conversion metrics of each asset that has any: those of the settings, otherwise the one of its last sync."""
    from klaviyo_pipeline.catalog import FIGURES, has_conversion_metric
    from klaviyo_pipeline.postgres.ledger import Ledger

    found: dict[str, Sequence[str]] = {}
    for name in filter(has_conversion_metric, FIGURES):
        last = Ledger(account.slug, name).conversion_metric(connection) if connection is not None else None
        found[name] = account.conversion_metrics or ((last,) if last else ())
    return found


def _quotas(
    connection: sa.Connection | None, account: Account, now: datetime, requests: Mapping[str, int]
) -> Iterator["Quota"]:
    from klaviyo_pipeline.catalog import ENDPOINTS
    from klaviyo_pipeline.planning.quota import Quota, daily_limit, spent_today

    for name, wanted in requests.items():
        per_day = daily_limit(ENDPOINTS[name])
        if per_day is not None:
            spent = 0 if connection is None else spent_today(connection, account.slug, ENDPOINTS[name], now)
            yield Quota(name, per_day, spent, wanted)


def _document(account: Account, request: SyncRequest, made: Plan) -> dict[str, Any]:
    return {
        "from": request.first,
        "to": request.last,
        "timezone": account.timezone,
        "migrated": made.migrated,
        "assets": [asdict(estimate) for estimate in made.estimates],
        "requests": sum(estimate.requests for estimate in made.estimates),
        "seconds": made.seconds,
        "report_quotas": [{**asdict(quota), "share": quota.share, "days": quota.days} for quota in made.quotas],
    }


def _print(account: Account, request: SyncRequest, made: Plan) -> None:
    output = console()
    if not made.migrated:
        output.print(
            f"Schema {account.slug} is not migrated yet, so every window counts as missing. `sync` migrates it first."
        )
    output.print(f"Plan for {request.first} to {request.last}, time zone {account.timezone}", markup=False)
    output.print(table([_row(estimate) for estimate in made.estimates], COLUMNS))
    output.print()
    requests = sum(estimate.requests for estimate in made.estimates)
    least = "at least " if any(estimate.basis == "at least" for estimate in made.estimates) else ""
    scale = account.rate_scale
    rates = f"the published rates{'' if scale == 1 else f' times {scale:g}'}"
    limit = f", {format_duration(made.seconds)} or more at {rates}" if scale else "; pacing is off"
    output.print(f"{least}{counted(requests, 'request')}{limit}")
    if made.quotas:
        output.print(table([_quota_row(quota) for quota in made.quotas], QUOTA_COLUMNS))


def _row(estimate: "Estimate") -> dict[str, object]:
    sends_requests = estimate.endpoint is not None and estimate.ranges > 0
    return {
        **vars(estimate),
        "endpoint": estimate.endpoint or "none: computed in Postgres",
        "requests": estimate.requests_text if sends_requests else "0",
        "time": format_duration(estimate.seconds) if sends_requests else None,
    }


def _quota_row(quota: "Quota") -> dict[str, object]:
    return {
        "endpoint": quota.endpoint,
        "share": f"{quota.wanted} of {quota.per_day} ({quota.share:.1%})",
        "spent": quota.spent,
        "days": quota.days,
    }
