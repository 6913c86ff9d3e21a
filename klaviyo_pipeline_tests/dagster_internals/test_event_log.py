"""The event log over many windows: a batch stores the same as Dagster's own event log."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from klaviyo_pipeline.dagster_internals.check_events import check_targets, recorded
from klaviyo_pipeline.dagster_internals.event_log import BatchedEventLogStorage
from klaviyo_pipeline_tests.support import recorded_pipeline

in_batches = pytest.mark.skipif(
    not BatchedEventLogStorage.stores_batches, reason="this Dagster has no methods to store a batch; events are single"
)
DAYS = dg.DailyPartitionsDefinition("2025-03-01", end_date="2025-03-11")
RANGE = {"dagster/asset_partition_range_start": "2025-03-01", "dagster/asset_partition_range_end": "2025-03-10"}
STORED = {
    "events": """
        SELECT dagster_event_type, asset_key, partition, step_key,
            event::jsonb #> '{dagster_event,event_specific_data}' #>> '{partition}'
        FROM event_logs WHERE run_id = :run_id AND dagster_event_type LIKE 'ASSET_MATERIALIZATION%'
        ORDER BY dagster_event_type, asset_key, id""",
    "tags": """
        SELECT partition, key, CASE WHEN key <> 'dagster/data_version' THEN value END
        FROM asset_event_tags JOIN event_logs ON event_logs.id = event_id
        WHERE run_id = :run_id ORDER BY event_id, key""",
    "latest": """
        SELECT asset_key, last_run_id = :run_id FROM asset_keys ORDER BY asset_key""",
    "planned checks": """
        SELECT event::jsonb #> '{dagster_event,event_specific_data}', step_key FROM event_logs
        WHERE run_id = :run_id AND dagster_event_type = 'ASSET_CHECK_EVALUATION_PLANNED' ORDER BY id""",
    "executions": """
        SELECT asset_key, check_name, partition, execution_status FROM asset_check_executions
        WHERE run_id = :run_id ORDER BY id""",
}


@dg.multi_asset(
    specs=[dg.AssetSpec("a"), dg.AssetSpec("b")], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run()
)
def both() -> Iterator[Any]:
    for name in ("a", "b"):
        yield dg.MaterializeResult(name, metadata={"rows": 1}, tags={"colour": "blue"})


@dg.multi_asset_check(specs=[dg.AssetCheckSpec(name, asset=asset) for asset in ("a", "b") for name in ("x", "y")])
def checked() -> Iterator[dg.AssetCheckResult]:
    for asset in ("a", "b"):
        yield dg.AssetCheckResult(asset_key=asset, check_name="x", passed=asset == "a")
        yield dg.AssetCheckResult(asset_key=asset, check_name="y", passed=True)


@pytest.fixture
def instance(recordable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    with recorded_pipeline(recordable, tmp_path, monkeypatch) as pipeline:
        yield pipeline.instance


def left_by_a_run(instance: dg.DagsterInstance) -> dict[str, list[Any]]:
    """The event log of a run of `both` over ten days, and of its checks."""
    definitions = dg.Definitions(assets=[both], asset_checks=[checked], jobs=[dg.define_asset_job("all", "*")])
    job = definitions.resolve_job_def("all")
    run_id = job.execute_in_process(instance=instance, tags=RANGE).run_id
    storage = instance.event_log_storage
    assert isinstance(storage, BatchedEventLogStorage)
    with storage.index_connection() as connection:
        return {
            name: [tuple(row) for row in connection.execute(sa.text(query), {"run_id": run_id})]
            for name, query in STORED.items()
        }


def test_events_of_many_windows_are_stored_as_dagsters_own_log_does(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = left_by_a_run(instance)
    latest = instance.get_latest_materialization_event(dg.AssetKey("a"))
    assert latest is not None
    assert latest.asset_materialization is not None
    assert latest.asset_materialization.partition == "2025-03-10"
    assert instance.get_materialized_partitions(dg.AssetKey("a")) == set(DAYS.get_partition_keys())
    with monkeypatch.context() as dagsters:
        dagsters.delattr(BatchedEventLogStorage, "store_event_batch")
        theirs = left_by_a_run(instance)
    theirs["executions"] = [one for one in theirs["executions"] if one[3] != "PLANNED"]
    assert ours == theirs, "except that Dagster plans each check for each window"
    assert len(ours["events"]) == 40
    assert ours["latest"] == [(f'["{name}"]', True) for name in ("a", "b")]
    assert len(ours["planned checks"]) == 4
    assert [one[3] for one in ours["executions"]] == ["SUCCEEDED", "SUCCEEDED", "FAILED", "SUCCEEDED"]


@in_batches
def test_a_run_over_many_windows_stores_its_events_in_one_statement_for_each_type(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    engine = instance.event_log_storage._engine  # type: ignore[attr-defined]
    sa.event.listen(engine, "before_cursor_execute", lambda *reported: sent.append(reported[2]))
    left_by_a_run(instance)
    several = [one for one in sent if one.startswith("INSERT INTO event_logs") and "sen_counter" in one]
    # One for the planned events of both assets, one for the planned checks, and one for the materializations of each.
    assert len(several) == 4


@in_batches
def test_a_batch_that_fails_halfway_stores_no_event_twice(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores_one = BatchedEventLogStorage._store_asset_event_tags

    def fails(storage: BatchedEventLogStorage, connection: Any, events: Sequence[Any], ids: Sequence[int]) -> None:
        if len(events) > 1:
            raise ConnectionError("gone")
        stores_one(storage, connection, events, ids)

    monkeypatch.setattr(BatchedEventLogStorage, "_store_asset_event_tags", fails)
    assert len(left_by_a_run(instance)["events"]) == 40


@in_batches
def test_assets_are_locked_in_one_order_whatever_the_order_of_their_events(instance: dg.DagsterInstance) -> None:
    left_by_a_run(instance)
    storage = instance.event_log_storage
    assert isinstance(storage, BatchedEventLogStorage)
    kept = storage.get_logs_for_run(instance.get_runs()[0].run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    locked: list[Any] = []
    sa.event.listen(
        storage._engine,
        "before_cursor_execute",
        lambda *reported: locked.append(reported[3]["asset_key"]) if "INTO asset_keys" in reported[2] else None,
    )
    for events in (kept, kept[::-1]):
        storage.store_event_batch(events)
    assert locked == ['["a"]', '["b"]'] * 2


EVALUATIONS = {
    "events": """
        SELECT dagster_event_type, asset_key, step_key, event::jsonb #>> '{dagster_event,message}',
            event::jsonb #> '{dagster_event,event_specific_data}'
        FROM event_logs WHERE run_id = :run_id AND dagster_event_type = 'ASSET_CHECK_EVALUATION' ORDER BY id""",
    "executions": """
        SELECT asset_key, check_name, execution_status, partition, materialization_event_storage_id,
            evaluation_event::jsonb #> '{dagster_event,event_specific_data}',
            abs(extract(epoch FROM evaluation_event_timestamp) - (evaluation_event::jsonb ->> 'timestamp')::float)
                < 0.01,
            (SELECT event FROM event_logs WHERE id = evaluation_event_storage_id) = evaluation_event
        FROM asset_check_executions WHERE run_id = :run_id ORDER BY id""",
}


@dg.op(out=dg.Out(dg.Nothing))
def examined(context: dg.OpExecutionContext) -> Iterator[Any]:
    keys = [dg.AssetKey("a"), dg.AssetKey("never_materialized")]
    targets = check_targets(context.instance, keys)
    evaluations = [
        dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=name,
            passed=name == "passes",
            description="what it found" if name == "fails" else None,
            target_materialization_data=targets.get(key),
        )
        for key in keys
        for name in ("passes", "fails")
    ]
    yield from recorded(context, evaluations)
    yield dg.Output(None)


@in_batches
def test_evaluations_of_checks_are_stored_together_as_dagsters_own_log_does(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.job(executor_def=dg.in_process_executor)
    def checks() -> None:
        examined()

    left_by_a_run(instance)
    storage = instance.event_log_storage
    assert isinstance(storage, BatchedEventLogStorage)
    sent: list[str] = []
    sa.event.listen(storage._engine, "before_cursor_execute", lambda *reported: sent.append(reported[2]))

    def left() -> dict[str, list[Any]]:
        run = checks.execute_in_process(instance=instance)
        assert [one.passed for one in run.get_asset_check_evaluations()] == [True, False] * 2
        with storage.index_connection() as connection:
            return {
                name: [tuple(row) for row in connection.execute(sa.text(query), {"run_id": run.run_id})]
                for name, query in EVALUATIONS.items()
            }

    ours = left()
    assert len([one for one in sent if "INTO asset_check_executions" in one]) == 1
    with monkeypatch.context() as dagsters:
        dagsters.delenv("DAGSTER_EVENT_BATCH_SIZE")
        assert left() == ours
    assert len(ours["executions"]) == 4
    history = storage.get_asset_check_execution_history(dg.AssetCheckKey(dg.AssetKey("a"), "fails"), limit=5)
    assert [one.status.value for one in history] == ["FAILED", "FAILED"]
