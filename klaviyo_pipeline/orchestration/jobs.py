"""Jobs over an account's assets, for the UI and the schedules.

A job holds assets of one partitioning, so that a range of windows can be chosen for it. In the jobs of several
assets the entities run side by side, each in a process of its own; Postgres paces them, so that side by side is not
faster than Klaviyo allows.
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
"""Tag of every run, by which the queue keeps one account from taking every place."""

SCHEDULED = {"dagster/priority": "10"}
"""Tags of a run on a schedule: of the runs that wait for a place it goes first, before any backfill (0)."""

CATCHING_UP = {"dagster/priority": "5"}
"""Tags of a run that asks for what is missing: after the scheduled ones, before a backfill."""

CONCURRENTLY = dg.multiprocess_executor.configured({"max_concurrent": len(ENTITIES)})


@dataclass(frozen=True)
class JobSpec:
    """A job by the assets it holds."""

    name: str
    assets: Sequence[str]
    description: str


def own_job(account: Account, asset: str) -> str:
    """The name of the job of this asset alone."""
    return f"{account.slug}_{asset}"


def job_specs(account: Account, *, single_account: bool = True) -> list[JobSpec]:
    """Every job of an account. With hourly windows entities and reports are partitioned differently: no job of all.

    Unless it is the `single_account`, it has no job for one asset but the tags, which have a schedule: the others are
    most of all jobs, whose making is most of what many accounts cost. A run of a job may be of one of its assets.
    """
    slug = account.slug
    single = (*ENTITIES, TAGS.entity, *DAILY_ASSETS) if single_account else (TAGS.entity,)
    specs = [JobSpec(own_job(account, name), [name], f"{name} alone.") for name in single]
    specs += [
        JobSpec(f"{slug}_entities", tuple(ENTITIES), "Flows, campaigns, forms and segments, side by side."),
        JobSpec(f"{slug}_reports", DAILY_ASSETS, "Every report, then the metrics computed from it."),
        JobSpec(
            f"{slug}_census",
            tuple(ENTITY_CENSUSES),
            "A full listing of every entity, with the tags of its objects: heals what windows cannot see.",
        ),
    ]
    if entity_windows(account).daily == report_windows(account).daily:
        specs.append(
            JobSpec(
                f"{slug}_all",
                (*ENTITIES, *DAILY_ASSETS),
                "Entities side by side, then the reports and the metrics.",
            )
        )
    return specs


def account_jobs(account: Account, *, single_account: bool = True) -> list[AccountJob]:
    """The jobs of `job_specs` as Dagster's, each with its assets' checks but for those that ask Klaviyo; the checks
    alone; and the upkeep."""
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
            description="Every check that reads Postgres alone: whether what is there is whole, plausible and fresh.",
            tags=tags,
            executor_def=dg.in_process_executor,
        ),
        dg.define_asset_job(
            f"{account.slug}_reconcile",
            selection=api_checks,
            description=(
                "The checks that ask Klaviyo: a full listing of every entity, and one request of the daily quota for "
                "each report."
            ),
            tags=tags,
            executor_def=dg.in_process_executor,
        ),
        prune_job(account, tags),
    ]
