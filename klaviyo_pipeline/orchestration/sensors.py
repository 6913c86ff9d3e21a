"""The sensors of an account. One syncs missing windows; the others alert you about problems.

All are off until you switch them on in the UI. Alerts are written to the daemon's log. If `KLAVIYO_ALERT_WEBHOOK_URL`
is set, they are also posted to that URL as JSON (`{"text": …}`, the format of Slack and others).
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import httpx
import sqlalchemy as sa

from klaviyo_pipeline.catalog import ENTITIES, FIGURES, FLOW_METRICS, FORM_METRICS, switched_on
from klaviyo_pipeline.config.accounts import in_terms_of
from klaviyo_pipeline.config.api_revisions import API_REVISIONS
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.dagster_internals.job_types import AccountJob
from klaviyo_pipeline.dagster_internals.partition_states import align_partitions
from klaviyo_pipeline.klaviyo.proxy_settings import UnusableProxy, proxy_errors
from klaviyo_pipeline.maintenance.dead_runs import free_dead_runs
from klaviyo_pipeline.orchestration.jobs import ACCOUNT_TAG, CATCHING_UP, job_specs, own_job
from klaviyo_pipeline.orchestration.resources.account_resources import access_key, access_to
from klaviyo_pipeline.orchestration.step_errors import failure_line
from klaviyo_pipeline.planning.planner import Planner
from klaviyo_pipeline.postgres.engine import database_now, first_line
from klaviyo_pipeline.reporting.quiet_objects import quiet_metrics, unsent_campaigns

WEBHOOK = "KLAVIYO_ALERT_WEBHOOK_URL"
WEBHOOK_SECONDS = 10.0

RETRY_SECONDS = 600
GRACE = timedelta(hours=1)
"""How long after its end a window can wait for its scheduled sync before the sensor counts it as missing."""
RUNS_AT_ONCE = 8
"""The maximum number of runs that one evaluation requests. After a long outage, later evaluations request the rest."""

STALE_AFTER = timedelta(hours=36)
CHECK_SECONDS = 3600
ALERTS_REMEMBERED = 1_000

REVISION_NOTICE = timedelta(days=90)


def account_sensors(account: Account, jobs: Sequence[AccountJob]) -> list[dg.SensorDefinition]:
    """The sensors of one account, except `failed_runs`, which can be shared by several accounts."""
    windowed = switched_on(account.assets) & {*ENTITIES, *FIGURES}
    return [
        *([_missing_windows(account, jobs)] if windowed else []),
        _stale_data(account),
        _quiet_objects(account),
        _revision_retires(account),
    ]


def failed_runs(accounts: Sequence[Account], name: str = "failed_runs") -> dg.SensorDefinition:
    """One sensor that alerts on the failed runs of all these accounts."""

    @dg.run_failure_sensor(
        name=name,
        # A run of `sync` belongs to no code location. Only a sensor of all code locations receives such a run.
        monitor_all_code_locations=True,
        description=(
            "Alerts on every failed run of an account's assets, checks or jobs, whatever launched it. Alerts are "
            f"logged, and posted to the URL in {WEBHOOK} if it is set."
        ),
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def sensor(context: dg.RunFailureSensorContext) -> None:
        if ours := _slugs_of_run(context.instance, context.dagster_run, accounts):
            _alert(context, f"{', '.join(ours)}: {failure_text(context)}")

    return sensor


def _slugs_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun, accounts: Sequence[Account]) -> list[str]:
    """The slugs of the accounts that a run belongs to: from the tag that jobs and syncs set, else from its assets."""
    if ACCOUNT_TAG in run.tags:
        return [account.slug for account in accounts if account.slug == run.tags[ACCOUNT_TAG]]
    keys = [*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())]
    # A run of a whole job has no selection, nor has a run of assets that code selects. The log has the planned assets.
    planned = () if keys else instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    keys += [
        entry.dagster_event.asset_key for entry in planned if entry.dagster_event and entry.dagster_event.asset_key
    ]
    return [account.slug for account in accounts if any(account.asset_name(key.path) for key in keys)]


def failure_text(context: dg.RunFailureSensorContext) -> str:
    """What failed and why, on one line: the reason of each failed step, separated by semicolons."""
    run = context.dagster_run
    reasons = []
    for event in context.get_step_failure_events():
        reasons.append(f"{event.step_key}: {failure_line(event) or 'no reason given'}")
    why = "; ".join(reasons) or first_line(context.failure_event.message or "")
    return f"{run.job_name} failed (run {run.run_id}): {why}"


def _missing_windows(account: Account, jobs: Sequence[AccountJob]) -> dg.SensorDefinition:
    on = switched_on(account.assets)
    by_asset = {name: _job_of(account, name, jobs) for name in (*ENTITIES, *FIGURES) if name in on}

    @dg.sensor(
        name=f"{account.slug}_missing_windows",
        jobs=list({job.name: job for job in by_asset.values()}.values()),
        minimum_interval_seconds=RETRY_SECONDS,
        required_resource_keys={access_key(account)},
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Requests runs for ended windows that were never synced, failed, or were synced before their end. "
            "Consecutive windows share a run. Also corrects partitions in Dagster that differ from the ledger."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        warehouse = access_to(account, context.resources).warehouse
        free_dead_runs(context.instance)
        with warehouse.engine(account.slug) as engine, engine.connect() as connection:
            now = database_now(connection)
            planner = Planner(account, now - GRACE)
            busy = _assets_in_runs(context.instance, account)
            # The hour is part of the run key, so a range that stays missing is requested at most once per clock hour.
            hour = f"{now.astimezone(UTC):%Y-%m-%d %H}"
            requested = _requested_within(context.cursor, hour)
            ranges = {
                " ".join((asset, run.windows[0].key, run.windows[-1].key, *run.metric_ids, hour)): (asset, run)
                for asset in by_asset
                if asset not in busy
                for run in planner.missing(connection, asset)
            }
        due = [key for key in ranges if key not in requested][:RUNS_AT_ONCE]
        if not due:
            yield dg.SkipReason("no missing windows: all are synced, running, or were requested in this clock hour")
        for key in due:
            asset, run = ranges[key]
            job = by_asset[asset].name
            yield dg.RunRequest(
                run_key=key,
                job_name=job,
                asset_selection=None if job == own_job(account, asset) else [dg.AssetKey(account.asset_key(asset))],
                tags=run.tags | CATCHING_UP,
            )
        context.update_cursor("\n".join([hour, *requested, *due]))
        with warehouse.engine(account.slug) as engine:
            corrections = align_partitions(context.instance, account, engine, briefly=True)
        if corrections.total:
            context.log.info(corrections.text)

    return sensor


def _job_of(account: Account, asset: str, jobs: Sequence[AccountJob]) -> AccountJob:
    """The asset's own job if it exists, else the larger job that contains it."""
    by_name = {job.name: job for job in jobs}
    specs = job_specs(account, single_account=False)
    larger = next(spec.name for spec in specs if asset in spec.assets)
    return by_name.get(own_job(account, asset)) or by_name[larger]


def _requested_within(cursor: str | None, hour: str) -> list[str]:
    """The cursor's run keys, if they are of this hour. These are skipped, so that failing ranges block no new ones."""
    cursor_hour, *keys = (cursor or "").split("\n")
    return keys if cursor_hour == hour else []


def _assets_in_runs(instance: dg.DagsterInstance, account: Account) -> set[str]:
    """The names of the account's assets in queued or running runs, including those of backfills and `sync`."""
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
            found.update(name for key in run.asset_selection if (name := account.asset_name(key.path)))
        else:
            found.update(of_job.get(run.job_name, ()))
    return found


def _stale_data(account: Account) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{account.slug}_stale_data",
        required_resource_keys={access_key(account)},
        minimum_interval_seconds=CHECK_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            f"Alerts once a day on assets whose data ends more than {STALE_AFTER / timedelta(hours=1):.0f} hours ago, "
            "and on assets that were never synced."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        warehouse = access_to(account, context.resources).warehouse
        with warehouse.engine(account.slug) as engine, engine.connect() as connection:
            now = database_now(connection)
            found = {
                "stale": stale_assets(connection, account, now),
                "never synced": never_synced_assets(connection, account, now),
            }
        today = account.today(now).isoformat()
        late = "; ".join(f"{state}: {', '.join(assets)}" for state, assets in found.items() if assets)
        if not late:
            return dg.SkipReason("all assets are fresh")
        if context.cursor == today:
            return dg.SkipReason("already reported today")
        _alert(context, in_terms_of(account, f"{account.slug}: {late}. Run `klaviyo-pipeline status` for details."))
        context.update_cursor(today)
        return dg.SkipReason(late)

    return sensor


def stale_assets(connection: sa.Connection, account: Account, now: datetime) -> list[str]:
    """Assets that are synced, but only up to a time more than `STALE_AFTER` before `now`."""
    status = sa.table("sync_status", sa.column("entity"), sa.column("synced_through"), schema=account.slug)
    query = sa.select(status.c.entity).where(status.c.synced_through < now - STALE_AFTER)
    on = switched_on(account.assets)
    return [asset for asset in connection.execute(query).scalars() if asset in on]


def never_synced_assets(connection: sa.Connection, account: Account, now: datetime) -> list[str]:
    """Assets without a synced window. None are reported until `STALE_AFTER` after the end of the start date.

    If an attempt failed, the last error follows the name in parentheses.
    """
    if account.today(now - STALE_AFTER) <= account.start_date:
        return []
    status = sa.table(
        "sync_status", *(sa.column(name) for name in ("entity", "synced_through", "last_error")), schema=account.slug
    )
    query = sa.select(status.c.entity, status.c.last_error).where(status.c.synced_through.is_(None))
    on = switched_on(account.assets)
    never = [row for row in connection.execute(query) if row.entity in on]
    return [f"{asset} ({first_line(error)})" if error else asset for asset, error in never]


def _quiet_objects(account: Account) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{account.slug}_quiet_objects",
        minimum_interval_seconds=CHECK_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Alerts once on each live flow or form that stopped, no longer converts, or has much lower rates than "
            "usual, and on each scheduled campaign that was not sent."
        ),
        required_resource_keys={access_key(account)},
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        warehouse = access_to(account, context.resources).warehouse
        slug, zone = account.slug, account.timezone
        with warehouse.engine(slug) as engine, engine.connect() as connection:
            now = database_now(connection)
            found = unsent_campaigns(connection, slug, zone, now)
            for table in (FLOW_METRICS, FORM_METRICS):
                found += quiet_metrics(connection, slug, zone, table)
        known = (context.cursor or "").split("\n")
        news = [one for one in found if one.key not in known]
        if news:
            _alert(context, f"{slug}: {'; '.join(map(str, news))}.")
        # Reported problems stay in the cursor after they disappear: a rate may return to its range and leave it again.
        context.update_cursor("\n".join([*known, *(one.key for one in news)][-ALERTS_REMEMBERED:]))
        return dg.SkipReason(f"{counted(len(found), 'object')} went quiet, {len(news)} of them reported now")

    return sensor


def _revision_retires(account: Account) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{account.slug}_revision_retires",
        minimum_interval_seconds=CHECK_SECONDS * 24,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Alerts once a month if Klaviyo retires the API revision within {REVISION_NOTICE.days} days.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        today = account.today(datetime.now(UTC))
        retires = API_REVISIONS[account.revision].retires_on
        if today < retires - REVISION_NOTICE:
            return dg.SkipReason(f"revision {account.revision} is supported until {retires}")
        month = f"{today:%Y-%m}"
        if context.cursor != month:
            _alert(
                context,
                in_terms_of(
                    account,
                    f"{account.slug}: Klaviyo retires API revision {account.revision} on {retires}. "
                    "Upgrade klaviyo-pipeline, or set KLAVIYO_REVISION to a later revision.",
                ),
            )
            context.update_cursor(month)
        return dg.SkipReason(f"revision {account.revision} retires on {retires}")

    return sensor


def _alert(context: dg.SensorEvaluationContext | dg.RunFailureSensorContext, text: str) -> None:
    """Log the alert, and post it to the webhook if one is set. An error is logged without the URL, which is secret."""
    context.log.error(text)
    address = os.environ.get(WEBHOOK, "").strip()
    if not address:
        return
    try:
        with proxy_errors():
            httpx.post(address, json={"text": text}, timeout=WEBHOOK_SECONDS).raise_for_status()
    except UnusableProxy as error:
        context.log.error(f"the alert was not posted to the URL in {WEBHOOK}: {error}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        context.log.error(
            f"the alert was not posted ({type(error).__name__}). Check the URL in {WEBHOOK} and the network."
        )
