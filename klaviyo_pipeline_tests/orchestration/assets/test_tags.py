"""Tags: the censuses read the tags of objects without extra requests. The names of tags have a separate listing."""

from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg
import pytest

from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.sandbox.api_errors import OTHER_403S
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.sandbox_account import READ_SCOPES, SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, key_of, put, run_sync, utc

DAY = "2025-03-10"
NOON = utc("2025-03-10T12:00:00")
TAGGED = ("flows", "campaigns", "segments")
TABLES = ("tags", "object_tags")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tags")]


@pytest.fixture
def tags(shop: SandboxAccount) -> None:
    shop.tags = {"T1": "evergreen", "T2": "Q4 🎁", "T3": "on nothing"}
    put(shop, "flows", "F", NOON, tags=["T1", "T2"])
    put(shop, "flows", "A", NOON, tags=["T1"], archived=True)
    put(shop, "campaigns", "C", NOON, tags=["T2"], channels=["email", "sms"])
    put(shop, "segments", "S", None, tags=["T1"])
    put(shop, "segments", "bare", NOON)


@pytest.fixture
def scopeless(shop: SandboxAccount) -> None:
    """A key without the scope of the tags, in an account that requires it for every response with tags."""
    shop.api_keys[key_of(shop)] = set(READ_SCOPES) - {"tags:read"}
    shop.tags_need_their_scope = True


def list_everything(pipeline: Pipeline) -> None:
    for asset in (*(f"{entity}_census" for entity in TAGGED), "tags"):
        pipeline.run(asset)


def tagged(pipeline: Pipeline) -> Any:
    return pipeline.rows(
        "SELECT o.entity, o.object_id, t.name FROM object_tags o JOIN tags t ON t.id = o.tag_id "
        "WHERE o.deleted_at IS NULL AND t.deleted_at IS NULL ORDER BY 1, 2, 3"
    )


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [made] = result.get_asset_materialization_events()
    return {name: value.value for name, value in made.materialization.metadata.items()}


EVERY_PAIR = [
    ("campaigns", "C", "Q4 🎁"),
    ("flows", "A", "evergreen"),
    ("flows", "F", "Q4 🎁"),
    ("flows", "F", "evergreen"),
    ("segments", "S", "evergreen"),
]


def test_a_census_stores_the_tags_of_archived_and_current_objects(pipeline: Pipeline) -> None:
    for entity in TAGGED:
        result = pipeline.run(f"{entity}_census")
        assert metadata(result)["tags"] == "requested"
    assert tagged(pipeline) == EVERY_PAIR
    assert pipeline.ids("tags") == ["T1", "T2"]
    pipeline.run("tags")
    assert pipeline.ids("tags") == ["T1", "T2", "T3"]


def test_tags_cost_no_requests_except_the_listing_of_their_names(pipeline: Pipeline) -> None:
    with pipeline.requested() as requests:
        list_everything(pipeline)
    requested = [one.endpoint for one in requests if one.endpoint != "get_accounts"]
    assert {endpoint: requested.count(endpoint) for endpoint in requested} == {
        "get_flows": 2,
        "get_campaigns": 2,
        "get_campaign_messages": 1,
        "get_segments": 1,
        "get_tags": 1,
    }
    reported = pipeline.rows("SELECT requests, rows_listed, status FROM census_runs WHERE entity = 'tags'")
    assert reported == [(1, 3, "complete")]


def test_the_same_tags_again_write_nothing(pipeline: Pipeline) -> None:
    list_everything(pipeline)
    before = pipeline.versions(*TABLES)
    list_everything(pipeline)
    assert pipeline.versions(*TABLES) == before


def test_tags_are_not_part_of_an_objects_state(shop: SandboxAccount, pipeline: Pipeline) -> None:
    tables = ("flows", "flows_superseded", "campaigns", "campaigns_superseded")
    for entity in ("flows", "campaigns"):
        pipeline.run(entity, DAY)
    assert pipeline.rows("SELECT 1 FROM object_tags") == []
    before = pipeline.versions(*tables)
    list_everything(pipeline)
    shop.put("flows", "F", tags=["T3"])
    list_everything(pipeline)
    for entity in ("flows", "campaigns"):
        pipeline.run(entity, DAY)
    assert pipeline.versions(*tables) == before
    assert ("flows", "F", "on nothing") in tagged(pipeline)


def test_tags_are_removed_renamed_deleted_and_added_again(shop: SandboxAccount, pipeline: Pipeline) -> None:
    list_everything(pipeline)
    shop.put("flows", "F", tags=["T2"])
    shop.put("segments", "S", tags=[])
    shop.put("flows", "A", tags=[])
    shop.tags = {"T2": "Q1", "T4": "new"}
    shop.put("segments", "bare", tags=["T4"])
    list_everything(pipeline)
    assert pipeline.ids("tags") == ["T2", "T4"]
    assert tagged(pipeline) == [("campaigns", "C", "Q1"), ("flows", "F", "Q1"), ("segments", "bare", "new")]
    shop.tags["T1"] = "evergreen"
    shop.put("segments", "S", tags=["T1"])
    list_everything(pipeline)
    assert ("segments", "S", "evergreen") in tagged(pipeline)


def test_a_tag_is_deleted_only_if_a_lookup_by_id_returns_404(shop: SandboxAccount, pipeline: Pipeline) -> None:
    list_everything(pipeline)
    page = {"data": [{"type": "tag", "id": "T1", "attributes": {"name": "evergreen"}}], "links": {"next": None}}
    del shop.tags["T3"]
    pipeline.server.faults.add(lambda request: request.url.path == "/api/tags", Fault(status=200, body=page))
    with pipeline.requested() as requests:
        pipeline.run("tags")
    assert [one.path for one in requests if one.endpoint == "get_tag"] == ["/api/tags/T2", "/api/tags/T3"]
    assert pipeline.ids("tags") == ["T1", "T2"]
    assert tagged(pipeline) == EVERY_PAIR


@pytest.mark.usefixtures("hasty")
def test_a_failed_listing_of_the_tags_deletes_none(shop: SandboxAccount, pipeline: Pipeline) -> None:
    list_everything(pipeline)
    shop.tags = {}
    pipeline.server.faults.add(path_starts("/api/tags"), Fault(status=500), times=5)
    pipeline.fail("tags")
    assert pipeline.ids("tags") == ["T1", "T2", "T3"]


def test_a_deleted_object_has_no_tags(shop: SandboxAccount, pipeline: Pipeline) -> None:
    list_everything(pipeline)
    shop.delete("flows", "F")
    pipeline.run("flows_census")
    assert [row[1] for row in tagged(pipeline) if row[0] == "flows"] == ["A"]


def test_a_tag_without_included_data_is_stored_by_its_id_until_its_name_is_listed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run("segments_census")
    monkeypatch.setattr("klaviyo_pipeline.sandbox.listing_endpoints.included", lambda call, entity, rows: [])
    pipeline.run("flows_census")
    pairs = "SELECT object_id, tag_id FROM object_tags WHERE entity = 'flows' AND deleted_at IS NULL ORDER BY 1, 2"
    assert pipeline.rows(pairs) == [("A", "T1"), ("F", "T1"), ("F", "T2")]
    assert pipeline.rows("SELECT id, name FROM tags ORDER BY id") == [("T1", "evergreen"), ("T2", None)]
    pipeline.run("tags")
    assert pipeline.rows("SELECT name FROM tags WHERE id = 'T2'") == ["Q4 🎁"]
    before = pipeline.versions("tags")
    pipeline.run("flows_census")
    assert pipeline.versions("tags") == before


def test_objects_without_tags_data_in_the_response_keep_their_tags_and_are_counted(
    shop: SandboxAccount, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_everything(pipeline)
    shop.put("flows", "A", tags=[])
    monkeypatch.setattr("klaviyo_pipeline.sandbox.documents._linkage", lambda target: None)
    result = pipeline.run("flows_census")
    assert metadata(result)["tags"] == "not returned for 2 objects, whose stored tags are left unchanged"
    assert tagged(pipeline) == EVERY_PAIR


# Without the scope.


@pytest.mark.usefixtures("scopeless")
def test_a_census_without_the_scope_of_tags_syncs_everything_but_the_tags_and_reports_this_once(
    pipeline: Pipeline,
) -> None:
    for entity in TAGGED:
        with pipeline.requested() as requests:
            result = pipeline.run(f"{entity}_census")
        assert metadata(result)["tags"] == "not requested: the key lacks tags:read"
        sent = sum(request.endpoint != "get_accounts" for request in requests)
        assert pipeline.one("SELECT requests FROM census_runs WHERE run_id = %s", result.run_id) == sent
        messages = [entry.user_message for entry in pipeline.instance.all_logs(result.run_id)]
        assert len([line for line in messages if "the key lacks tags:read" in line]) == 1
    assert [len(pipeline.ids(entity)) for entity in TAGGED] == [2, 1, 2]
    assert pipeline.rows("SELECT 1 FROM object_tags") == []


def test_a_census_whose_tags_are_forbidden_without_a_named_scope_reports_klaviyos_message(
    pipeline: Pipeline,
) -> None:
    pipeline.server.faults.add(
        lambda request: "tags" in request.query_params.get("include", ""), Fault.refusal(OTHER_403S["plan"]), times=9
    )
    result = pipeline.run("flows_census")
    assert "Account must have Advanced KDP enabled" in str(metadata(result)["tags"])
    assert "tags:read" not in str(metadata(result)["tags"])
    assert len(pipeline.ids("flows")) == 2


def test_tags_are_unchanged_when_the_scope_is_removed(shop: SandboxAccount, pipeline: Pipeline) -> None:
    list_everything(pipeline)
    shop.api_keys[key_of(shop)] = set(READ_SCOPES) - {"tags:read"}
    shop.tags_need_their_scope = True
    shop.put("flows", "F", tags=[])
    pipeline.run("flows_census")
    assert tagged(pipeline) == EVERY_PAIR


@pytest.mark.parametrize("tags_need_their_scope", [True, False])
def test_an_error_about_the_entitys_own_scope_names_that_scope(
    tags_need_their_scope: bool, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    shop.tags_need_their_scope = tags_need_their_scope
    shop.api_keys[key_of(shop)] = set(READ_SCOPES) - {"tags:read", "flows:read"}
    why = pipeline.fail("flows_census")
    assert "flows:read" in why
    assert "tags:read" not in why


def test_if_listings_do_not_require_the_scope_of_tags_a_key_without_it_has_their_tags(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    shop.api_keys[key_of(shop)] = set(READ_SCOPES) - {"tags:read"}
    for entity in TAGGED:
        pipeline.run(f"{entity}_census")
    assert tagged(pipeline) == EVERY_PAIR


@pytest.mark.usefixtures("scopeless")
def test_the_listing_of_the_tags_fails_and_names_the_required_scope(pipeline: Pipeline) -> None:
    why = pipeline.fail("tags")
    assert "tags:read" in why
    assert "get_tags" in why
    assert pipeline.rows("SELECT status FROM census_runs WHERE entity = 'tags'") == ["failed"]


@pytest.mark.usefixtures("scopeless", "home")
@pytest.mark.parametrize("named", [True, False])
def test_a_sync_without_the_scope_skips_the_tags_and_fails_if_they_were_named(named: bool, pipeline: Pipeline) -> None:
    day = date.fromisoformat(DAY)
    [result] = run_sync(pipeline.account, SyncRequest(("tags",), day, day, named=named))
    if named:
        assert "tags:read" in str(result.error)
        assert result.skipped is None
    else:
        assert result.error is None
        assert result.skipped == "the key lacks the scope tags:read; create a key with this scope and the present ones"
        assert result.run_ids == []
