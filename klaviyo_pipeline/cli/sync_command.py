"""The command `klaviyo-pipeline sync`."""

import contextlib
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from types import FrameType
from typing import TYPE_CHECKING

import click

from klaviyo_pipeline.catalog import ASSETS, ENTITIES, ENTITY_CENSUSES, EVERY_CENSUS, switched_on
from klaviyo_pipeline.cli.check_command import check_after_first_sync
from klaviyo_pipeline.cli.shared import (
    DAY,
    Chosen,
    accounts_option,
    check_not_future,
    check_order,
    chosen_accounts,
    console,
    quiet,
    refresh_views,
    table,
    warehouse,
)
from klaviyo_pipeline.config.accounts import in_terms_of
from klaviyo_pipeline.config.settings import Account, Settings
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import api_key, stop_sessions
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.api_calls import waits
from klaviyo_pipeline.reporting.text import printable
from klaviyo_pipeline.sync.forkserver import start_importing

if TYPE_CHECKING:
    from klaviyo_pipeline.sync.asset_runs import AssetResult

LONG_WAIT_SHARE = 0.5
LONG_WAIT_SECONDS = 5.0
"""A sync prints how long it waited for rate limits, if the wait was at least this share of its time and this long."""

NAMES = tuple(dict.fromkeys((*ENTITIES, EVERY_CENSUS, *ASSETS)))
"""The names that the argument ASSET accepts."""

RESULT_COLUMNS = {
    "asset": "asset",
    "outcome": "outcome",
    "windows": "windows",
    "requests": "requests",
    "rows_fetched": "fetched",
    "rows_inserted": "inserted",
    "rows_updated": "updated",
    "rows_unchanged": "unchanged",
    "rows_deleted": "deleted",
    "seconds": "seconds",
}


class AssetName(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """The name of an asset to sync, or `census` for the censuses of all entities."""

    name = "ASSET"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in NAMES:
            self.fail(f"unknown asset {value!r}; choose from {', '.join(NAMES)}.", param, ctx)
        return value


@click.command()
@click.argument("assets", nargs=-1, type=AssetName(), metavar="[ASSET]...")
@accounts_option
@click.option("--from", "first", type=DAY, help="First day, inclusive. [default: KLAVIYO_START_DATE]")
@click.option("--to", "last", type=DAY, help="Last day, inclusive. A future day means now. [default: now]")
@click.option("--force", is_flag=True, help="Also request the windows that are already synced.")
@click.option("--accept-deletes", is_flag=True, help="Let a census mark more than half of the objects as deleted.")
def sync(
    assets: tuple[str, ...],
    slugs: tuple[str, ...],
    first: date | None,
    last: date | None,
    force: bool,
    accept_deletes: bool,
) -> None:
    """Sync the account into Postgres: the windows that are not synced yet, and the latest days, which may still change.

    ASSET is one or more of the names below. Without a name, every asset that KLAVIYO_ASSETS switches on is synced: by
    default, all assets except those marked with *. A census is a full listing of an entity.

    \b
      Entities       flows campaigns forms segments lists* templates*
      Censuses       flows_census, and so on; census stands for all of them
      Full listings  metrics form_versions tags
      Reports        flow_report campaign_report form_report segment_report
                     flow_report_weekly flow_report_monthly
                     flow_report_by_variation* campaign_report_by_variation*
                     campaign_report_by_audience* form_report_by_version*
      Metrics        flow_metrics campaign_metrics form_metrics segment_metrics
                     flow_metrics_weekly flow_metrics_monthly
      Conversions    conversions_daily, by the day of the order

    After the first sync of all assets and days of a single account, the checks run too, so that the UI shows their
    results.

    Days are in KLAVIYO_TIMEZONE. Each asset is synced in Dagster runs that you can see in the UI. If an asset fails,
    the other assets are still synced, and the exit code is 1. Several accounts in accounts.yaml are synced
    concurrently, and a failing account does not delay the others. You can interrupt a sync at any time: the next sync
    picks up where it stopped.

    \b
    Examples:
      klaviyo-pipeline sync
      klaviyo-pipeline sync flows campaigns --from 2026-01-01 --to 2026-03-31
      klaviyo-pipeline sync flow_report flow_metrics --from 2026-01-01 --force
    """
    with chosen_accounts(slugs) as chosen:

        def request_of(settings: Settings) -> SyncRequest:
            days = check_days(settings.account, first, last, clipped=chosen.several)
            return sync_request(settings.account, assets, *days, force=force, accept_deletes=accept_deletes)

        requests = chosen.each(request_of)
        if chosen.several:
            _sync_several(chosen, requests)
            return
        for settings, request in requests:
            if run_sync(settings, request, is_whole=not assets and first is None and last is None):
                raise click.exceptions.Exit(1)


COMMANDS = (sync,)


def check_days(account: Account, first: date | None, last: date | None, *, clipped: bool = False) -> tuple[date, date]:
    """The first and last day to sync, inclusive. Raises a usage error for days that cannot be synced.

    With `clipped`, a `first` before the start date becomes the start date: each account may have a different one.
    """
    today = account.today(datetime.now(UTC))
    if first is not None and clipped:
        first = max(first, account.start_date)
    is_early = f"is before KLAVIYO_START_DATE={account.start_date}. Set an earlier start date or a later day."
    if first is not None and first < account.start_date:
        raise click.UsageError(in_terms_of(account, f"--from {first} {is_early}"))
    check_not_future(account, first)
    if last is not None and last < account.start_date:
        raise click.UsageError(in_terms_of(account, f"--to {last} {is_early}"))
    check_order(first, last)
    return first or account.start_date, min(last or today, today)


def sync_request(
    account: Account,
    assets: tuple[str, ...],
    first: date,
    last: date,
    *,
    force: bool = False,
    accept_deletes: bool = False,
) -> SyncRequest:
    """The request for a sync of these assets, or of all assets of the account if `assets` is empty."""
    return SyncRequest(expanded(account, assets), first, last, force, accept_deletes, named=bool(assets))


def run_sync(settings: Settings, request: SyncRequest, *, is_whole: bool = False) -> bool:
    """Migrate the schema, sync, and print the results. Return whether an asset failed.

    `is_whole` means that the request covers all assets and days. If no asset failed and the account's checks have never
    run, a whole sync runs them too.
    """
    quiet()
    api_key(settings.account.api_key_variable)
    from klaviyo_pipeline.dagster_internals.storage import use_project_instance

    use_project_instance()
    if any(len(queries) > 1 for queries in request.stages):
        start_importing(request)
    with warehouse(settings, migrated=True):
        pass
    from dagster import DagsterInstance

    from klaviyo_pipeline.postgres.warehouse import Warehouse
    from klaviyo_pipeline.sync.account_sync import Sync

    output = console()
    with DagsterInstance.get() as instance:
        with _stopping_on_signals():
            sync = Sync(settings.account, Warehouse.of([settings.account]), _report_progress)
            results = sync.run(instance, request)
        output.print()
        output.print(table([_row(result) for result in results], RESULT_COLUMNS))
        if notice := _waiting_notice(settings, results):
            _report_progress(notice)
        failed = [result for result in results if result.error]
        for result in failed:
            click.echo(f"Error: {result.asset}: {printable(str(result.error))}", err=True)
        if is_whole and not failed and (checked := check_after_first_sync(settings, instance)):
            click.echo(checked)
    return bool(failed)


def _waiting_notice(settings: Settings, results: Sequence["AssetResult"]) -> str | None:
    """A notice about the endpoint with the longest wait, if rate limits took at least half of the sync's time."""
    run_ids = [run_id for result in results for run_id in result.run_ids]
    if not run_ids:
        return None
    with warehouse(settings) as engine, engine.connect() as connection:
        endpoints = waits(connection, settings.account.slug, run_ids)
    waited, total = sum(endpoint.waited_seconds for endpoint in endpoints), sum(result.seconds for result in results)
    if not endpoints or waited < max(total * LONG_WAIT_SHARE, LONG_WAIT_SECONDS):
        return None
    slowest = endpoints[0]

    throttled = f", {slowest.throttled} of them throttled" if slowest.throttled else ""
    return (
        f"Klaviyo's rate limits determined the duration: the sync waited {waited:,.0f} s in total, "
        f"including {slowest.waited_seconds:,.0f} s for {slowest.endpoint} ({counted(slowest.requests, 'request')}"
        f"{throttled}). The table api_calls shows the wait of each endpoint."
    )


def _sync_several(chosen: Chosen, requests: Sequence[tuple[Settings, SyncRequest]]) -> None:
    """Sync the accounts concurrently, and print the results of each."""
    quiet()
    from klaviyo_pipeline.dagster_internals.storage import use_project_instance

    use_project_instance()
    if requests:
        start_importing(requests[0][1])
    from klaviyo_pipeline.sync.all_accounts import sync_accounts

    output = console()
    with _stopping_on_signals():
        synced = sync_accounts([(settings.account, request) for settings, request in requests], _report_progress)
    refresh_views(settings for settings, _ in requests)
    output.print()
    rows = [{"account": one.account.slug, **_row(result)} for one in synced for result in one.results]
    rows += [{"account": one.account.slug, "asset": "all", "outcome": "failed"} for one in synced if one.error]
    output.print(table(rows, {"account": "account", **RESULT_COLUMNS}))
    results = {one.account.slug: one.results for one in synced}
    notices = chosen.each(lambda settings: _waiting_notice(settings, results.get(settings.account.slug, ())))
    for settings, notice in notices:
        if notice:
            _report_progress(f"{settings.account.slug}: {notice}")
    for one in synced:
        if one.error:
            chosen.report_error(f"{one.account.slug}: {one.error}")
        for result in one.results:
            if result.error:
                chosen.report_error(f"{one.account.slug}: {result.asset}: {result.error}")


def _report_progress(line: str) -> None:
    console().print(printable(line), markup=False, soft_wrap=True)


def expanded(account: Account, assets: tuple[str, ...]) -> tuple[str, ...]:
    """The account's assets with these names, without duplicates, or all of its assets if there are no names.

    `census` stands for the censuses of all entities that the account has. Raises a usage error for an asset that is
    switched off.
    """
    on = switched_on(account.assets)
    censuses = [name for name in ENTITY_CENSUSES if name in on]
    names = assets or tuple(asset for asset in ASSETS if asset in on)
    every = [asset for name in names for asset in (censuses if name == EVERY_CENSUS else (name,))]
    if off := [asset for asset in every if asset not in on]:
        message = f"{off[0]} is switched off. To sync it, add it to KLAVIYO_ASSETS."
        raise click.UsageError(in_terms_of(account, message))
    return tuple(dict.fromkeys(every))


def _row(result: "AssetResult") -> dict[str, object]:
    outcome = "failed" if result.error else result.skipped or "done"
    return {**vars(result), "outcome": outcome}


@contextlib.contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM stop the sync within seconds. Committed batches are kept."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        stop_sessions()
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        stop_sessions()
        for number, handler in before.items():
            signal.signal(number, handler)
