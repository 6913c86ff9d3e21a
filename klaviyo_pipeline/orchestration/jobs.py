"""Jobs over an account's assets, for the UI and the schedules.

All assets of a job have the same partitions, so that you can choose a range of windows for the job. In a job of
several assets, the entities run concurrently, each in its own process. They share the pacing in Postgres, so they
stay within Klaviyo's rate limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from klaviyo_pipeline.catalog import DAILY_ASSETS, ENTITIES, ENTITY_CENSUSES
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.job_types import AccountJob
from klaviyo_pipeline.klaviyo.tags import TAGS
from klaviyo_pipeline.maintenance.prune_job import prune_job
from klaviyo_pipeline.orchestration.checks.build_checks import api_check_keys, database_check_keys
from klaviyo_pipeline.windows import entity_windows, report_windows

ACCOUNT_TAG = "klaviyo/account"
"""Tag of every run. The run queue uses it to limit how many runs of one account run at once."""

SCHEDULED = {"dagster/priority": "10"}
"""Tags of a scheduled run: in the queue it goes before all others; a backfill has priority 0."""

CATCHING_UP = {"dagster/priority": "5"}
"""Tags of a run that syncs missing windows: after scheduled runs, before a backfill."""

CONCURRENTLY = dg.multiprocess_executor.configured({"max_concurrent": len(ENTITIES)})


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
    """Every asset job of an account. With hourly windows, entities and reports have different partitions, so there is
    no job over all assets.

    Jobs of a single asset are built only for a `single_account`, except that of the tags, which has a schedule. With
    many accounts they would take most of the loading time, and a run can select one asset of a larger job instead.
    """
    slug = account.slug
    single = (*ENTITIES, TAGS.entity, *DAILY_ASSETS) if single_account else (TAGS.entity,)
    specs = [JobSpec(own_job(account, name), [name], f"Syncs {name} only.") for name in single]
    specs += [
        JobSpec(f"{slug}_entities", tuple(ENTITIES), "Syncs flows, campaigns, forms and segments concurrently."),
        JobSpec(f"{slug}_reports", DAILY_ASSETS, "Syncs every report, then computes its metrics."),
        JobSpec(
            f"{slug}_census",
            tuple(ENTITY_CENSUSES),
            "Lists every object of every entity, with its tags, and repairs what sync windows cannot detect.",
        ),
    ]
    if entity_windows(account).daily == report_windows(account).daily:
        specs.append(
            JobSpec(
                f"{slug}_all",
                (*ENTITIES, *DAILY_ASSETS),
                "Syncs the entities concurrently, then the reports and the metrics.",
            )
        )
    return specs


def account_jobs(account: Account, *, single_account: bool = True) -> list[AccountJob]:
    """Dagster's jobs of one account: those of `job_specs`, each with its assets' checks except the API checks; the
    jobs that only run checks; and the pruning job."""
    tags = {ACCOUNT_TAG: account.slug}
    api_checks = dg.AssetSelection.checks(*api_check_keys(account))
    return [
        *(
            dg.define_asset_job(
                spec.name,
                selection=dg.AssetSelection.assets(*([account.slug, asset] for asset in spec.assets)) - api_checks,
                description=spec.description,
                tags=tags,
                executor_def=CONCURRENTLY if len(spec.assets) > 1 else dg.in_process_executor,
            )
            for spec in job_specs(account, single_account=single_account)
        ),
        dg.define_asset_job(
            f"{account.slug}_checks",
            selection=dg.AssetSelection.checks(*database_check_keys(account)),
            description="Runs every check that reads only Postgres: whether the data is complete, plausible and fresh.",
            tags=tags,
            executor_def=dg.in_process_executor,
        ),
        dg.define_asset_job(
            f"{account.slug}_reconcile",
            selection=api_checks,
            description=(
                "Runs the checks that call Klaviyo's API. They list every entity in full and use one request of the "
                "daily quota for each report."
            ),
            tags=tags,
            executor_def=dg.in_process_executor,
        ),
        prune_job(account, tags),
    ]
