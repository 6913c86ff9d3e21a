"""The schedules of an account.

The recent windows of reports are synced again once a day; those of entities once a day or, if they are hourly, once an
hour. Other schedules sync the open window, list every object, run checks, and delete old logs. All schedules are off
until you switch them on in the UI.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.dagster_internals.job_types import AccountJob
from klaviyo_pipeline.orchestration.jobs import CALENDAR_PERIODS, IN_ONE_PROCESS, SCHEDULED, concurrently
from klaviyo_pipeline.windows import Window, WindowPlan, entity_windows, range_tags, report_windows

POLL_MINUTES = 15

MINUTES_AFTER_CLOSE = 10
"""Minutes from the end of a window to its scheduled sync. Klaviyo rejects requests for the last few seconds, and most
clients send their requests exactly at midnight."""


def account_schedules(account: Account, jobs: Sequence[AccountJob]) -> list[dg.ScheduleDefinition]:
    """The schedules of one account. A schedule is left out if the account has none of the assets of its job."""
    by_name = {job.name: job for job in jobs}
    days = account.lookback_days
    report_days = max(days, account.attribution_days)
    entities, reports = (by_name.get(f"{account.slug}_{kind}") for kind in ("entities", "reports"))
    return [
        *([_trailing(account, entities, entity_windows(account), days)] if entities else []),
        *([_trailing(account, reports, report_windows(account), report_days)] if reports else []),
        *(
            # Later than the daily reports, which use the same rates and the same daily quota.
            _trailing(account, job, report_windows(account, period), report_days, 30)
            for name, period in CALENDAR_PERIODS.items()
            if (job := by_name.get(f"{account.slug}_reports_{name}"))
        ),
        *([_open_window(account, entities, entity_windows(account))] if entities else []),
        *_fixed(account, by_name),
    ]


def _fixed(account: Account, jobs: Mapping[str, AccountJob]) -> list[dg.ScheduleDefinition]:
    """The schedules of jobs without windows, at fixed times."""
    times = {
        "census_daily": ("40 2 * * *", "Once a day: lists every object of every entity, with its tags."),
        # Separate from the censuses: an account's API key may lack the scope tags:read.
        "tags_daily": (
            "10 3 * * *",
            "Once a day: lists every tag and its name. Requires the scope tags:read.",
        ),
        "checks_daily": (
            "20 3 * * *",
            "Once a day: runs every check that reads only Postgres, whether or not an asset ran.",
        ),
        "reconcile_weekly": ("40 3 * * 0", "Once a week: compares Postgres with what Klaviyo's API returns now."),
        "prune_weekly": (
            "20 4 * * 0",
            f"Once a week: deletes logs and operational records older than {account.retention_days} days.",
        ),
    }
    found = []
    for name, (cron, description) in times.items():
        job = jobs.get(f"{account.slug}_{name.rpartition('_')[0]}")
        if job is not None:
            found.append(
                dg.ScheduleDefinition(
                    name=f"{account.slug}_{name}",
                    job=job,
                    cron_schedule=cron,
                    execution_timezone=account.timezone,
                    tags=SCHEDULED if name in ("census_daily", "tags_daily") else None,
                    description=description,
                )
            )
    return found


def _open_window(account: Account, job: AccountJob, plan: WindowPlan) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{account.slug}_open_window",
        job=job,
        cron_schedule=f"*/{POLL_MINUTES} * * * *",
        execution_timezone=account.timezone,
        description=f"Every {POLL_MINUTES} minutes: syncs the open window, so that today's changes arrive today.",
    )
    def open_window(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        now = context.scheduled_execution_time.astimezone(UTC)
        today = account.today(now)
        return _run_request(job, now, plan.between(today, today, now)[-1:])

    return open_window


def _trailing(
    account: Account, job: AccountJob, plan: WindowPlan, days: int, minute: int = MINUTES_AFTER_CLOSE
) -> dg.ScheduleDefinition:
    latest = f"the last {counted(days, 'day')} and " if days else ""

    @dg.schedule(
        name=f"{job.name}_{'hourly' if plan.unit == 'hour' else 'daily'}",
        job=job,
        cron_schedule=f"{minute} {'*' if plan.unit == 'hour' else '0'} * * *",
        execution_timezone=account.timezone,
        description=(f"Syncs {latest}the open window in one run, to pick up data that Klaviyo adds late or restates."),
    )
    def trailing(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        now = context.scheduled_execution_time.astimezone(UTC)
        today = account.today(now)
        return _run_request(job, now, plan.between(today - timedelta(days=days), today, now))

    return trailing


def _run_request(job: AccountJob, now: datetime, windows: Sequence[Window]) -> dg.RunRequest:
    """The request for a run of these windows: in one process, if the job has the executor `concurrently`."""
    config = IN_ONE_PROCESS if job.executor_def is concurrently else {}
    return dg.RunRequest(run_key=now.isoformat(), run_config=config, tags=range_tags(windows) | SCHEDULED)
