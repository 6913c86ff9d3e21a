"""Schedules of an account: after each window closes, one run syncs the trailing windows again.

All are off until you switch them on in the UI.
"""

from collections.abc import Sequence
from datetime import UTC, timedelta

import dagster as dg

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.job_types import AccountJob
from klaviyo_pipeline.orchestration.jobs import CALENDAR_PERIODS, SCHEDULED
from klaviyo_pipeline.windows import WindowPlan, entity_windows, range_tags, report_windows

POLL_MINUTES = 15

MINUTES_AFTER_CLOSE = 10
"""Klaviyo rejects requests for the last seconds, and midnight is when most clients send theirs."""


def account_schedules(account: Account, jobs: Sequence[AccountJob]) -> list[dg.ScheduleDefinition]:
    """The schedules of one account: entities once a window, reports and the census once a day."""
    by_name = {job.name: job for job in jobs}
    days = account.lookback_days
    report_days = max(days, account.attribution_days)
    return [
        _trailing(account, by_name[f"{account.slug}_entities"], entity_windows(account), days),
        _trailing(account, by_name[f"{account.slug}_reports"], report_windows(account), report_days),
        *(
            # Later, because it uses the same daily quota and rates as the daily reports.
            _trailing(
                account, by_name[f"{account.slug}_reports_{name}"], report_windows(account, period), report_days, 30
            )
            for name, period in CALENDAR_PERIODS.items()
        ),
        _open_window(account, by_name[f"{account.slug}_entities"], entity_windows(account)),
        dg.ScheduleDefinition(
            name=f"{account.slug}_census_daily",
            job=by_name[f"{account.slug}_census"],
            cron_schedule="40 2 * * *",
            execution_timezone=account.timezone,
            tags=SCHEDULED,
            description="Once a day: lists every object of every entity, with its tags.",
        ),
        dg.ScheduleDefinition(
            # Separate from the censuses: an account's API key may lack the scope tags:read.
            name=f"{account.slug}_tags_daily",
            job=by_name[f"{account.slug}_tags"],
            cron_schedule="10 3 * * *",
            execution_timezone=account.timezone,
            tags=SCHEDULED,
            description="Once a day: lists every tag and its name. Requires the scope tags:read.",
        ),
        dg.ScheduleDefinition(
            name=f"{account.slug}_checks_daily",
            job=by_name[f"{account.slug}_checks"],
            cron_schedule="20 3 * * *",
            execution_timezone=account.timezone,
            description="Once a day: runs every check that reads only Postgres, whether or not an asset ran.",
        ),
        dg.ScheduleDefinition(
            name=f"{account.slug}_reconcile_weekly",
            job=by_name[f"{account.slug}_reconcile"],
            cron_schedule="40 3 * * 0",
            execution_timezone=account.timezone,
            description="Once a week: compares Postgres with what Klaviyo's API returns now.",
        ),
        dg.ScheduleDefinition(
            name=f"{account.slug}_prune_weekly",
            job=by_name[f"{account.slug}_prune"],
            cron_schedule="20 4 * * 0",
            execution_timezone=account.timezone,
            description=f"Once a week: deletes the logs of runs older than {account.retention_days} days.",
        ),
    ]


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
        return dg.RunRequest(run_key=now.isoformat(), tags=range_tags(plan.between(today, today, now)[-1:]) | SCHEDULED)

    return open_window


def _trailing(
    account: Account, job: AccountJob, plan: WindowPlan, days: int, minute: int = MINUTES_AFTER_CLOSE
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{job.name}_{'hourly' if plan.unit == 'hour' else 'daily'}",
        job=job,
        cron_schedule=f"{minute} {'*' if plan.unit == 'hour' else '0'} * * *",
        execution_timezone=account.timezone,
        description=(
            f"Syncs the last {days} days and the open window in one run, to pick up data that Klaviyo adds late or "
            "restates."
        ),
    )
    def trailing(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        now = context.scheduled_execution_time.astimezone(UTC)
        today = account.today(now)
        windows = plan.between(today - timedelta(days=days), today, now)
        return dg.RunRequest(run_key=now.isoformat(), tags=range_tags(windows) | SCHEDULED)

    return trailing
