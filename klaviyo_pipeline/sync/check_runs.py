"""Runs an account's checks through Dagster, so that the UI shows their results."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterInstance

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.storage import without_output_capture
from klaviyo_pipeline.orchestration.build import project_defs
from klaviyo_pipeline.orchestration.checks.check import Outcome
from klaviyo_pipeline.orchestration.checks.checks_job import checks_job
from klaviyo_pipeline.orchestration.jobs import ACCOUNT_TAG, SILENT
from klaviyo_pipeline.orchestration.resources.account_resources import account_resources
from klaviyo_pipeline.orchestration.step_errors import step_errors
from klaviyo_pipeline.postgres.warehouse import Warehouse


@dataclass(frozen=True)
class Checked:
    """The result of one check of one asset."""

    asset: str
    check: str
    outcome: Outcome
    found: str


class CheckBroken(RuntimeError):
    """A check could not run. The message says why."""


def run_checks(account: Account, instance: DagsterInstance, *, api: bool = False) -> list[Checked]:
    """Run the checks that read Postgres and, with `api`, the API checks. Return the results by asset and check.

    Raises `CheckBroken` if a check could not run.
    """
    with without_output_capture():
        runs = [
            job.execute_in_process(instance=instance, run_config=SILENT, raise_on_error=False)
            for job in _jobs(account, api=api)
        ]
    results = [_checked(evaluation) for run in runs for evaluation in run.get_asset_check_evaluations()]
    for run in runs:
        _raise_if_broken(run)
    return sorted(results, key=lambda result: (result.asset, result.check))


def have_run(account: Account, instance: DagsterInstance) -> bool:
    """Whether the instance has a run of the checks that read Postgres, of any status."""
    job = checks_job(account, {}, None)
    return bool(instance.get_runs(dg.RunsFilter(job_name=job.name), limit=1))


def _jobs(account: Account, *, api: bool) -> Iterator[dg.JobDefinition]:
    job = checks_job(account, {ACCOUNT_TAG: account.slug}, dg.in_process_executor)
    warehouse = Warehouse.of([account])
    # These definitions have only one job, because building those of a whole account takes longer than its checks.
    yield dg.Definitions(jobs=[job], resources=account_resources(account, warehouse)).resolve_job_def(job.name)
    if api:
        yield project_defs([account], warehouse).resolve_job_def(f"{account.slug}_reconcile")


def outcome_of(evaluation: dg.AssetCheckEvaluation) -> Outcome:
    """The outcome of an evaluation: a failed check is a warning or an error, by its severity."""
    if evaluation.passed:
        return "passed"
    return "warning" if evaluation.severity == dg.AssetCheckSeverity.WARN else "error"


def _checked(evaluation: dg.AssetCheckEvaluation) -> Checked:
    return Checked(
        evaluation.asset_key.path[-1], evaluation.check_name, outcome_of(evaluation), evaluation.description or ""
    )


def _raise_if_broken(run: dg.ExecuteInProcessResult) -> None:
    """Raise `CheckBroken` if a step failed for any other reason than a blocking check that found an error."""
    for event in run.all_events:
        errors = step_errors(event) if event.is_step_failure else []
        if errors and errors[-1].class_name != "DagsterAssetCheckFailedError":
            raise CheckBroken(f"{event.step_key}: {errors[-1].text}")
