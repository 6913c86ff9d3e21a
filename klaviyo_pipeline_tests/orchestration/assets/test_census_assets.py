"""What only a full listing finds: archive flips, deletes, returns, null times, objects older than the first window."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from klaviyo_pipeline.orchestration.assets import full_listing
from klaviyo_pipeline.sandbox.api_errors import no_path
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, put, truth, utc

pytestmark = pytest.mark.slow

ENTITIES = ("flows", "campaigns", "forms", "segments")
DAY = "2025-03-10"
NOON = utc("2025-03-10T12:00:00")
OLD = utc("2019-05-01T12:00:00")


def fill(shop: SandboxAccount, entity: str, count: int) -> None:
    for number in range(count):
        put(shop, entity, f"{entity}{number:03}", NOON + timedelta(seconds=number))


@pytest.mark.parametrize("entity", ENTITIES)
def test_a_census_finds_objects_that_are_in_no_window(entity: str, shop: SandboxAccount, pipeline: Pipeline) -> None:
    fill(shop, entity, 3)
    put(shop, entity, "old", OLD)
    if entity in ("flows", "segments"):
        put(shop, entity, "timeless", None)
    pipeline.run(entity, DAY)
    pipeline.run(f"{entity}_census")
    assert pipeline.stored(entity) == truth(shop, entity)


@pytest.mark.parametrize("entity", ["flows", "campaigns"])
def test_an_object_whose_archived_is_null_is_in_its_window_and_in_the_census(
    entity: str, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(shop, entity, "undecided", NOON, archived=None)
    pipeline.run(entity, DAY)
    assert pipeline.stored(entity) == truth(shop, entity)
    put(shop, entity, "old", OLD, archived=None)
    pipeline.run(f"{entity}_census")
    assert pipeline.stored(entity) == truth(shop, entity)


@pytest.mark.parametrize("entity", ["flows", "campaigns"])
def test_a_census_heals_archiving_and_unarchiving_that_left_updated_unchanged(
    entity: str, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    fill(shop, entity, 2)
    pipeline.run(f"{entity}_census")
    shop.archive(entity, f"{entity}000")
    pipeline.run(f"{entity}_census")
    assert pipeline.stored(entity) == truth(shop, entity)
    shop.archive(entity, f"{entity}000", archived=False)
    pipeline.run(f"{entity}_census")
    assert pipeline.stored(entity) == truth(shop, entity)
    flips = pipeline.rows(
        f"SELECT archived, valid_to IS NULL FROM {entity}_history WHERE id = %s ORDER BY valid_from", f"{entity}000"
    )
    assert flips == [(False, False), (True, False), (False, True)]


@pytest.mark.parametrize("entity", ENTITIES)
def test_a_deleted_object_keeps_its_row_and_is_undeleted_when_it_returns(
    entity: str, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    fill(shop, entity, 2)
    gone = f"{entity}001"
    pipeline.run(entity, DAY)
    shop.delete(entity, gone)
    pipeline.run(f"{entity}_census")
    assert pipeline.ids(entity) == [f"{entity}000"]
    [name, deleted] = pipeline.one(f"SELECT name, deleted_at = observed_at FROM {entity} WHERE id = %s", gone)
    assert (name, deleted) == (f"{entity} {gone}", True)
    shop.restore(entity, gone)
    pipeline.run(f"{entity}_census")
    assert pipeline.stored(entity) == truth(shop, entity)
    states = pipeline.rows(
        f"SELECT deleted_at IS NOT NULL, valid_to = lead(valid_from) OVER (ORDER BY valid_from) "
        f"FROM {entity}_history WHERE id = %s ORDER BY valid_from",
        gone,
    )
    assert states == [(False, True), (True, True), (False, None)]


def test_a_window_undeletes_an_object_that_returns(shop: SandboxAccount, pipeline: Pipeline) -> None:
    fill(shop, "flows", 1)
    pipeline.run("flows_census")
    shop.delete("flows", "flows000")
    pipeline.run("flows_census")
    assert pipeline.ids("flows") == []
    shop.restore("flows", "flows000")
    pipeline.run("flows", DAY)
    assert pipeline.stored("flows") == truth(shop, "flows")


def test_a_census_reports_what_it_healed(shop: SandboxAccount, pipeline: Pipeline) -> None:
    fill(shop, "flows", 4)
    pipeline.run("flows", DAY)
    shop.archive("flows", "flows000")
    shop.delete("flows", "flows001")
    put(shop, "flows", "old", OLD)
    result = pipeline.run("flows_census")
    [materialization] = result.get_asset_materialization_events()
    reported = {name: value.value for name, value in materialization.materialization.metadata.items()}
    healed = {
        name: reported[name] for name in ("objects_listed", "healed_inserted", "healed_updated", "healed_deleted")
    }
    assert healed == {"objects_listed": 4, "healed_inserted": 1, "healed_updated": 1, "healed_deleted": 1}
    assert pipeline.rows("SELECT status, rows_listed, rows_deleted, error FROM census_runs") == [
        ("complete", 4, 1, None)
    ]


def test_an_object_that_is_in_no_listing_but_exists_by_id_is_not_deleted(
    shop: SandboxAccount, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_listing, "CONCURRENT_LISTINGS", 1)
    put(shop, "flows", "flipped", NOON, archived=True)
    put(shop, "flows", "other", NOON, archived=False)
    pipeline.run("flows", DAY)

    def unarchive_before_the_archived_are_listed(request: Any) -> bool:
        if "archived,true" in request.query_params.get("filter", ""):
            shop.archive("flows", "flipped", archived=False)
        return False

    pipeline.server.faults.add(unarchive_before_the_archived_are_listed, Fault())
    with pipeline.requested() as requests:
        pipeline.run("flows_census")
    assert [request.path for request in requests if request.endpoint == "get_flow"] == ["/api/flows/flipped"]
    assert pipeline.stored("flows") == truth(shop, "flows")


def test_an_implausible_shrinkage_fails_and_deletes_nothing(shop: SandboxAccount, pipeline: Pipeline) -> None:
    fill(shop, "forms", 42)
    pipeline.run("forms", DAY)
    for number in range(22):
        shop.delete("forms", f"forms{number:03}")
    why = pipeline.fail("forms_census")
    assert "lack 22 of 42 known" in why
    assert "--accept-deletes" in why
    assert len(pipeline.ids("forms")) == 42
    [(status, deleted, error)] = pipeline.rows("SELECT status, rows_deleted, error FROM census_runs")
    assert (status, deleted) == ("failed", 0)
    assert "lack 22 of 42" in error


def test_an_implausible_shrinkage_is_applied_if_it_is_accepted(shop: SandboxAccount, pipeline: Pipeline) -> None:
    fill(shop, "forms", 42)
    pipeline.run("forms", DAY)
    for number in range(22):
        shop.delete("forms", f"forms{number:03}")
    pipeline.run("forms_census", accept_deletes=True)
    assert pipeline.stored("forms") == truth(shop, "forms")


@pytest.mark.parametrize(("known", "deleted"), [(20, 20), (60, 30)])
def test_small_shrinkages_are_applied(known: int, deleted: int, shop: SandboxAccount, pipeline: Pipeline) -> None:
    fill(shop, "forms", known)
    pipeline.run("forms", DAY)
    for number in range(deleted):
        shop.delete("forms", f"forms{number:03}")
    pipeline.run("forms_census")
    assert len(pipeline.ids("forms")) == known - deleted


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_census_that_ends_early_deletes_nothing_and_fails(
    page: int, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    fill(shop, "segments", 25)
    pipeline.run("segments", DAY)
    shop.delete("segments", "segments003")
    pipeline.server.faults.add(path_starts("/api/segments"), Fault(status=500), times=5, skip=page)
    pipeline.fail("segments_census")
    assert len(pipeline.ids("segments")) == 25
    [(status, error)] = pipeline.rows("SELECT status, error FROM census_runs")
    assert status == "failed"
    assert "HTTP 500" in error
    pipeline.run("segments_census")
    assert pipeline.stored("segments") == truth(shop, "segments")


PATH_404 = Fault.refusal(no_path("/api/forms/forms001"))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("fault", [Fault(status=404, body="<html>Not here</html>"), PATH_404], ids=["a page", "a path"])
def test_a_404_that_is_not_about_the_object_deletes_nothing(
    fault: Fault, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    fill(shop, "forms", 3)
    pipeline.run("forms", DAY)
    shop.delete("forms", "forms001")
    pipeline.server.faults.add(path_starts("/api/forms/"), fault, times=9)
    pipeline.fail("forms_census")
    assert len(pipeline.ids("forms")) == 3
    assert pipeline.rows("SELECT id FROM forms WHERE deleted_at IS NOT NULL") == []


def test_a_second_census_of_an_unchanged_account_writes_no_row(shop: SandboxAccount, pipeline: Pipeline) -> None:
    for entity in ENTITIES:
        fill(shop, entity, 3)
    put(shop, "campaigns", "both", NOON, channels=["sms", "email"])
    shop.delete("forms", "forms001")
    tables = [name for entity in ENTITIES for name in (entity, f"{entity}_superseded")]
    for entity in ENTITIES:
        pipeline.run(f"{entity}_census")
    before = pipeline.versions(*tables)
    for entity in ENTITIES:
        pipeline.run(f"{entity}_census")
    assert pipeline.versions(*tables) == before
