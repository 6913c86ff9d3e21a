"""A run whose process died after its last step, and before it could say that the run has ended.

Dagster would call it failed, and then refuse to start it again: "No steps needed to be retried in the failed run."
"""

from __future__ import annotations

import dagster as dg
from dagster import DagsterEvent, DagsterEventType
from dagster._core.execution.stats import StepEventStatus


def finalize_if_steps_succeeded(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether every step of the dead run has succeeded; if so, and if it could not say so itself, it is said now.

    A step says that it has succeeded after its tables are committed and its materializations stored.
    """
    now = instance.get_run_by_id(run.run_id)
    if now is None or now.is_finished:
        return now is not None and now.is_success
    planned = _planned(instance, run)
    steps = instance.get_run_step_stats(run.run_id)
    done = {step.step_key for step in steps if step.status is StepEventStatus.SUCCESS}
    if not planned or planned - done:
        return False
    message = "The run's process died after its last step had succeeded: nothing is left to do."
    instance.report_dagster_event(
        DagsterEvent(DagsterEventType.RUN_SUCCESS.value, run.job_name, message=message), run.run_id
    )
    return True


def _planned(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    if run.execution_plan_snapshot_id is None:
        return set()
    return set(instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute)
