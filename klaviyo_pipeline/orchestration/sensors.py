"""Sensors: what is missing is asked again, and trouble announces itself. All are off until switched on in the UI.

Alerts go to the daemon's log, and as JSON (`{"text": …}`, which Slack and others take) to the address in
`KLAVIYO_ALERT_WEBHOOK_URL` if that is set.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import httpx
import sqlalchemy as sa

from klaviyo_pipeline.catalog import DAILY_ASSETS, ENTITIES
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.job_types import AccountJob
from klaviyo_pipeline.klaviyo.proxy_settings import UnusableProxy, proxy_errors
from klaviyo_pipeline.orchestration.jobs import ACCOUNT_TAG, CATCHING_UP, job_specs, own_job
from klaviyo_pipeline.planning.planner import Planner
from klaviyo_pipeline.postgres.engine import first_line
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.windows import range_tags

WEBHOOK = "KLAVIYO_ALERT_WEBHOOK_URL"
WEBHOOK_SECONDS = 10.0

RETRY_SECONDS = 600
GRACE = timedelta(hours=1)
"""How long the schedules have for a window that has just ended, before it counts as missing here."""
RUNS_AT_ONCE = 8
"""Runs that one look at the ledger asks for: after a long outage the rest follows with the next looks."""

STALE_AFTER = timedelta(hours=36)
LOOK_SECONDS = 3600

REVISION_LIVES = timedelta(days=730)
REVISION_NOTICE = timedelta(days=90)


def account_sensors(account: Account, jobs: Sequence[AccountJob]) -> list[dg.SensorDefinition]:
    """The sensors of one account."""
    return [_missing_windows(account, jobs), _stale_data(account), _revision_retires(account)]


def failed_runs(accounts: Sequence[Account]) -> dg.SensorDefinition:
    """One sensor for the failed runs of all accounts."""
    slugs = [account.slug for account in accounts]

    @dg.run_failure_sensor(
        name="failed_runs",
        # A run of `sync` belongs to no code location: only a sensor that monitors all of them sees it.
        monitor_all_code_locations=True,
        description=(
            f"Reports every failed run of the accounts' assets, checks and jobs, whatever launched it: in the log, and "
            f"to {WEBHOOK} if that is set."
        ),
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def sensor(context: dg.RunFailureSensorContext) -> None:
        found = _slugs_of_run(context.instance, context.dagster_run)
        if ours := [slug for slug in slugs if slug in found]:
            _alert(context, f"{', '.join(ours)}: {failure_text(context)}")

    return sensor


def _slugs_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """The accounts that a run is about: by the tag of their jobs and syncs, or by its assets and checks."""
    if ACCOUNT_TAG in run.tags:
        return {run.tags[ACCOUNT_TAG]}
    keys = [*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())]
    # A run of a whole job, or of a part that was cut in code, selects nothing.
    planned = () if keys else instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    keys += [
        entry.dagster_event.asset_key for entry in planned if entry.dagster_event and entry.dagster_event.asset_key
    ]
    return {key.path[0] for key in keys}


def failure_text(context: dg.RunFailureSensorContext) -> str:
    """What failed and why, on one line for each failed step."""
    run = context.dagster_run
    reasons = []
    for event in context.get_step_failure_events():
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        reasons.append(f"{event.step_key}: {first_line(error.message) if error else 'no reason given'}")
    why = "; ".join(reasons) or first_line(context.failure_event.message or "")
    return f"{run.job_name} failed (run {run.run_id}): {why}"


def _missing_windows(account: Account, jobs: Sequence[AccountJob]) -> dg.SensorDefinition:
    by_asset = {name: _job_of(account, name, jobs) for name in (*ENTITIES, *DAILY_ASSETS)}

    @dg.sensor(
        name=f"{account.slug}_missing_windows",
        jobs=list({job.name: job for job in by_asset.values()}.values()),
        minimum_interval_seconds=RETRY_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Asks again for windows that have ended and are missing or failed in the ledger, in few runs.",
    )
    def sensor(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> Iterator[dg.RunRequest | dg.SkipReason]:
        with warehouse.engine(account.slug) as engine, engine.connect() as connection:
            now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            planner = Planner(account, now - GRACE)
            busy = _assets_in_runs(context.instance, account)
            # The same range is asked for again at most once an hour, as long as it stays missing.
            hour = f"{now.astimezone(UTC):%Y-%m-%d %H}"
            requested = _requested_within(context.cursor, hour)
            ranges = {
                f"{asset} {windows[0].key} {windows[-1].key} {hour}": (asset, windows)
                for asset in by_asset
                if asset not in busy
                for windows in planner.missing(connection, asset)
            }
        turn = [key for key in ranges if key not in requested][:RUNS_AT_ONCE]
        if not turn:
            yield dg.SkipReason("every window that has ended is synced, is being asked for, or was within the hour")
        for key in turn:
            asset, windows = ranges[key]
            job = by_asset[asset].name
            yield dg.RunRequest(
                run_key=key,
                job_name=job,
                asset_selection=None if job == own_job(account, asset) else [dg.AssetKey([account.slug, asset])],
                tags=range_tags(windows) | CATCHING_UP,
            )
        context.update_cursor("\n".join([hour, *requested, *turn]))

    return sensor


def _job_of(account: Account, asset: str, jobs: Sequence[AccountJob]) -> AccountJob:
    """The asset's own job, or else the one of its kind."""
    by_name = {job.name: job for job in jobs}
    kind = "entities" if asset in ENTITIES else "reports"
    return by_name.get(own_job(account, asset)) or by_name[f"{account.slug}_{kind}"]


def _requested_within(cursor: str | None, hour: str) -> list[str]:
    """The run keys that were asked for in this hour, by the cursor: those that fail must not hold up the rest."""
    cursor_hour, *keys = (cursor or "").split("\n")
    return keys if cursor_hour == hour else []


def _assets_in_runs(instance: dg.DagsterInstance, account: Account) -> set[str]:
    """The account's assets that some run is about, or is about to be: a job's, a backfill's or a sync's."""
    unfinished = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ]
    of_job = {spec.name: spec.assets for spec in job_specs(account)}
    found: set[str] = set()
    for record in instance.get_run_records(dg.RunsFilter(statuses=unfinished)):
        run = record.dagster_run
        if run.asset_selection:
            found.update(key.path[-1] for key in run.asset_selection if key.path[0] == account.slug)
        else:
            found.update(of_job.get(run.job_name, ()))
    return found


def _stale_data(account: Account) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{account.slug}_stale_data",
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            f"Reports, once a day, assets that are not synced through the last {STALE_AFTER}, and assets that were "
            "never synced."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SkipReason:
        with warehouse.engine(account.slug) as engine, engine.connect() as connection:
            now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            found = {
                "stale": stale_assets(connection, account, now),
                "never synced": never_synced_assets(connection, account, now),
            }
        today = account.today(now).isoformat()
        late = "; ".join(f"{state}: {', '.join(assets)}" for state, assets in found.items() if assets)
        if not late:
            return dg.SkipReason("everything is fresh")
        if context.cursor == today:
            return dg.SkipReason("told today already")
        _alert(context, f"{account.slug}: {late}; see `klaviyo-pipeline status`.")
        context.update_cursor(today)
        return dg.SkipReason(late)

    return sensor


def stale_assets(connection: sa.Connection, account: Account, now: datetime) -> list[str]:
    """Assets of which something was synced once, but not through `STALE_AFTER` before now."""
    status = sa.table("sync_status", sa.column("entity"), sa.column("synced_through"), schema=account.slug)
    query = sa.select(status.c.entity).where(status.c.synced_through < now - STALE_AFTER)
    return list(connection.execute(query).scalars())


def never_synced_assets(connection: sa.Connection, account: Account, now: datetime) -> list[str]:
    """Assets of which no window was ever synced, once the first one ended longer than `STALE_AFTER` ago.

    The error of the last attempt stands behind the name, if there was one.
    """
    if account.today(now - STALE_AFTER) <= account.start_date:
        return []
    status = sa.table(
        "sync_status", *(sa.column(name) for name in ("entity", "synced_through", "last_error")), schema=account.slug
    )
    query = sa.select(status.c.entity, status.c.last_error).where(status.c.synced_through.is_(None))
    return [f"{asset} ({first_line(error)})" if error else asset for asset, error in connection.execute(query)]


def _revision_retires(account: Account) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{account.slug}_revision_retires",
        minimum_interval_seconds=LOOK_SECONDS * 24,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Tells, once a month, that the API revision retires within {REVISION_NOTICE.days} days.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        today = account.today(datetime.now(UTC))
        retires = retirement_date(account.revision)
        if today < retires - REVISION_NOTICE:
            return dg.SkipReason(f"revision {account.revision} is served until {retires}")
        month = f"{today:%Y-%m}"
        if context.cursor != month:
            _alert(
                context,
                f"{account.slug}: Klaviyo retires API revision {account.revision} on {retires}; "
                "upgrade, or set KLAVIYO_REVISION to a later one.",
            )
            context.update_cursor(month)
        return dg.SkipReason(f"revision {account.revision} retires on {retires}")

    return sensor


def retirement_date(revision: str) -> date:
    """When Klaviyo stops to serve a revision: two years after its date."""
    return date.fromisoformat(revision[:10]) + REVISION_LIVES


def _alert(context: dg.SensorEvaluationContext | dg.RunFailureSensorContext, text: str) -> None:
    """Log, and post to the webhook if there is one; a webhook that fails is logged without its address."""
    context.log.error(text)
    address = os.environ.get(WEBHOOK, "").strip()
    if not address:
        return
    try:
        with proxy_errors():
            httpx.post(address, json={"text": text}, timeout=WEBHOOK_SECONDS).raise_for_status()
    except UnusableProxy as error:
        context.log.error(f"the alert could not be posted to {WEBHOOK}: {error}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        context.log.error(f"the alert could not be posted to {WEBHOOK}: {type(error).__name__}")
