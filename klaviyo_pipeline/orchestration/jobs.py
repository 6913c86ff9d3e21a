"""Jobs over an account's assets, for the UI and the schedules.

All assets of a job have the same partitions, so that you can choose a range of windows for the job. In a job of
several assets, the entities run concurrently, each in its own process, unless a schedule starts it for a few days. They
share the pacing in Postgres, so they stay within Klaviyo's rate limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from klaviyo_pipeline.catalog import (
    ENTITIES,
    ENTITY_CENSUSES,
    FIGURES,
    LISTED_IN_FULL,
    Period,
    figures_by,
    switched_on,
)
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.job_types import AccountJob
from klaviyo_pipeline.dagster_internals.run_executor import IN_PROCESSES
from klaviyo_pipeline.klaviyo.tags import TAGS
from klaviyo_pipeline.maintenance.prune_job import prune_job
from klaviyo_pipeline.orchestration.checks.build_checks import api_check_keys, database_checks
from klaviyo_pipeline.orchestration.checks.checks_job import checks_job
from klaviyo_pipeline.orchestration.resources.account_resources import access_key
from klaviyo_pipeline.windows import entity_windows, report_windows

ACCOUNT_TAG = "klaviyo/account"
"""Tag of every run. The run queue uses it to limit how many runs of one account run at once."""

SCHEDULED = {"dagster/priority": "10"}
"""Tags of a scheduled run: in the queue it goes before all others; a backfill has priority 0."""

CATCHING_UP = {"dagster/priority": "5"}
"""Tags of a run that syncs missing windows: after scheduled runs, before a backfill."""

SILENT: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""The configuration of a run in this process that prints nothing."""

CALENDAR_PERIODS: Mapping[str, Period] = {"weekly": "week", "monthly": "month"}
"""The periods of reports whose values are not sums of days, by the word in the names of their jobs."""

IN_ONE_PROCESS: dict[str, Any] = {"execution": {"config": {"in_process": True}}}
"""The run config of a job of several assets that runs them one after the other. Loading each step again in a process of
its own takes more time than the requests of a day with little news."""


@dg.configured(
    dg.multi_or_in_process_executor,
    {
        "in_process": dg.Field(
            bool,
            default_value=False,
            description="Run the assets one after the other in the run's process, instead of each in its own.",
        )
    },
)
def concurrently(config: Mapping[str, bool]) -> dict[str, Any]:
    """The executor of a job of several assets."""
    return {"in_process": {}} if config["in_process"] else {"multiprocess": IN_PROCESSES}


@dataclass(frozen=True)
class JobSpec:
    """A job and its assets."""

    name: str
    assets: Sequence[str]
    description: str


def own_job(account: Account, asset: str) -> str:
    """The name of the job that has only this asset."""
    return f"{account.slug}_{asset}"


def job_specs(account: Account, *, single_account: bool = True) -> list[JobSpec]:
    """Every asset job of an account, with the assets that the account has. A job without assets is left out. With
    hourly windows, entities and reports have different partitions, so there is no job over all assets.

    Jobs of a single asset are built only for a `single_account`, except that of the tags, which has a schedule. With
    many accounts they would take most of the loading time, and a run can select one asset of a larger job instead.
    """
    slug, on = account.slug, switched_on(account.assets)
    single = (*ENTITIES, *LISTED_IN_FULL, TAGS.entity, *FIGURES) if single_account else (TAGS.entity,)
    specs = [JobSpec(own_job(account, name), [name], f"Syncs {name} only.") for name in single]
    specs += [
        JobSpec(f"{slug}_entities", tuple(ENTITIES), "Syncs the windows of every entity concurrently."),
        JobSpec(f"{slug}_reports", figures_by("day"), "Syncs every daily report, then computes its metrics."),
        *(
            JobSpec(
                f"{slug}_reports_{name}", figures_by(period), f"Syncs the {name} report, then computes its metrics."
            )
            for name, period in CALENDAR_PERIODS.items()
        ),
        JobSpec(
            f"{slug}_census",
            (*ENTITY_CENSUSES, *LISTED_IN_FULL),
            "Lists every object of every entity, with its tags, and repairs what sync windows cannot detect.",
        ),
    ]
    if entity_windows(account).unit == report_windows(account).unit:
        specs.append(
            JobSpec(
                f"{slug}_all",
                (*ENTITIES, *figures_by("day")),
                "Syncs the entities concurrently, then the daily reports and the metrics.",
            )
        )
    chosen = [replace(spec, assets=[asset for asset in spec.assets if asset in on]) for spec in specs]
    return [spec for spec in chosen if spec.assets]


def account_jobs(
    account: Account,
    *,
    single_account: bool = True,
    checks: bool = True,
    own_executors: bool = True,
) -> list[AccountJob]:
    """Dagster's jobs of one account: those of `job_specs`, each with its assets' checks except the API checks; and the
    jobs that only run checks, unless the account has no `checks`.

    Without `own_executors`, jobs have the executor of the definitions that they are part of.
    """
    tags = {ACCOUNT_TAG: account.slug}
    in_process = dg.in_process_executor if own_executors else None
    several = concurrently if own_executors else None
    api_keys = api_check_keys(account) if checks else []
    jobs: list[AccountJob] = []
    for spec in job_specs(account, single_account=single_account):
        selection: dg.AssetSelection = dg.AssetSelection.assets(*(account.asset_key(name) for name in spec.assets))
        jobs.append(
            dg.define_asset_job(
                spec.name,
                selection=selection - dg.AssetSelection.checks(*api_keys) if api_keys else selection,
                description=spec.description,
                tags=tags,
                executor_def=several if len(spec.assets) > 1 else in_process,
            )
        )
    if checks and database_checks(account):
        jobs.append(checks_job(account, tags, in_process))
    if api_keys:
        jobs.append(
            dg.define_asset_job(
                f"{account.slug}_reconcile",
                selection=dg.AssetSelection.checks(*api_keys),
                description=(
                    "Runs the checks that call Klaviyo's API. They list every entity in full and use one request of "
                    "the daily quota for each report."
                ),
                tags=tags,
                executor_def=in_process,
            )
        )
    return jobs


def pruning_job(account: Account) -> AccountJob:
    """The job that prunes this project's instance and the account's schema."""
    return prune_job(account, {ACCOUNT_TAG: account.slug}, access_key(account))
