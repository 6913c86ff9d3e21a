"""Running every check at once, through Dagster, so that the results stand in the UI too."""

from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster import DagsterInstance

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.orchestration.build import build_defs
from klaviyo_pipeline.orchestration.checks.check import Outcome

SILENT: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Checked:
    """What one check of one asset came to."""

    asset: str
    check: str
    outcome: Outcome
    found: str


class CheckBroken(RuntimeError):
    """A check could not be carried out; the message says why."""


def run_checks(account: Account, *, ask: bool = False) -> list[Checked]:
    """Run the checks that read Postgres and, with `ask`, those that ask Klaviyo; by asset, in order of name.

    Raises `CheckBroken` where one could not be carried out.
    """
    definitions = build_defs([account])
    names = [f"{account.slug}_checks", *([f"{account.slug}_reconcile"] if ask else [])]
    with DagsterInstance.get() as instance:
        runs = [
            definitions.resolve_job_def(name).execute_in_process(
                instance=instance, run_config=SILENT, raise_on_error=False
            )
            for name in names
        ]
    found = [_checked(one) for run in runs for one in run.get_asset_check_evaluations()]
    for run in runs:
        _refuse_broken(run)
    return sorted(found, key=lambda one: (one.asset, one.check))


def outcome_of(evaluation: dg.AssetCheckEvaluation) -> Outcome:
    """The outcome that an evaluation stands for."""
    if evaluation.passed:
        return "passed"
    return "warning" if evaluation.severity == dg.AssetCheckSeverity.WARN else "error"


def _checked(evaluation: dg.AssetCheckEvaluation) -> Checked:
    return Checked(
        evaluation.asset_key.path[-1], evaluation.check_name, outcome_of(evaluation), evaluation.description or ""
    )


def _refuse_broken(run: dg.ExecuteInProcessResult) -> None:
    """A step fails where a blocking check comes to an error, which is no trouble of the check's."""
    for event in run.all_events:
        if not event.is_step_failure:
            continue
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None and error.cls_name != "DagsterAssetCheckFailedError":
            raise CheckBroken(f"{event.step_key}: {error.message.partition(': ')[2].strip() or error.message}")
