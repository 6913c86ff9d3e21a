"""Sensors: which runs they request, what they report, and that they report nothing without a reason."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.handle import RegisteredCodeLocationOrigin

from klaviyo_pipeline.config.api_revisions import API_REVISIONS, DEFAULT_REVISION, ApiRevision
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.orchestration import sensors
from klaviyo_pipeline.orchestration.build import project_defs, sync_defs
from klaviyo_pipeline.orchestration.jobs import ACCOUNT_TAG
from klaviyo_pipeline.orchestration.resources.account_resources import account_resources
from klaviyo_pipeline.orchestration.sensors import WEBHOOK
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline_tests.support import SLUG, Pipeline, empty_shop, pipeline_on, put, utc

pytestmark = pytest.mark.slow

DAY = "2025-02-01"
# The account's windows are few and long past, so that no test depends on the current day.
ENDED_WINDOWS_ARE_MANY = 30


@pytest.fixture
def pipeline(migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    shop = empty_shop()
    put(shop, "flows", "f1", utc("2025-02-01T12:00:00"))
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        yield pipeline


def evaluate(
    pipeline: Pipeline, name: str, cursor: str | None = None, definitions: dg.Definitions | None = None
) -> dg.SensorExecutionData:
    """One evaluation of the account's sensor of that name."""
    definitions = definitions or pipeline.definitions
    sensor = definitions.resolve_sensor_def(f"{SLUG}_{name}")
    context = dg.build_sensor_context(
        instance=pipeline.instance,
        cursor=cursor,
        resources=account_resources(pipeline.account, Warehouse()),
        definitions=definitions,
    )
    return sensor.evaluate_tick(context)


def requested(data: dg.SensorExecutionData) -> dict[str, tuple[str, str]]:
    """The requested ranges, by job."""
    start, end = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
    return {str(run.job_name): (run.tags[start], run.tags[end]) for run in data.run_requests or ()}


def test_all_windows_that_were_never_requested_are_requested_in_one_run_for_each_asset(pipeline: Pipeline) -> None:
    ranges = requested(evaluate(pipeline, "missing_windows"))
    assert set(ranges) >= {f"{SLUG}_flows", f"{SLUG}_campaigns", f"{SLUG}_forms", f"{SLUG}_segments"}
    first, last = ranges[f"{SLUG}_flows"]
    assert first == DAY
    assert date.fromisoformat(last) - date.fromisoformat(first) > timedelta(days=ENDED_WINDOWS_ARE_MANY)


def test_metrics_are_not_requested_before_their_report_is_synced(pipeline: Pipeline) -> None:
    assert f"{SLUG}_flow_metrics" not in requested(evaluate(pipeline, "missing_windows"))


def test_only_what_the_ledger_lacks_is_requested(pipeline: Pipeline) -> None:
    pipeline.configure(start_date=pipeline.account.today(pipeline.one("SELECT now()")) - timedelta(days=4))
    plan = pipeline.definitions.resolve_assets_def(dg.AssetKey([SLUG, "flows"])).partitions_def
    first, second, *_, newest = plan.get_partition_keys()
    pipeline.run("flows", second, newest)
    assert requested(evaluate(pipeline, "missing_windows"))[f"{SLUG}_flows"] == (first, first)
    pipeline.run("flows", first, first)
    assert f"{SLUG}_flows" not in requested(evaluate(pipeline, "missing_windows"))


def test_a_job_that_is_running_is_not_requested_again(pipeline: Pipeline) -> None:
    job = pipeline.definitions.resolve_job_def(f"{SLUG}_flows")
    pipeline.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    ranges = requested(evaluate(pipeline, "missing_windows"))
    assert f"{SLUG}_flows" not in ranges
    assert f"{SLUG}_forms" in ranges


@pytest.mark.parametrize("job", ["entities", "all"])
def test_an_asset_that_another_job_is_running_is_not_requested(job: str, pipeline: Pipeline) -> None:
    whole = pipeline.definitions.resolve_job_def(f"{SLUG}_{job}")
    pipeline.instance.create_run_for_job(whole, status=dg.DagsterRunStatus.STARTING)
    ranges = requested(evaluate(pipeline, "missing_windows"))
    assert f"{SLUG}_forms" not in ranges
    assert (f"{SLUG}_flow_report" in ranges) == (job == "entities")


def test_an_asset_that_is_being_materialized_by_hand_is_not_requested(pipeline: Pipeline) -> None:
    whole = pipeline.definitions.resolve_implicit_global_asset_job_def()
    chosen = {dg.AssetKey([SLUG, "forms"])}
    pipeline.instance.create_run_for_job(whole, status=dg.DagsterRunStatus.STARTED, asset_selection=chosen)
    ranges = requested(evaluate(pipeline, "missing_windows"))
    assert f"{SLUG}_forms" not in ranges
    assert f"{SLUG}_flows" in ranges


def test_an_account_among_several_requests_single_assets_of_its_common_jobs(pipeline: Pipeline) -> None:
    several = project_defs([pipeline.account, Account(slug="another")])
    runs = evaluate(pipeline, "missing_windows", definitions=several).run_requests or ()
    requested_by_test = {tuple(run.asset_selection or ()): run.job_name for run in runs}
    assert requested_by_test[(dg.AssetKey([SLUG, "forms"]),)] == f"{SLUG}_entities"
    assert requested_by_test[(dg.AssetKey([SLUG, "flow_report"]),)] == f"{SLUG}_reports"
    assert all(len(selection) == 1 for selection in requested_by_test)


def test_an_asset_is_requested_while_its_job_runs_for_another_asset_only(pipeline: Pipeline) -> None:
    several = project_defs([pipeline.account, Account(slug="another")])
    job = several.resolve_job_def(f"{SLUG}_entities")
    chosen = {dg.AssetKey([SLUG, "forms"])}
    pipeline.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, asset_selection=chosen)
    runs = evaluate(pipeline, "missing_windows", definitions=several).run_requests or ()
    requested_by_test = {key.path[-1] for run in runs for key in run.asset_selection or ()}
    assert "forms" not in requested_by_test
    assert {"flows", "campaigns", "segments"} <= requested_by_test


def test_after_an_outage_of_days_everything_catches_up_in_one_run_for_each_asset(pipeline: Pipeline) -> None:
    outage = ("2025-03-10", "2025-03-14")
    synced_but(pipeline, *outage)
    first = requested(evaluate(pipeline, "missing_windows"))
    entities = ("flows", "campaigns", "forms", "segments")
    reports = ("flow_report", "campaign_report", "form_report", "segment_report")
    assert first == {f"{SLUG}_{asset}": outage for asset in (*entities, *reports)}
    with pipeline.requested() as requests:
        for asset in (*entities, *reports):
            pipeline.run(asset, *outage)
    assert [one.endpoint for one in requests if "query" in str(one.endpoint)] == [
        "query_flow_series",
        "query_campaign_values",
        "query_form_series",
        "query_segment_series",
    ]
    metrics = [name.replace("report", "metrics") for name in reports]
    week = ("2025-03-10", "2025-03-10")
    second = dict.fromkeys((*metrics, "conversions_daily"), outage) | {"flow_report_weekly": week}
    for missing in (second, {"flow_metrics_weekly": week}):
        assert requested(evaluate(pipeline, "missing_windows")) == {f"{SLUG}_{name}": missing[name] for name in missing}
        for asset, windows in missing.items():
            pipeline.run(asset, *windows)
    assert requested(evaluate(pipeline, "missing_windows")) == {}
    assert pipeline.rows("SELECT DISTINCT windows_missing FROM sync_status") == [0]


def test_ranges_that_keep_failing_do_not_delay_the_others(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "RUNS_AT_ONCE", 3)
    first = evaluate(pipeline, "missing_windows")
    assert set(requested(first)) == {f"{SLUG}_flows", f"{SLUG}_campaigns", f"{SLUG}_forms"}
    second = evaluate(pipeline, "missing_windows", cursor=first.cursor)
    assert f"{SLUG}_segments" in requested(second)
    assert not set(requested(first)) & set(requested(second))
    of_an_hour_ago = str(first.cursor).replace(str(first.cursor).partition("\n")[0], "2025-01-01 00")
    assert requested(evaluate(pipeline, "missing_windows", cursor=of_an_hour_ago)) == requested(first)


def test_the_schedules_have_an_hour_for_a_window_that_has_just_ended(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced_but(pipeline, "2025-03-10", "2025-03-10")
    ended = utc("2025-03-11T00:00:00")
    since = pipeline.one("SELECT now()") - ended
    monkeypatch.setattr(sensors, "GRACE", since + timedelta(minutes=1))
    assert requested(evaluate(pipeline, "missing_windows")) == {}
    monkeypatch.setattr(sensors, "GRACE", since - timedelta(minutes=1))
    assert requested(evaluate(pipeline, "missing_windows"))[f"{SLUG}_flows"] == ("2025-03-10", "2025-03-10")


def synced_but(pipeline: Pipeline, first: str, last: str) -> None:
    """Mark every ended window as synced in the ledger, except those of these days; and the open week and month."""
    pipeline.run("flows", DAY)
    pipeline.execute(
        "INSERT INTO sync_windows (entity, window_start, window_end, status, asked_at) "
        "SELECT entity, max(window_end), now() + interval '1 month', 'synced', now() FROM expected_windows "
        "WHERE entity IN (SELECT entity FROM assets WHERE period <> 'day') GROUP BY entity"
    )
    pipeline.execute(
        "INSERT INTO sync_windows (entity, window_start, window_end, status, asked_at) "
        "SELECT entity, window_start, window_end, 'synced', window_end + interval '1 minute' FROM expected_windows "
        f"WHERE window_start NOT BETWEEN timestamptz '{first} 00:00+00' AND timestamptz '{last} 00:00+00' "
        "ON CONFLICT DO NOTHING"
    )


def test_stale_assets_are_reported_once_a_day(pipeline: Pipeline, inbox: list[str]) -> None:
    pipeline.run("flows", DAY, DAY)
    reported = evaluate(pipeline, "stale_data")
    [text] = inbox
    assert text.startswith(f"{SLUG}: stale: flows; never synced: campaigns, ")
    evaluate(pipeline, "stale_data", cursor=reported.cursor)
    assert len(inbox) == 1


def test_assets_whose_sync_has_never_worked_are_reported_with_the_last_error(
    pipeline: Pipeline, inbox: list[str]
) -> None:
    synced_but(pipeline, "2025-01-01", "2025-01-01")
    pipeline.execute("DELETE FROM sync_windows WHERE entity IN ('forms', 'segments')")
    pipeline.execute(
        "INSERT INTO sync_windows (entity, window_start, window_end, status, error) SELECT entity, window_start, "
        "window_end, 'failed', E'403: no scope\\nforms:read' FROM expected_windows WHERE entity = 'forms' LIMIT 1"
    )
    evaluate(pipeline, "stale_data")
    assert inbox == [
        f"{SLUG}: never synced: forms (403: no scope), segments. Run `klaviyo-pipeline status` for details."
    ]


def test_an_installation_that_never_reached_klaviyo_is_reported(pipeline: Pipeline, inbox: list[str]) -> None:
    evaluate(pipeline, "stale_data")
    assert inbox[0].startswith(f"{SLUG}: never synced: flows, campaigns, ")


def test_an_account_that_starts_today_gets_time_for_its_first_sync(pipeline: Pipeline, inbox: list[str]) -> None:
    pipeline.configure(start_date=pipeline.account.today(pipeline.one("SELECT now()")))
    assert evaluate(pipeline, "stale_data").skip_message == "all assets are fresh"
    assert inbox == []


def test_fresh_assets_are_not_reported(pipeline: Pipeline, inbox: list[str]) -> None:
    synced_but(pipeline, "2025-01-01", "2025-01-01")
    assert evaluate(pipeline, "stale_data").skip_message == "all assets are fresh"
    assert inbox == []


def test_a_campaign_that_was_not_sent_is_reported_once(pipeline: Pipeline, inbox: list[str]) -> None:
    pipeline.run("campaigns", DAY, DAY)
    pipeline.execute(
        "INSERT INTO campaigns (id, name, status, send_time, raw, observed_at) "
        "VALUES ('C1', 'Sale', 'Scheduled', now() - interval '2 days', '{}', now())"
    )
    pipeline.execute(
        "INSERT INTO sync_windows (entity, window_start, window_end, status, asked_at) "
        "SELECT entity, window_start, window_end, 'synced', now() FROM expected_windows WHERE entity = 'campaigns' "
        "ON CONFLICT DO NOTHING"
    )
    reported = evaluate(pipeline, "quiet_objects")
    [text] = inbox
    assert text.startswith(f"{SLUG}: Sale (C1): scheduled for ")
    assert evaluate(pipeline, "quiet_objects", cursor=reported.cursor).cursor == reported.cursor
    assert len(inbox) == 1


def test_a_revision_is_served_for_two_years(
    pipeline: Pipeline, inbox: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = API_REVISIONS["2026-07-15"]
    assert (known.deprecated_on, known.retires_on) == (date(2027, 7, 15), date(2028, 7, 15))
    monkeypatch.setattr(sensors, "API_REVISIONS", {DEFAULT_REVISION: ApiRevision("2020-01-15")})
    reported = evaluate(pipeline, "revision_retires")
    assert f"{DEFAULT_REVISION} on 2022-01-15" in inbox[0]
    evaluate(pipeline, "revision_retires", cursor=reported.cursor)
    assert len(inbox) == 1


def test_a_webhook_error_does_not_fail_the_sensor_and_is_logged_without_the_address(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    monkeypatch.setenv(WEBHOOK, "http://127.0.0.1:9/secret-path")
    monkeypatch.setattr(sensors, "API_REVISIONS", {DEFAULT_REVISION: ApiRevision("2020-01-15")})
    monkeypatch.setattr(sensors, "_alert", _recording(sensors._alert, messages))
    evaluate(pipeline, "revision_retires")
    assert any("was not posted" in line for line in messages)
    assert not any("secret-path" in line for line in messages)


def _recording(alert: object, messages: list[str]) -> object:
    class Log:
        def error(self, text: str) -> None:
            messages.append(text)

    class Context:
        log = Log()

    return lambda context, text: alert(Context(), text)  # type: ignore[operator]


def test_a_failed_run_is_reported_with_its_reason_and_without_the_key(
    pipeline: Pipeline, inbox: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_API_KEY", "pk_wrong_and_secret")
    result = pipeline.attempt("flows", DAY, DAY)
    [failure] = [event for event in result.all_events if event.is_failure and not event.is_step_failure]
    context = dg.build_run_status_sensor_context(
        sensor_name="failed_runs",
        dagster_instance=pipeline.instance,
        dagster_run=result.dagster_run,
        dagster_event=failure,
    ).for_run_failure()
    sensor = sensors.failed_runs([pipeline.account])
    sensor(context)
    assert len(inbox) == 1
    assert inbox[0].startswith(f"{SLUG}: ")
    assert "401" in inbox[0]
    assert "pk_wrong_and_secret" not in inbox[0]


def test_every_failed_run_of_an_account_is_reported_once_whatever_launched_it(
    pipeline: Pipeline, inbox: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = project_defs([pipeline.account, Account(slug="another")])
    everything = two.resolve_implicit_global_asset_job_def()
    flows, forms = dg.AssetKey([SLUG, "flows"]), dg.AssetKey(["another", "forms"])
    cursor = failures_seen(pipeline, two)

    def fail(job: dg.JobDefinition, why: str, **how: Any) -> None:
        run = pipeline.instance.create_run_for_job(job, **how)
        pipeline.instance.report_run_failed(run, why)

    fail(two.resolve_job_def(f"{SLUG}_entities"), "named job")
    fail(everything, "materialized by hand", asset_selection={flows})
    fail(everything, "backfill", asset_selection={forms}, tags={"dagster/backfill": "b1"})
    checks = frozenset({dg.AssetCheckKey(flows, "any")})
    checked = dg.DagsterRun("__ASSET_JOB", asset_selection=frozenset(), asset_check_selection=checks)
    pipeline.instance.report_run_failed(pipeline.instance.add_run(checked), "checked by hand")
    fail(everything, "both accounts", asset_selection={flows, forms})
    synced = sync_defs(pipeline.account, Warehouse()).resolve_implicit_global_asset_job_def()
    fail(synced, "sync", tags={ACCOUNT_TAG: SLUG})
    fail(stranger, "another project's")
    monkeypatch.setenv("KLAVIYO_API_KEY", "pk_wrong")
    pipeline.attempt("flows", DAY, DAY)
    while (after := failures_seen(pipeline, two, cursor)) != cursor:
        cursor = after
    assert [(text.partition(": ")[0], text.rpartition("): ")[2].partition(": ")[0]) for text in inbox] == [
        (SLUG, "named job"),
        (SLUG, "materialized by hand"),
        ("another", "backfill"),
        (SLUG, "checked by hand"),
        (f"{SLUG}, another", "both accounts"),
        (SLUG, "sync"),
        (SLUG, f"{SLUG}__flows"),
    ]


@dg.job
def stranger() -> None:
    """A job of another project in the same instance."""


def failures_seen(pipeline: Pipeline, definitions: dg.Definitions, cursor: str | None = None) -> str | None:
    """One evaluation of the sensor of failed runs, in a code location as in the daemon; returns its cursor."""
    context = dg.build_sensor_context(instance=pipeline.instance, cursor=cursor, definitions=definitions)
    context._code_location_origin = RegisteredCodeLocationOrigin("klaviyo_pipeline")
    return definitions.resolve_sensor_def("failed_runs").evaluate_tick(context).cursor


def test_everything_is_off_until_it_is_switched_on(pipeline: Pipeline) -> None:
    repository = pipeline.definitions.get_repository_def()
    assert {sensor.default_status for sensor in repository.sensor_defs} == {dg.DefaultSensorStatus.STOPPED}
    assert {schedule.default_status for schedule in repository.schedule_defs} == {dg.DefaultScheduleStatus.STOPPED}


def test_the_open_window_is_polled_as_the_newest_partition(pipeline: Pipeline) -> None:
    schedule = pipeline.definitions.resolve_schedule_def(f"{SLUG}_open_window")
    moment = datetime.fromisoformat("2025-03-05T10:15:00+00:00")
    context = dg.build_schedule_context(instance=pipeline.instance, scheduled_execution_time=moment)
    [run] = schedule.evaluate_tick(context).run_requests or ()
    assert run.tags["dagster/asset_partition_range_start"] == "2025-03-05"
    assert run.tags["dagster/asset_partition_range_end"] == "2025-03-05"


def test_a_scheduled_run_goes_before_one_that_catches_up_and_that_before_a_backfill(pipeline: Pipeline) -> None:
    moment = datetime.fromisoformat("2025-03-05T10:15:00+00:00")
    context = dg.build_schedule_context(instance=pipeline.instance, scheduled_execution_time=moment)
    scheduled = [
        run.tags["dagster/priority"]
        for schedule in ("entities_daily", "reports_daily", "open_window", "census_daily")
        for run in pipeline.definitions.resolve_schedule_def(f"{SLUG}_{schedule}").evaluate_tick(context).run_requests
        or ()
    ]
    caught_up = evaluate(pipeline, "missing_windows").run_requests or ()
    assert scheduled == ["10"] * 4
    assert {run.tags["dagster/priority"] for run in caught_up} == {"5"}
