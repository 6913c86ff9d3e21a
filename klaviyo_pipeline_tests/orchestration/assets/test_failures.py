"""What a failed run leaves behind: an error in the ledger and nothing incomplete; the next run syncs the rest."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from klaviyo_pipeline.orchestration.assets import entity_assets
from klaviyo_pipeline.planning import chunks
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, key_of, put, truth, utc

DAY = "2025-03-10"
NOON = utc("2025-03-10T12:00:00")

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
def segments(shop: SandboxAccount) -> None:
    """Three pages of segments, all of one day."""
    for number in range(25):
        put(shop, "segments", f"s{number:02}", NOON + timedelta(seconds=number))


@pytest.fixture
def flows(shop: SandboxAccount) -> None:
    """Two pages of flows, all of one day."""
    for number in range(60):
        put(shop, "flows", f"f{number:02}", NOON + timedelta(seconds=number), archived=False)


@pytest.mark.usefixtures("segments")
@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_lasting_error_fails_the_windows_with_its_reason_and_the_next_run_syncs_them(
    page: int, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    pipeline.server.faults.add(path_starts("/api/segments"), Fault(status=500), times=5, skip=page)
    pipeline.fail("segments", "2025-03-09", "2025-03-11")
    assert [status for _, status in pipeline.ledger("segments")] == ["failed"] * 3
    assert all("HTTP 500" in error for error in pipeline.rows("SELECT error FROM sync_windows"))
    assert pipeline.ids("segments") == []
    assert pipeline.rows("SELECT status, windows_failed FROM sync_status WHERE entity = 'segments'") == [("failed", 3)]
    pipeline.run("segments", "2025-03-09", "2025-03-11")
    assert pipeline.stored("segments") == truth(shop, "segments")
    assert pipeline.rows("SELECT status, error, attempts FROM sync_windows") == [("synced", None, 2)] * 3


@pytest.mark.usefixtures("segments")
def test_a_temporary_error_is_not_reported_as_a_failure(shop: SandboxAccount, pipeline: Pipeline) -> None:
    for skip in (0, 1, 2):
        pipeline.server.faults.add(path_starts("/api/segments"), Fault(status=503), times=2, skip=skip)
    pipeline.run("segments", DAY)
    assert pipeline.stored("segments") == truth(shop, "segments")


@pytest.mark.usefixtures("segments")
def test_rows_committed_before_a_failure_do_not_make_a_window_synced(
    shop: SandboxAccount, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entity_assets, "BATCH_ROWS", 10)
    pipeline.server.faults.add(path_starts("/api/segments"), Fault(status=500), times=5, skip=2)
    pipeline.fail("segments", DAY)
    assert pipeline.ledger("segments") == [(DAY, "failed")]
    pipeline.run("segments", DAY)
    assert pipeline.stored("segments") == truth(shop, "segments")


def test_a_failed_attempt_does_not_undo_synced(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put(shop, "forms", "f", NOON)
    pipeline.run("forms", DAY)
    pipeline.server.faults.add(path_starts("/api/forms"), Fault(status=500), times=5)
    pipeline.fail("forms", DAY)
    [(status, error, attempts)] = pipeline.rows("SELECT status, error, attempts FROM sync_windows")
    assert (status, attempts) == ("synced", 2)
    assert "HTTP 500" in error


def test_chunks_that_were_finished_before_a_failure_stay_synced(
    shop: SandboxAccount, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entity_assets, "CONCURRENT_LISTINGS", 1)
    monkeypatch.setattr(chunks, "SHORTEST_CHUNK", timedelta(days=2))
    for day in ("09", "10", "11", "12"):
        put(shop, "forms", f"f{day}", utc(f"2025-03-{day}T12:00:00"))
    pipeline.server.faults.add(path_starts("/api/forms"), Fault(status=500), times=5, skip=1)
    result = pipeline.attempt("forms", "2025-03-09", "2025-03-12")
    assert not result.success
    assert [status for _, status in pipeline.ledger("forms")] == ["synced", "synced", "synced", "failed"]
    assert pipeline.ids("forms") == ["f09", "f10", "f11"]
    reported = [event.partition for event in result.get_asset_materialization_events()]
    assert reported == ["2025-03-09", "2025-03-10", "2025-03-11"]


def test_a_wrong_key_fails_at_once_and_names_the_setting_to_check(shop: SandboxAccount, pipeline: Pipeline) -> None:
    key = key_of(shop)
    shop.api_keys = {}
    with pipeline.requested() as requests:
        why = pipeline.fail("flows", DAY)
    assert "Check KLAVIYO_API_KEY" in why
    assert len(requests) == 1
    assert pipeline.ledger("flows") == [(DAY, "failed")]
    assert key not in why + pipeline.one("SELECT error FROM sync_windows")


@pytest.mark.usefixtures("flows")
def test_a_key_that_is_revoked_while_pages_are_read_leaves_nothing_incomplete(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    keys = dict(shop.api_keys)

    def revoke(request: Any) -> bool:
        if "page[cursor]" in request.query_params:
            shop.api_keys = {}
        return False

    pipeline.server.faults.add(revoke, Fault())
    assert "Check KLAVIYO_API_KEY" in pipeline.fail("flows", DAY)
    assert (pipeline.ids("flows"), pipeline.ledger("flows")) == ([], [(DAY, "failed")])
    pipeline.server.faults.clear()
    shop.api_keys = keys
    pipeline.run("flows", DAY)
    assert pipeline.stored("flows") == truth(shop, "flows")


def test_a_missing_scope_is_named(shop: SandboxAccount, pipeline: Pipeline) -> None:
    shop.api_keys[key_of(shop)] -= {"segments:read"}
    assert "segments:read" in pipeline.fail("segments", DAY)
    assert "segments:read" in pipeline.one("SELECT error FROM sync_windows")
    pipeline.run("forms", DAY)


def test_an_address_that_does_not_reply_is_reported(pipeline: Pipeline) -> None:
    pipeline.configure(api_url="http://127.0.0.1:9")
    assert "cannot be reached" in pipeline.fail("flows", DAY)


@pytest.mark.usefixtures("flows")
def test_a_cursor_that_expires_between_pages_restarts_the_listing_without_loss(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    expired: list[str] = []

    def expire(request: Any) -> bool:
        if "page[cursor]" in request.query_params and not expired:
            expired.append(request.url.path)
            shop.expire_cursors()
        return False

    pipeline.server.faults.add(expire, Fault())
    pipeline.run("flows", DAY)
    assert expired
    assert pipeline.stored("flows") == truth(shop, "flows")
    assert pipeline.one("SELECT count(*) FROM flows_history") == 60


@pytest.mark.usefixtures("flows")
def test_a_cursor_that_expires_every_time_fails_in_the_end(shop: SandboxAccount, pipeline: Pipeline) -> None:
    def expire(request: Any) -> bool:
        if "page[cursor]" in request.query_params:
            shop.expire_cursors()
        return False

    pipeline.server.faults.add(expire, Fault())
    assert "cursor" in pipeline.fail("flows", DAY)
    assert pipeline.ledger("flows") == [(DAY, "failed")]


def test_a_listing_whose_pages_form_a_loop_fails_instead_of_running_forever(pipeline: Pipeline) -> None:
    again = f"{pipeline.server.url}/api/forms?page%5Bcursor%5D=again"
    page = Fault(body={"data": [], "links": {"self": again, "next": again, "prev": None}})
    pipeline.server.faults.add(path_starts("/api/forms"), page, times=10)
    with pipeline.requested() as requests:
        assert "does not end" in pipeline.fail("forms", DAY)
    assert sum(request.path == "/api/forms" for request in requests) == 2
    assert pipeline.ledger("forms") == [(DAY, "failed")]


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {}}, {"data": [{"type": "form", "attributes": {}}]}])
def test_a_response_that_is_not_a_listing_does_not_count_as_an_empty_one(
    body: dict[str, Any], pipeline: Pipeline
) -> None:
    pipeline.server.faults.add(path_starts("/api/forms"), Fault(status=200, body=json.dumps(body)), times=9)
    pipeline.fail("forms", DAY)
    assert pipeline.ledger("forms") == [(DAY, "failed")]


def test_a_database_without_tables_is_reported_with_the_command_that_makes_them(pipeline: Pipeline) -> None:
    pipeline.execute("DROP SCHEMA shop CASCADE")
    assert "klaviyo-pipeline migrate" in pipeline.fail("flows", DAY)
