"""Partitions in the UI: green exactly when the ledger has the window as synced, whatever happened in between."""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from klaviyo_pipeline.cli.main import cli
from klaviyo_pipeline.dagster_internals.partition_states import WINDOWED, Corrections, align_partitions
from klaviyo_pipeline.dagster_internals.steady_storage import SteadyEventLogStorage
from klaviyo_pipeline.diagnosis.dagster_access import check_partitions
from klaviyo_pipeline.orchestration.assets import metrics_assets
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.write.writer import Writer
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sync.instance_state import fill_new_instance
from klaviyo_pipeline.windows import entity_windows
from klaviyo_pipeline_tests.support import RANGE, SLUG, Pipeline, run_sync

pytestmark = pytest.mark.slow

DAYS = [f"2025-03-{day:02}" for day in range(8, 15)]
GREEN, RED, RUNNING, GREY = "MATERIALIZED", "FAILED", "IN_PROGRESS", None


def bar(pipeline: Pipeline, asset: str = "flows", instance: dg.DagsterInstance | None = None) -> list[str | None]:
    """The states of the days in the bar of the asset's page: the UI reads them from the same function."""
    shown = (instance or pipeline.instance).get_status_by_partition(
        dg.AssetKey([SLUG, asset]), DAYS, entity_windows(pipeline.account).definition
    )
    # An asset without any event has no states.
    return [status and status.value for status in ((shown or {}).get(day) for day in DAYS)]


def ledger(pipeline: Pipeline, asset: str = "flows") -> list[str | None]:
    """The states that the bar must have: green where the ledger has the window as synced."""
    synced = {day for day, status in pipeline.ledger(asset) if status == "synced"}
    return [GREEN if day in synced else GREY for day in DAYS]


def aligned(pipeline: Pipeline, instance: dg.DagsterInstance | None = None) -> Corrections:
    engine = create_engine(pipeline.database)
    try:
        return align_partitions(instance or pipeline.instance, pipeline.account, engine)
    finally:
        engine.dispose()


def break_down(pipeline: Pipeline, path: str = "/api/flows") -> None:
    pipeline.server.faults.add(path_starts(path), Fault(status=400), times=5)


def test_a_failed_second_attempt_leaves_synced_windows_green(installed: Pipeline) -> None:
    installed.run("flows", DAYS[0], DAYS[3])
    break_down(installed)
    installed.fail("flows", DAYS[0], DAYS[-1])
    assert bar(installed) == [*[GREEN] * 4, *[RED] * 3]
    assert aligned(installed) == Corrections()


def test_metrics_that_a_failed_report_kept_from_running_stay_green(installed: Pipeline) -> None:
    for asset in ("flow_report", "flow_metrics"):
        installed.run(asset, DAYS[0], DAYS[-1])
    break_down(installed, "/api/flow-series-reports")
    keys = {dg.AssetKey([SLUG, asset]) for asset in ("flow_report", "flow_metrics")}
    job = installed.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection=keys)
    tags = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]}
    ended = job.execute_in_process(instance=installed.instance, tags=tags, raise_on_error=False)
    assert not ended.success
    assert bar(installed, "flow_report") == bar(installed, "flow_metrics") == [GREEN] * len(DAYS)


def test_metrics_of_days_without_a_report_are_not_green(installed: Pipeline) -> None:
    installed.run("flow_report", DAYS[0], DAYS[1])
    installed.run("flow_metrics", DAYS[0], DAYS[-1])
    assert bar(installed, "flow_metrics") == ledger(installed, "flow_metrics") == [*[GREEN] * 2, *[GREY] * 5]


def test_windows_whose_process_died_between_commit_and_event_are_green_when_the_run_is_ended(
    installed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is left as a killed process leaves it: planned, committed, without an event and without an end."""
    key = dg.AssetKey([SLUG, "flows"])
    installed.run("flows", DAYS[0], DAYS[-1])
    installed.instance.wipe_assets([key])
    planned = installed.definitions.resolve_implicit_global_asset_job_def()
    run = installed.instance.create_run_for_job(
        planned,
        asset_selection=frozenset([key]),
        tags={"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]},
    )
    installed.instance.report_run_failed(run, "The process that ran this sync died.")
    assert bar(installed) == [GREEN] * len(DAYS)


def killed_after(pipeline: Pipeline, asset: str, committed: int) -> dg.DagsterRun:
    """A run over all days whose process died after it had committed this many of them."""
    pipeline.run(asset, DAYS[0], DAYS[committed - 1])
    run = pipeline.instance.create_run_for_job(
        pipeline.definitions.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset([dg.AssetKey([SLUG, asset])]),
        tags=dict(zip(RANGE, (DAYS[0], DAYS[-1]), strict=True)),
    )
    pipeline.execute(f"UPDATE sync_windows SET run_id = '{run.run_id}' WHERE entity = '{asset}'")
    pipeline.instance.report_run_failed(run, "The process that ran this sync died.")
    return run


def continued(pipeline: Pipeline, asset: str, killed: dg.DagsterRun, *, resumes: bool = True) -> bool:
    """Start the run again as Dagster's retries and its button "Re-execute from failure" do. Whether it succeeds."""
    tags = {**killed.tags, "dagster/parent_run_id": killed.run_id, "dagster/root_run_id": killed.run_id}
    job = pipeline.definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={dg.AssetKey([SLUG, asset])}, asset_check_selection=set()
    )
    more = {"dagster/is_resume_retry": "true"} if resumes else {}
    return job.execute_in_process(instance=pipeline.instance, tags=tags | more, raise_on_error=False).success


@pytest.mark.parametrize("asset", ["flows", "flow_report"])
def test_a_continued_run_requests_what_is_left_and_shows_the_rest_as_green_from_the_start(
    installed: Pipeline, asset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = killed_after(installed, asset, committed=4)
    assert bar(installed, asset) == [*[GREEN] * 4, *[RED] * 3]
    seen: list[list[str | None]] = []
    run_writer = Writer.run
    monkeypatch.setattr(Writer, "run", lambda self: (seen.append(bar(installed, asset)), run_writer(self)))
    assert continued(installed, asset, killed)
    assert seen == [[*[GREEN] * 4, *[RUNNING] * 3]]
    assert bar(installed, asset) == [GREEN] * 7
    assert installed.rows(f"SELECT attempts FROM sync_windows WHERE entity = '{asset}'") == [1] * 7


def test_a_continued_run_that_fails_leaves_green_what_its_first_attempt_committed(installed: Pipeline) -> None:
    killed = killed_after(installed, "flows", committed=4)
    break_down(installed)
    assert not continued(installed, "flows", killed)
    assert bar(installed) == [*[GREEN] * 4, *[RED] * 3]


def test_a_continued_run_with_nothing_left_requests_one_window(installed: Pipeline) -> None:
    killed = killed_after(installed, "flows", committed=7)
    assert continued(installed, "flows", killed)
    assert bar(installed) == [GREEN] * 7
    assert installed.rows("SELECT attempts FROM sync_windows ORDER BY window_start") == [1] * 6 + [2]


def test_a_run_that_is_executed_again_as_a_whole_requests_every_window(installed: Pipeline) -> None:
    killed = killed_after(installed, "flows", committed=4)
    assert continued(installed, "flows", killed, resumes=False)
    assert installed.rows("SELECT attempts FROM sync_windows ORDER BY window_start") == [2] * 4 + [1] * 3


def test_a_fresh_storage_and_a_restored_warehouse_are_made_the_same_as_the_ledger(installed: Pipeline) -> None:
    installed.run("flows", DAYS[0], DAYS[4])
    installed.run("forms", DAYS[2], DAYS[2])
    installed.instance.wipe_assets([dg.AssetKey([SLUG, asset]) for asset in ("flows", "forms")])
    assert aligned(installed) == Corrections(shown=6)
    assert bar(installed) == ledger(installed)
    last = installed.instance.get_latest_materialization_event(dg.AssetKey([SLUG, "flows"]))
    assert last is not None
    assert last.asset_materialization is not None
    assert last.asset_materialization.metadata["dagster/partition_row_count"].value in (0, 1)
    installed.execute("DELETE FROM sync_windows WHERE entity = 'flows' AND window_start >= '2025-03-10'")
    assert aligned(installed) == Corrections(withdrawn=3)
    assert bar(installed) == ledger(installed) == [*[GREEN] * 2, *[GREY] * 5]
    assert aligned(installed) == Corrections()
    assert bar(installed, "forms") == ledger(installed, "forms")


def test_a_new_storage_shows_what_is_synced_as_soon_as_the_ui_starts(installed: Pipeline) -> None:
    installed.run("flows", DAYS[0], DAYS[4])
    told: list[str] = []
    installed.instance.wipe_assets([dg.AssetKey([SLUG, "flows"])])
    fill_new_instance([installed.account], told.append)
    assert told == [], "an instance with runs is not new"
    for run in installed.instance.get_runs():
        installed.instance.delete_run(run.run_id)
    fill_new_instance([installed.account], told.append)
    assert bar(installed) == ledger(installed) == [*[GREEN] * 5, *[GREY] * 2]
    assert [line.partition(" in Dagster")[0] for line in told] == ["5 partitions corrected"]


def test_windows_of_a_running_run_are_left_alone_until_it_ends(installed: Pipeline) -> None:
    key = dg.AssetKey([SLUG, "flows"])
    installed.run("flows", DAYS[0], DAYS[-1])
    run = installed.instance.create_run_for_job(
        installed.definitions.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset([key]),
        tags={"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[1]},
        status=dg.DagsterRunStatus.STARTED,
    )
    installed.execute("DELETE FROM sync_windows WHERE window_start < '2025-03-09'")
    assert aligned(installed) == Corrections()
    assert bar(installed)[:3] == [RUNNING, RUNNING, GREEN]
    installed.instance.report_run_canceled(run)
    assert bar(installed) == ledger(installed)


def test_a_storage_that_cannot_wipe_single_partitions_shows_the_ledger_too(installed: Pipeline) -> None:
    """Dagster's own storages: the asset is wiped as a whole, and its synced windows are reported again."""
    with dg.DagsterInstance.ephemeral() as other:
        pipeline = Pipeline(
            installed.shop, installed.server, installed.account, installed.database, other, installed.connection
        )
        pipeline.run("flows", DAYS[0], DAYS[-1])
        installed.execute("DELETE FROM sync_windows WHERE window_start < '2025-03-10'")
        assert aligned(installed, other) == Corrections(withdrawn=2)
        assert bar(installed, instance=other) == ledger(installed)
        assert aligned(installed, other) == Corrections()


def test_hours_and_days_are_told_apart(installed: Pipeline) -> None:
    installed.configure(sync_window="hourly")
    installed.run("flows", "2025-03-10-11:00", "2025-03-10-13:00")
    installed.run("flow_report", DAYS[2])
    installed.instance.wipe_assets([dg.AssetKey([SLUG, asset]) for asset in WINDOWED])
    assert aligned(installed) == Corrections(shown=4)
    assert aligned(installed) == Corrections()
    assert len(installed.instance.get_materialized_partitions(dg.AssetKey([SLUG, "flows"]))) == 3
    assert installed.one("SELECT max(window_end) - min(window_start) FROM sync_windows WHERE entity = 'flows'") == (
        timedelta(hours=3)
    )


def test_sync_and_doctor_say_how_many_partitions_they_set_right(installed: Pipeline) -> None:
    installed.run("flows", DAYS[0], DAYS[2])
    lines: list[str] = []
    request = SyncRequest(["forms"], date(2025, 3, 8), date(2025, 3, 9))

    def damage_and(heal: str) -> str:
        installed.instance.wipe_assets([dg.AssetKey([SLUG, "flows"])])
        if heal == "doctor":
            [finding] = check_partitions(installed.account)
            return finding.found
        run_sync(installed.account, request, lines.append)
        return lines[-1]

    for heal in ("sync", "doctor"):
        assert damage_and(heal) == (
            "3 partitions corrected in Dagster: 3 synced and not shown as materialized, 0 shown as materialized and "
            "not synced"
        )
        assert bar(installed) == ledger(installed)
    [finding] = check_partitions(installed.account)
    assert finding.found == "the same as the windows of the ledger"


def test_no_partition_is_green_after_the_windows_were_reset(installed: Pipeline) -> None:
    installed.run("flows", DAYS[0], DAYS[-1])
    run_sync(installed.account, SyncRequest(["forms"], date(2025, 3, 8), date(2025, 3, 9)), [].append)
    ended = CliRunner().invoke(cli, ["reset-windows", "--yes"])
    assert ended.exit_code == 0, ended.output
    assert "9 partitions corrected" in ended.output
    assert bar(installed) == bar(installed, "forms") == [GREY] * len(DAYS)
    installed.run("flows", DAYS[2])
    assert bar(installed) == ledger(installed)


def empty_the_report(installed: Pipeline, *days: int) -> None:
    """Sync the report, with values on these days of March, and its metrics. Then delete the report's rows."""
    keys = {"flow_id": "f", "flow_message_id": "M", "send_channel": "email"}
    for day in days:
        installed.shop.set_figures("flow", keys, date(2025, 3, day), {"recipients": 10, "delivered": 9})
    for asset in ("flow_report", "flow_metrics"):
        installed.run(asset, DAYS[0], DAYS[-1])
    installed.execute("TRUNCATE flow_report")


def test_an_emptied_report_is_requested_again_and_its_metrics_are_kept_until_then(installed: Pipeline) -> None:
    empty_the_report(installed, 10, 11)
    job = installed.definitions.resolve_job_def(f"{SLUG}_checks")
    evaluations = job.execute_in_process(
        instance=installed.instance, raise_on_error=False
    ).get_asset_check_evaluations()
    wrong = {
        one.asset_key.path[-1]: one for one in evaluations if one.check_name == "rows_match_ledger" and not one.passed
    }
    assert set(wrong) == {"flow_report"}
    assert "sync flow_report flow_metrics --from 2025-03-10 --to 2025-03-11" in str(wrong["flow_report"].description)
    assert (
        bar(installed, "flow_report")
        == ledger(installed, "flow_report")
        == [GREY if day in ("2025-03-10", "2025-03-11") else GREEN for day in DAYS]
    )
    # Metrics that are computed by force in between keep the values of these days.
    installed.run("flow_metrics", DAYS[0], DAYS[-1])
    assert installed.one("SELECT count(*) FROM flow_metrics") == 2
    lines: list[str] = []
    request = SyncRequest(["flow_report", "flow_metrics"], date(2025, 3, 8), date(2025, 3, 14))
    results = run_sync(installed.account, request, lines.append)
    assert [result.error for result in results] == [None, None]
    assert installed.one("SELECT count(*) FROM flow_report") == installed.one("SELECT count(*) FROM flow_metrics") == 2
    assert bar(installed, "flow_report") == bar(installed, "flow_metrics") == [GREEN] * len(DAYS)


def test_metrics_of_an_emptied_report_name_every_day_that_it_lacks(
    installed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_assets, "DAYS_PER_BATCH", 1)
    empty_the_report(installed, 9, 12)
    assert "sync flow_report flow_metrics --from 2025-03-09 --to 2025-03-12 --force" in installed.fail(
        "flow_metrics", DAYS[0], DAYS[-1]
    )
    assert bar(installed, "flow_metrics") == [GREEN] * len(DAYS)


def test_a_comparison_without_differences_sends_a_few_statements_for_each_asset(installed: Pipeline) -> None:
    installed.run("flows", DAYS[0], DAYS[-1])
    storage = installed.instance.event_log_storage
    assert isinstance(storage, SteadyEventLogStorage)
    assert aligned(installed) == Corrections()
    sent: list[str] = []
    sa.event.listen(storage._engine, "connect", lambda *_: sent.append("connect"))
    sa.event.listen(storage._engine, "before_cursor_execute", lambda _, __, statement, *more: sent.append(statement))
    assert aligned(installed) == Corrections()
    assert 0 < len(sent) <= 4 * len(WINDOWED)
    assert "connect" not in sent
