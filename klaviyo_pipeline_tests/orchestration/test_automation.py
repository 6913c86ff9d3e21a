"""Metrics are computed automatically after their report, if Dagster's automation sensor is switched on."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from klaviyo_pipeline_tests.support import RANGE, SLUG, Pipeline, empty_shop, pipeline_on, put, utc

FIRST, LAST = "2025-03-10", "2025-03-12"
DAYS = {"2025-03-10", "2025-03-11", "2025-03-12"}
REPORT, METRICS = dg.AssetKey([SLUG, "flow_report"]), dg.AssetKey([SLUG, "flow_metrics"])


@pytest.fixture
def pipeline(migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    shop = empty_shop()
    put(shop, "flows", "f1", utc("2025-03-01T12:00:00"))
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        yield pipeline


class Ticks:
    """Evaluations of the automation sensor, one after the other."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.cursor: object = None
        self.requested()

    def requested(self) -> set[str]:
        """The days of metrics that the next evaluation requests."""
        seen = dg.evaluate_automation_conditions(
            defs=self.pipeline.definitions,
            instance=self.pipeline.instance,
            asset_selection=dg.AssetSelection.assets(METRICS),
            cursor=self.cursor,  # type: ignore[arg-type]
        )
        self.cursor = seen.cursor
        return set(seen.get_requested_partitions(METRICS))


def test_metrics_are_requested_once_after_their_report_is_synced(pipeline: Pipeline) -> None:
    ticks = Ticks(pipeline)
    pipeline.run("flow_report", FIRST, LAST)
    assert ticks.requested() == DAYS
    pipeline.run("flow_metrics", FIRST, LAST)
    assert ticks.requested() == set()


def test_changes_of_the_flows_request_no_metrics(pipeline: Pipeline) -> None:
    ticks = Ticks(pipeline)
    pipeline.run("flows", FIRST, LAST)
    assert ticks.requested() == set()


def test_a_report_that_is_synced_during_another_run_of_it_is_not_forgotten(pipeline: Pipeline) -> None:
    ticks = Ticks(pipeline)
    pipeline.run("flow_report", FIRST, LAST)
    other = pipeline.instance.create_run_for_job(
        pipeline.definitions.resolve_implicit_global_asset_job_def(),
        asset_selection={REPORT},
        tags=dict(zip(RANGE, (FIRST, LAST), strict=True)),
        status=dg.DagsterRunStatus.STARTED,
    )
    assert ticks.requested() == set()
    pipeline.instance.report_run_failed(other, "It died.")
    assert ticks.requested() == DAYS


def test_the_automation_sensor_is_off_until_it_is_switched_on(pipeline: Pipeline) -> None:
    sensors = pipeline.definitions.get_repository_def().sensor_defs
    [automation] = [one for one in sensors if isinstance(one, dg.AutomationConditionSensorDefinition)]
    assert automation.name == "default_automation_condition_sensor"
    assert automation.default_status == dg.DefaultSensorStatus.STOPPED
