"""`klaviyo-pipeline sync`."""

import contextlib
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from types import FrameType
from typing import TYPE_CHECKING

import click

from klaviyo_pipeline.catalog import CENSUSES, DAILY_ASSETS, ENTITIES, ENTITY_CENSUSES, EVERY_CENSUS
from klaviyo_pipeline.cli.shared import (
    DAY,
    Chosen,
    accounts_option,
    check_begun,
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
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import api_key, stop_sessions
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.api_calls import waits
from klaviyo_pipeline.reporting.text import printable
from klaviyo_pipeline.sync.forkserver import start_importing

if TYPE_CHECKING:
    from klaviyo_pipeline.sync.asset_runs import AssetResult

MOST_OF_THE_TIME = 0.5
WORTH_A_WORD_SECONDS = 5.0

NAMES = (*ENTITIES, EVERY_CENSUS, *CENSUSES, *DAILY_ASSETS)

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


class AssetName(click.ParamType[str]):
    """An asset to sync."""

    name = "ASSET"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in NAMES:
            self.fail(f"there is no asset {value!r}; choose from {', '.join(NAMES)}.", param, ctx)
        return value


@click.command(short_help="Bring the account into Postgres.")
@click.argument("assets", nargs=-1, type=AssetName(), metavar="[ASSET]...")
@accounts_option
@click.option("--from", "first", type=DAY, help="First day, inclusive. [default: KLAVIYO_START_DATE]")
@click.option("--to", "last", type=DAY, help="Last day, inclusive; later than today means until now. [default: now]")
@click.option("--force", is_flag=True, help="Ask again for what the ledger already has.")
@click.option("--accept-deletes", is_flag=True, help="Let a census mark more deletes than is plausible.")
def sync(
    assets: tuple[str, ...],
    slugs: tuple[str, ...],
    first: date | None,
    last: date | None,
    force: bool,
    accept_deletes: bool,
) -> None:
    """Bring the account into Postgres: what the ledger lacks, and the trailing days that may still change.

    ASSET is one or more of flows, campaigns, forms, segments, census (all four full listings, or one, as
    flows_census), tags, the reports (flow_report, campaign_report, form_report, segment_report) and what is computed
    from them (flow_metrics and so on); all of them by default. Days are days of KLAVIYO_TIMEZONE. Each
    asset's sync is a run in the Dagster UI. One failing asset does not stop the others; the exit code is then 1.
    Where accounts.yaml has several accounts they are synced side by side, and none waits for another's trouble.

    \b
    klaviyo-pipeline sync
    klaviyo-pipeline sync flows campaigns --from 2026-01-01 --to 2026-03-31
    klaviyo-pipeline sync flow_report flow_metrics --from 2026-01-01 --force
    """
    with chosen_accounts(slugs) as chosen:

        def request_of(settings: Settings) -> SyncRequest:
            days = check_days(settings.account, first, last, clipped=chosen.several)
            return sync_request(assets, *days, force=force, accept_deletes=accept_deletes)

        requests = chosen.each(request_of)
        if chosen.several:
            _sync_several(chosen, requests)
        elif any(run_sync(settings, request) for settings, request in requests):
            raise click.exceptions.Exit(1)


COMMANDS = (sync,)


def check_days(account: Account, first: date | None, last: date | None, *, clipped: bool = False) -> tuple[date, date]:
    """The days to sync, both ends inclusive. Raises a usage error for days that cannot be.

    `clipped` begins with the account's first day where `first` lies before it: several accounts begin on several days.
    """
    today = account.today(datetime.now(UTC))
    if first is not None and clipped:
        first = max(first, account.start_date)
    if first is not None and first < account.start_date:
        why = f"--from {first} lies before KLAVIYO_START_DATE={account.start_date}, the first window: set that earlier."
        raise click.UsageError(in_terms_of(account, why))
    check_begun(account, first)
    if last is not None and last < account.start_date:
        why = f"--to {last} lies before KLAVIYO_START_DATE={account.start_date}."
        raise click.UsageError(in_terms_of(account, why))
    check_order(first, last)
    return first or account.start_date, min(last or today, today)


def sync_request(
    assets: tuple[str, ...], first: date, last: date, *, force: bool = False, accept_deletes: bool = False
) -> SyncRequest:
    """What a sync of these assets, all by default, asks for."""
    return SyncRequest(expanded(assets), first, last, force, accept_deletes, named=bool(assets))


def run_sync(settings: Settings, request: SyncRequest) -> bool:
    """Migrate, sync, and print what it came to; return whether an asset failed."""
    quiet()
    api_key(settings.account.api_key_variable)
    from klaviyo_pipeline.dagster_internals.storage import use_project_instance

    use_project_instance()
    if any(len(queries) > 1 for queries in request.stages):
        start_importing()
    with warehouse(settings, migrated=True):
        pass
    from klaviyo_pipeline.postgres.warehouse import Warehouse
    from klaviyo_pipeline.sync.account_sync import Sync

    output = console()
    with _stopping_on_signals():
        results = Sync(settings.account, Warehouse.of([settings.account]), _tell).run(request)
    output.print()
    output.print(table([_row(result) for result in results], RESULT_COLUMNS))
    if explained := _waiting(settings, results):
        _tell(explained)
    failed = [result for result in results if result.error]
    for result in failed:
        click.echo(f"Error: {result.asset}: {printable(str(result.error))}", err=True)
    return bool(failed)


def _waiting(settings: Settings, results: Sequence["AssetResult"]) -> str | None:
    """What the sync waited for, if that took most of its time."""
    run_ids = [run_id for result in results for run_id in result.run_ids]
    if not run_ids:
        return None
    with warehouse(settings) as engine, engine.connect() as connection:
        found = waits(connection, settings.account.slug, run_ids)
    waited, took = sum(one.waited_seconds for one in found), sum(result.seconds for result in results)
    if not found or waited < max(took * MOST_OF_THE_TIME, WORTH_A_WORD_SECONDS):
        return None
    slowest = found[0]
    throttled = f", {slowest.throttled} of them throttled" if slowest.throttled else ""
    return (
        f"Klaviyo's rates set the pace: most of the time was waiting, {slowest.waited_seconds:,.0f} s of it for "
        f"{slowest.endpoint} ({slowest.requests:,} requests{throttled}); table api_calls has the rest."
    )


def _sync_several(chosen: Chosen, requests: Sequence[tuple[Settings, SyncRequest]]) -> None:
    """Sync the accounts side by side, and print what each came to."""
    quiet()
    from klaviyo_pipeline.dagster_internals.storage import use_project_instance

    use_project_instance()
    start_importing()
    from klaviyo_pipeline.sync.all_accounts import sync_accounts

    output = console()
    with _stopping_on_signals():
        synced = sync_accounts([(settings.account, request) for settings, request in requests], _tell)
    refresh_views(settings for settings, _ in requests)
    output.print()
    rows = [{"account": one.account.slug, **_row(result)} for one in synced for result in one.results]
    rows += [{"account": one.account.slug, "asset": "all", "outcome": "failed"} for one in synced if one.error]
    output.print(table(rows, {"account": "account", **RESULT_COLUMNS}))
    results = {one.account.slug: one.results for one in synced}
    for settings, explained in chosen.each(lambda settings: _waiting(settings, results.get(settings.account.slug, ()))):
        if explained:
            _tell(f"{settings.account.slug}: {explained}")
    for one in synced:
        if one.error:
            chosen.tell(f"{one.account.slug}: {one.error}")
        for result in one.results:
            if result.error:
                chosen.tell(f"{one.account.slug}: {result.asset}: {result.error}")


def _tell(line: str) -> None:
    console().print(printable(line), markup=False, soft_wrap=True)


def expanded(assets: tuple[str, ...]) -> tuple[str, ...]:
    """The assets that these names mean: all without any, four for `census`; each once."""
    named = assets or (*ENTITIES, *CENSUSES, *DAILY_ASSETS)
    every = [one for name in named for one in (ENTITY_CENSUSES if name == EVERY_CENSUS else (name,))]
    return tuple(dict.fromkeys(every))


def _row(result: "AssetResult") -> dict[str, object]:
    outcome = "failed" if result.error else result.skipped or "done"
    return {**vars(result), "outcome": outcome}


@contextlib.contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """End cleanly, within seconds, when told to: batches that are committed stay, open ones roll back."""
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
