"""Checks in runs: which run with an asset, what a blocking check blocks, and when API checks run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from klaviyo_pipeline.orchestration.checks.build_checks import api_checks, database_checks
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.sandbox.faults import Fault
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.orchestration.checks.conftest import EMAIL, FIRST, LAST, OLD, sound_shop
from klaviyo_pipeline_tests.support import RANGE, SLUG, Pipeline, pipeline_on, put, run_sync, throw_away_database, utc

pytestmark = pytest.mark.slow

SILENT: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
MESSAGE = {"flow_id": "F1", "flow_message_id": "M1", **EMAIL}
SPAN = (FIRST.isoformat(), LAST.isoformat())
AROUND = ("2025-03-19", "2025-03-21")


@pytest.fixture
def shop() -> SandboxAccount:
    return sound_shop()


@pytest.fixture
def pipeline(migrated: str, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(migrated, shop, monkeypatch, start_date=FIRST) as pipeline:
        yield pipeline


@pytest.fixture
def settled(
    postgres_server: str, synced: str, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pipeline]:
    """A pipeline on a copy of the synced account's database. Every day of `SPAN` is final."""
    with (
        throw_away_database(postgres_server, synced) as database,
        pipeline_on(database, shop, monkeypatch, start_date=FIRST) as pipeline,
    ):
        yield pipeline


def run_job(pipeline: Pipeline, name: str, windows: tuple[str, str] | None = None) -> dg.ExecuteInProcessResult:
    """One run of a job, which may fail."""
    tags = dict(zip(RANGE, windows, strict=True)) if windows else {}
    return pipeline.definitions.resolve_job_def(f"{SLUG}_{name}").execute_in_process(
        instance=pipeline.instance, tags=tags, run_config=SILENT, raise_on_error=False
    )


def outcomes(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], bool]:
    """Whether each check that ran has passed, by asset and name."""
    return {(one.asset_key.path[-1], one.check_name): one.passed for one in result.get_asset_check_evaluations()}


def reconciled(pipeline: Pipeline, asset: str, name: str) -> dg.AssetCheckEvaluation:
    """The result of an API check that runs alone, as from the UI."""
    key = dg.AssetCheckKey(dg.AssetKey([SLUG, asset]), name)
    job = pipeline.definitions.resolve_implicit_global_asset_job_def()
    result = job.get_subset(asset_selection=set(), asset_check_selection={key}).execute_in_process(
        instance=pipeline.instance, run_config=SILENT
    )
    [found] = result.get_asset_check_evaluations()
    return found


def test_refused_statistics_are_reported_and_not_compared(shop: SandboxAccount, pipeline: Pipeline) -> None:
    shop.refused_statistics = {"flow": {"conversion_value"}}
    pipeline.checked = True
    result = pipeline.run("flow_report", *SPAN)
    assert outcomes(result)["flow_report", "no_statistic_is_refused"] is False
    found = reconciled(pipeline, "flow_report", "daily_sums_match_total")
    assert found.passed
    assert "not compared: Klaviyo rejects conversion_value" in str(found.description)
    shop.refused_statistics = {}
    pipeline.execute("TRUNCATE conversion_refusals")
    assert reconciled(pipeline, "flow_report", "daily_sums_match_total").passed
    assert outcomes(pipeline.run("flow_report", *SPAN))["flow_report", "no_statistic_is_refused"] is True


def break_a_count(shop: SandboxAccount) -> None:
    shop.set_figures("flow", MESSAGE, date(2025, 3, 20), {"recipients": -3, "delivered": 1})


# Checks that run with an asset.


@pytest.mark.parametrize("asset", ["flows", "flow_report", "flows_census"])
def test_the_checks_of_an_asset_run_with_it_and_send_no_requests(asset: str, pipeline: Pipeline) -> None:
    windows = () if asset.endswith("_census") else SPAN
    pipeline.checked = True
    with pipeline.requested() as first:
        result = pipeline.run(asset, *windows)
    names = {check.name for check in database_checks(pipeline.account)[asset]}
    assert set(outcomes(result)) == {(asset, name) for name in names}
    assert not [entry for entry in first if "values" in entry.path]
    lists = [entry for entry in first if entry.path == "/api/flows"]
    assert len(lists) == (0 if asset == "flow_report" else 2)


def test_no_job_that_materializes_assets_contains_an_api_check(pipeline: Pipeline) -> None:
    asking = {f"{SLUG}__{check.asset}_{check.name}" for check in api_checks(pipeline.account)}
    holding = {
        job.name
        for job in pipeline.definitions.get_repository_def().get_all_jobs()
        if job.name != pipeline.definitions.resolve_implicit_global_asset_job_def().name
        and asking & {node.name for node in job.nodes}
    }
    assert holding == {f"{SLUG}_reconcile"}


def test_a_failed_check_that_does_not_block_leaves_the_run_successful(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put(shop, "flows", "F1", OLD, smart=True)
    pipeline.checked = True
    result = pipeline.run("flows_census")
    assert result.success
    result = pipeline.run("flows", *SPAN)
    assert outcomes(result)["flows", "attributes_are_known"] is False


def test_a_failed_blocking_check_blocks_only_the_assets_computed_from_its_asset(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    break_a_count(shop)
    result = run_job(pipeline, "reports", AROUND)
    assert not result.success
    assert outcomes(result)["flow_report", "counts_are_not_negative"] is False
    made = {event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key}
    assert "flow_metrics" not in made
    assert {"flow_report", "campaign_metrics", "form_metrics", "segment_metrics"} <= made


def test_a_sync_skips_the_metrics_after_a_failed_check_and_reports_its_message(
    shop: SandboxAccount, pipeline: Pipeline, home: dg.DagsterInstance
) -> None:
    break_a_count(shop)
    request = SyncRequest(("flow_report", "flow_metrics"), date(2025, 3, 19), date(2025, 3, 21), named=True)
    report, metrics = run_sync(pipeline.account, request)
    assert report.error is not None
    assert "counts_are_not_negative" in report.error
    assert "F1 on 2025-03-20" in report.error
    assert metrics.skipped == "not computed, because a check of flow_report failed"
    assert pipeline.rows("SELECT 1 FROM flow_metrics") == []


# Checks that call Klaviyo's API.


def test_reconciling_a_synced_account_passes_and_costs_one_request_for_each_report(settled: Pipeline) -> None:
    with settled.requested() as came:
        result = run_job(settled, "reconcile")
    assert outcomes(result) == {(check.asset, check.name): True for check in api_checks(settled.account)}
    reports = [entry.path for entry in came if entry.path.endswith("-reports")]
    assert sorted(reports) == [f"/api/{kind}-values-reports" for kind in ("campaign", "flow", "form", "segment")]


RESTATED: dict[str, tuple[dict[str, str], date, dict[str, float]]] = {
    "flow": (MESSAGE, date(2025, 4, 2), {"conversion_value": 99.99}),
    "campaign": ({"campaign_id": "C2", "campaign_message_id": "C2", **EMAIL}, date(2025, 3, 25), {"recipients": 1}),
    "form": ({"form_id": "W2"}, date(2025, 4, 10), {"viewed_form": 9, "submits": 3}),
    "segment": ({"segment_id": "S1"}, date(2025, 3, 12), {"members_removed": 1, "total_members": 50}),
}


@pytest.mark.parametrize("kind", RESTATED)
def test_settled_days_that_klaviyo_restated_are_an_error_that_lists_the_sum(
    kind: str, shop: SandboxAccount, settled: Pipeline
) -> None:
    groupings, day, figures = RESTATED[kind]
    shop.set_figures(kind, groupings, day, figures)
    found = reconciled(settled, f"{kind}_report", "daily_sums_match_total")
    assert not found.passed
    assert next(iter(groupings.values())) in (found.description or "")
    assert "--from 2025-03-12 --to 2025-04-10 --force" in (found.description or "")


def test_values_that_are_missing_in_postgres_are_an_error(settled: Pipeline) -> None:
    settled.execute("DELETE FROM flow_report WHERE flow_id = 'F2'")
    assert not reconciled(settled, "flow_report", "daily_sums_match_total").passed


def test_days_before_the_last_thirty_are_not_compared(shop: SandboxAccount, settled: Pipeline) -> None:
    shop.set_figures("flow", MESSAGE, date(2025, 3, 11), {"recipients": 1})
    assert reconciled(settled, "flow_report", "daily_sums_match_total").passed


def test_days_that_may_still_change_are_not_compared(shop: SandboxAccount, pipeline: Pipeline) -> None:
    pipeline.configure(attribution_days=3650)
    pipeline.run("flow_report", *SPAN)
    shop.set_figures("flow", MESSAGE, date(2025, 4, 2), {"recipients": 1})
    with pipeline.requested() as came:
        assert reconciled(pipeline, "flow_report", "daily_sums_match_total").passed
    assert not [entry for entry in came if entry.path.endswith("-reports")]


@pytest.mark.parametrize("entity", ["flows", "campaigns", "forms", "segments"])
def test_an_object_that_the_table_lacks_is_an_error_that_lists_its_id(
    entity: str, shop: SandboxAccount, settled: Pipeline
) -> None:
    put(shop, entity, "lost", utc("2025-03-20T10:00:00"))
    settled.run(entity, *AROUND)
    assert reconciled(settled, entity, "listed_objects_exist").passed
    settled.execute(f"DELETE FROM {entity} WHERE id = 'lost'")
    found = reconciled(settled, entity, "listed_objects_exist")
    assert not found.passed
    assert "lost" in (found.description or "")


def test_an_object_whose_time_differs_is_an_error(shop: SandboxAccount, pipeline: Pipeline) -> None:
    pipeline.run("flows_census")
    pipeline.execute("UPDATE flows SET updated_at = updated_at - interval '1 s' WHERE id = 'F2'")
    found = reconciled(pipeline, "flows", "listed_objects_exist")
    assert not found.passed
    assert "F2" in (found.description or "")


def test_an_object_that_is_stored_as_deleted_and_is_listed_is_an_error(pipeline: Pipeline) -> None:
    pipeline.run("flows_census")
    pipeline.execute("UPDATE flows SET deleted_at = now() WHERE id = 'F2'")
    assert not reconciled(pipeline, "flows", "listed_objects_exist").passed


def test_an_object_that_changes_while_the_listing_is_read_is_no_error(shop: SandboxAccount, pipeline: Pipeline) -> None:
    pipeline.run("flows_census")
    # As if the object had changed before the check, and again after it was listed.
    pipeline.execute("UPDATE flows SET updated_at = updated_at - interval '1 s' WHERE id = 'F1'")

    def change(request: Any) -> bool:
        if "archived,true" in request.query_params.get("filter", ""):
            put(shop, "flows", "F1", datetime.now(UTC) + timedelta(hours=1))
        return False

    pipeline.server.faults.add(change, Fault())
    with pipeline.requested() as came:
        assert reconciled(pipeline, "flows", "listed_objects_exist").passed
    assert [entry.path for entry in came if entry.endpoint == "get_flow"] == ["/api/flows/F1"]


def test_a_time_that_was_set_back_since_the_last_sync_is_no_error(shop: SandboxAccount, pipeline: Pipeline) -> None:
    pipeline.run("flows_census")
    put(shop, "flows", "F1", OLD - timedelta(days=1))
    found = reconciled(pipeline, "flows", "listed_objects_exist")
    assert found.passed
    assert found.metadata["set_back"].value == 1


def test_many_objects_that_differ_are_an_error_without_a_lookup_of_each(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    for number in range(21):
        put(shop, "forms", f"lost{number}", utc("2025-03-20T10:00:00"))
    pipeline.run("forms_census")
    pipeline.execute("DELETE FROM forms WHERE id LIKE 'lost%'")
    with pipeline.requested() as came:
        assert not reconciled(pipeline, "forms", "listed_objects_exist").passed
    assert not [entry for entry in came if entry.endpoint == "get_form"]


@pytest.mark.parametrize("known", [True, False])
def test_values_of_a_campaign_without_a_send_time_are_reported_with_their_value(
    known: bool, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(shop, "campaigns", "odd", OLD, status="Sent", send_time=None, created_at=OLD)
    groups = {"campaign_id": "odd", "campaign_message_id": "M", **EMAIL}
    shop.set_figures("campaign", groups, date(2025, 3, 20), {"recipients": 5, "conversion_value": 77.5})
    if not known:
        shop.delete("campaigns", "odd")
    result = pipeline.run("campaign_report", *SPAN)
    [made] = result.get_asset_materialization_events()[:1]
    assert made.materialization.metadata["campaigns_without_day"].value == ["odd"]
    found = reconciled(pipeline, "campaign_report", "daily_sums_match_total")
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert "odd" in (found.description or "")
    assert "77.5" in (found.description or "")


def test_changes_and_deletes_since_the_last_sync_are_no_error(shop: SandboxAccount, pipeline: Pipeline) -> None:
    pipeline.run("flows_census")
    put(shop, "flows", "F1", datetime.now(UTC) + timedelta(hours=1))
    put(shop, "flows", "new", datetime.now(UTC) + timedelta(hours=1))
    shop.delete("flows", "F2")
    found = reconciled(pipeline, "flows", "listed_objects_exist")
    assert found.passed
    assert found.metadata["listed_no_more"].value == 1
