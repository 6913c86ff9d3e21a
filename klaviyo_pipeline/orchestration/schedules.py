"""Schedules: the trailing windows of an account, asked again as one range run after each window's close.

All are off until switched on in the UI.
"""

from collections.abc import Sequence
from datetime import UTC, timedelta

import dagster as dg

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.job_types import AccountJob
from klaviyo_pipeline.orchestration.jobs import SCHEDULED
from klaviyo_pipeline.windows import WindowPlan, entity_windows, range_tags, report_windows

POLL_MINUTES = 15

MINUTES_AFTER_CLOSE = 10
"""Klaviyo refuses to be asked about the last seconds, and midnight is when everybody asks."""


def account_schedules(account: Account, jobs: Sequence[AccountJob]) -> list[dg.ScheduleDefinition]:
    """The schedules of one account: entities by their window, reports and the census by day."""
    by_name = {job.name: job for job in jobs}
    days = account.lookback_days
    report_days = max(days, account.attribution_days)
    return [
        _trailing(account, by_name[f"{account.slug}_entities"], entity_windows(account), days),
        _trailing(account, by_name[f"{account.slug}_reports"], report_windows(account), report_days),
        _open_window(account, by_name[f"{account.slug}_entities"], entity_windows(account)),
        dg.ScheduleDefinition(
            name=f"{account.slug}_census_daily",
            job=by_name[f"{account.slug}_census"],
            cron_schedule="40 2 * * *",
            execution_timezone=account.timezone,
            tags=SCHEDULED,
            description="A full listing of every entity, with the tags of its objects, once a day.",
        ),
        dg.ScheduleDefinition(
            # Not with the censuses: the key of an account may lack the scope of the tags.
            name=f"{account.slug}_tags_daily",
            job=by_name[f"{account.slug}_tags"],
            cron_schedule="10 3 * * *",
            execution_timezone=account.timezone,
            tags=SCHEDULED,
            description="Every tag's name, once a day. Needs the scope tags:read.",
        ),
        dg.ScheduleDefinition(
            name=f"{account.slug}_checks_daily",
            job=by_name[f"{account.slug}_checks"],
            cron_schedule="20 3 * * *",
            execution_timezone=account.timezone,
            description="Every check that reads Postgres alone, once a day, whether or not an asset ran.",
        ),
        dg.ScheduleDefinition(
            name=f"{account.slug}_reconcile_weekly",
            job=by_name[f"{account.slug}_reconcile"],
            cron_schedule="40 3 * * 0",
            execution_timezone=account.timezone,
            description="Postgres against what Klaviyo shows now, once a week.",
        ),
        dg.ScheduleDefinition(
            name=f"{account.slug}_prune_weekly",
            job=by_name[f"{account.slug}_prune"],
            cron_schedule="20 4 * * 0",
            execution_timezone=account.timezone,
            description=f"Removes logs of runs that are older than {account.retention_days} days, once a week.",
        ),
    ]


def _open_window(account: Account, job: AccountJob, plan: WindowPlan) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{account.slug}_open_window",
        job=job,
        cron_schedule=f"*/{POLL_MINUTES} * * * *",
        execution_timezone=account.timezone,
        description=f"The open window every {POLL_MINUTES} minutes, for those who want today's changes today.",
    )
    def open_window(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        now = context.scheduled_execution_time.astimezone(UTC)
        today = account.today(now)
        return dg.RunRequest(run_key=now.isoformat(), tags=range_tags(plan.between(today, today, now)[-1:]) | SCHEDULED)

    return open_window


def _trailing(account: Account, job: AccountJob, plan: WindowPlan, days: int) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{job.name}_{'daily' if plan.daily else 'hourly'}",
        job=job,
        cron_schedule=f"{MINUTES_AFTER_CLOSE} {'0' if plan.daily else '*'} * * *",
        execution_timezone=account.timezone,
        description=(
            f"The last {days} days and the open window as one run: what Klaviyo shows late, or changes after the "
            "day, comes in."
        ),
    )
    def trailing(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        now = context.scheduled_execution_time.astimezone(UTC)
        today = account.today(now)
        windows = plan.between(today - timedelta(days=days), today, now)
        return dg.RunRequest(run_key=now.isoformat(), tags=range_tags(windows) | SCHEDULED)

    return trailing
