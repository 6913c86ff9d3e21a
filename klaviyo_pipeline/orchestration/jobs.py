"""Jobs over an account's assets, for the UI and the schedules.

All assets of a job have the same partitions, or none, so that you can launch the job for a range of windows. A job of
several assets runs each asset in its own process, and independent assets concurrently. If a schedule launches the job
for recent windows, its assets run one after the other in one process. The pacing in Postgres keeps all processes
together within Klaviyo's rate limits.
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
"""Tag of each run of a job or of `sync`: the account's slug. The run queue uses it to limit the runs of an account."""

SCHEDULED = {"dagster/priority": "10"}
"""Tags of a scheduled sync, which leaves the run queue before all other runs. A backfill has priority 0."""

CATCHING_UP = {"dagster/priority": "5"}
"""Tags of a run that syncs missing windows. It leaves the run queue after scheduled syncs and before backfills."""

SILENT: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""The config of a run in this process that prints nothing to the console."""

CALENDAR_PERIODS: Mapping[str, Period] = {"weekly": "week", "monthly": "month"}
"""The periods of the weekly and monthly reports, by the last word in the names of their jobs."""

IN_ONE_PROCESS: dict[str, Any] = {"execution": {"config": {"in_process": True}}}
"""The config of a run that executes the assets of its job one after the other in one process. For a few recent windows,
starting a process for each step takes longer than the requests to Klaviyo."""


@dg.configured(
    dg.multi_or_in_process_executor,
    {
        "in_process": dg.Field(
            bool,
            default_value=False,
            description="Run the assets one after the other in the run's process, instead of each in its own process.",
        )
    },
)
def concurrently(config: Mapping[str, bool]) -> dict[str, Any]:
    """The executor of a job of several assets: a process for each step or, with `in_process`, one for all steps."""
    return {"in_process": {}} if config["in_process"] else {"multiprocess": IN_PROCESSES}


@dataclass(frozen=True)
class JobSpec:
    """A job as data, with the names of its assets."""

    name: str
    assets: Sequence[str]
    description: str


def own_job(account: Account, asset: str) -> str:
    """The name of the job that syncs only this asset."""
    return f"{account.slug}_{asset}"


def job_specs(account: Account, *, single_account: bool = True) -> list[JobSpec]:
    """Every asset job of an account, with the assets that the account has. A job without assets is left out. With
    hourly windows, entities and reports have different partitions, so there is no job over all assets.

    With several accounts (`single_account` is false), jobs of a single asset are left out, except the job of the tags,
    which has a schedule. Jobs of single assets take most of the time in which the definitions are loaded. They are not
    necessary, because a run of a larger job can select one asset.
    """
    slug, on = account.slug, switched_on(account.assets)
    single = (*ENTITIES, *LISTED_IN_FULL, TAGS.entity, *FIGURES) if single_account else (TAGS.entity,)
    specs = [JobSpec(own_job(account, name), [name], f"Syncs {name} only.") for name in single]
    specs += [
        JobSpec(f"{slug}_entities", tuple(ENTITIES), "Syncs the windows of every entity concurrently."),
        JobSpec(
            f"{slug}_reports", figures_by("day"), "Syncs the daily reports and conversions, then computes the metrics."
        ),
        *(
            JobSpec(
                f"{slug}_reports_{name}", figures_by(period), f"Syncs the {name} report, then computes its metrics."
            )
            for name, period in CALENDAR_PERIODS.items()
        ),
        JobSpec(
            f"{slug}_census",
            (*ENTITY_CENSUSES, *LISTED_IN_FULL),
            "Lists every object of every entity, with its tags. This finds changes and deletes that sync windows miss.",
        ),
    ]
    if entity_windows(account).unit == report_windows(account).unit:
        specs.append(
            JobSpec(
                f"{slug}_all",
                (*ENTITIES, *figures_by("day")),
                "Syncs the entities concurrently, then the daily reports and conversions, then computes the metrics.",
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
    """The Dagster jobs of one account: the asset jobs of `job_specs` and, with `checks`, the jobs that only run checks.

    An asset job also runs the checks of its assets, except those that call Klaviyo's API. Without `own_executors`, the
    jobs use the executor of the definitions that contain them.
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
                    "Runs the checks that call Klaviyo's API. They list every entity in full, and use at least one "
                    "request of the daily quota for each daily report."
                ),
                tags=tags,
                executor_def=in_process,
            )
        )
    return jobs


def pruning_job(account: Account) -> AccountJob:
    """The job that deletes old logs from Dagster's storage and old operational records from the account's schema."""
    return prune_job(account, {ACCOUNT_TAG: account.slug}, access_key(account))
