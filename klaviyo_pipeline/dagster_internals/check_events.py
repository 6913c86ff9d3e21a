"""Records the evaluations of many checks of a step in one batch.

Dagster itself stores each evaluation in several statements, and looks up the asset's latest materialization each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg
from dagster import DagsterEvent, DagsterEventType, DagsterInstance
from dagster._core.events import DagsterEventBatchMetadata

from klaviyo_pipeline.dagster_internals.batches import stores_batches

try:
    from dagster._core.definitions.asset_checks.asset_check_evaluation import (
        AssetCheckEvaluationTargetMaterializationData as CheckTarget,
    )
except ModuleNotFoundError:  # Dagster before 1.11.2
    from dagster._core.definitions.asset_check_evaluation import (  # type: ignore[no-redef, import-not-found]
        AssetCheckEvaluationTargetMaterializationData as CheckTarget,
    )

CheckEvent = DagsterEvent | dg.AssetCheckEvaluation


def check_targets(instance: DagsterInstance, keys: Iterable[dg.AssetKey]) -> Mapping[dg.AssetKey, CheckTarget]:
    """The latest materialization of each asset, for its checks. Assets that were never materialized are left out."""
    targets = {}
    for record in instance.get_asset_records(list(keys)):
        latest = record.asset_entry.last_materialization_record
        if latest is not None:
            targets[record.asset_entry.asset_key] = CheckTarget(
                storage_id=latest.storage_id, run_id=latest.run_id, timestamp=latest.timestamp
            )
    return targets


def recorded(context: dg.OpExecutionContext, evaluations: Sequence[dg.AssetCheckEvaluation]) -> Iterator[CheckEvent]:
    """The events that the step must yield for these evaluations. If possible, they have been stored in one batch.

    The exception is a failed blocking check of severity ERROR. It is yielded as an evaluation, so that Dagster stores
    it, and fails the step at the end.
    """
    failing = [one for one in evaluations if one.blocking and not one.passed and one.severity == _ERROR]
    others = [one for one in evaluations if one not in failing]
    batched = stores_batches(context.instance)
    step = context.get_step_execution_context()
    yield from [
        DagsterEvent.from_step(
            DagsterEventType.ASSET_CHECK_EVALUATION,
            step,
            evaluation,
            _message(evaluation),
            batch_metadata=DagsterEventBatchMetadata(context.run_id, number == len(others)) if batched else None,
        )
        for number, evaluation in enumerate(others, 1)
    ]
    yield from failing


def _message(evaluation: dg.AssetCheckEvaluation) -> str:
    """The line in the run's log, as Dagster writes it."""
    outcome = "passed." if evaluation.passed else "did not pass."
    found = "" if evaluation.description is None else f" Description: '{evaluation.description}'"
    return f"Asset check '{evaluation.check_name}' on '{evaluation.asset_key.to_user_string()}' {outcome}{found}"


_ERROR = dg.AssetCheckSeverity.ERROR
