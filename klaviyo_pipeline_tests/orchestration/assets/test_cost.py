"""The cost of a backfill: one run, and requests that grow with pages, not with windows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from klaviyo_pipeline.klaviyo.listings import MOST_SPLITS
from klaviyo_pipeline.sandbox import listing_endpoints as listing_pages
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, pipeline_on, put, truth, utc

FIRST, LAST = "2025-02-01", "2026-01-31"
DAYS = 365
FLOWS = 260
HANDFUL = 8
SEGMENTS = 400

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(date.today() <= date.fromisoformat(LAST), reason="the clock is before the test's year"),
]


@pytest.fixture
def year(migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """Flows spread over a year, each with a message that has values on some days."""
    shop = empty_shop()
    for number in range(FLOWS):
        moment = utc("2025-02-01T12:00:00") + timedelta(days=DAYS * number // FLOWS)
        put(shop, "flows", f"f{number:03}", moment, archived=number % 5 == 0)
        groupings = {"flow_id": f"f{number:03}", "flow_message_id": "M", "send_channel": "email"}
        shop.set_figures("flow", groupings, moment.date(), {"recipients": 1})
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        yield pipeline


def listings(pipeline: Pipeline, first: str, last: str) -> int:
    """The pages that a run over these windows requests."""
    with pipeline.requested() as requests:
        pipeline.run("flows", first, last)
    return Counter(request.endpoint for request in requests)["get_flows"]


def test_a_year_of_windows_is_one_run_that_reads_only_a_few_more_pages_than_a_single_window(year: Pipeline) -> None:
    over_the_year = listings(year, FIRST, LAST)
    expected = truth(year.shop, "flows")
    assert year.stored("flows") == expected
    assert len(year.ledger("flows")) == DAYS
    assert year.one("SELECT count(DISTINCT run_id) FROM sync_windows") == 1
    assert year.one("SELECT sum(requests) FROM sync_windows") == over_the_year
    key = dg.AssetKey([year.account.slug, "flows"])
    assert len(year.instance.get_materialized_partitions(key)) == DAYS
    for id in expected:
        put(year.shop, "flows", id, utc("2025-06-15T12:00:00"))
    in_one_window = listings(year, "2025-06-15", "2025-06-15")
    assert in_one_window >= FLOWS // 50
    assert over_the_year <= in_one_window + HANDFUL


def segments_over_the_year(year: Pipeline) -> None:
    for number in range(SEGMENTS):
        put(year.shop, "segments", f"s{number:03}", utc("2025-02-01") + timedelta(days=DAYS) * number / SEGMENTS)


def test_a_year_of_segments_is_complete_and_costs_at_most_two_pages_for_each_query(year: Pipeline) -> None:
    segments_over_the_year(year)
    with year.requested() as requests:
        year.run("segments", FIRST, LAST)
    assert year.stored("segments") == truth(year.shop, "segments")
    assert year.one("SELECT sum(rows_fetched) FROM sync_windows WHERE entity = 'segments'") == SEGMENTS
    requested = [request for request in requests if request.endpoint == "get_segments"]
    assert len({request.query["filter"] for request in requested}) == MOST_SPLITS
    assert SEGMENTS // 10 < len(requested) <= SEGMENTS // 10 + 2 * MOST_SPLITS
    assert year.one("SELECT sum(requests) FROM sync_windows WHERE entity = 'segments'") == len(requested)


def test_a_year_of_segments_whose_cursors_do_not_point_to_objects_is_one_query_by_id(year: Pipeline) -> None:
    year.shop.cursors_without_id = frozenset({"segments"})
    segments_over_the_year(year)
    with year.requested() as requests:
        year.run("segments", FIRST, LAST)
    assert year.stored("segments") == truth(year.shop, "segments")
    sorts = [request.query["sort"] for request in requests if request.endpoint == "get_segments"]
    # The last page is full, so one more page is requested.
    assert Counter(sorts) == {"updated": 1, "id": SEGMENTS // 10, "-id": 1}


def test_segments_concentrated_in_a_fifth_of_the_year_are_read_once(year: Pipeline) -> None:
    for number in range(SEGMENTS):
        put(year.shop, "segments", f"s{number:03}", utc("2025-11-20") + timedelta(days=70) * number / SEGMENTS)
    year.run("segments", FIRST, LAST)
    assert year.stored("segments") == truth(year.shop, "segments")
    assert year.one("SELECT sum(rows_fetched) FROM sync_windows WHERE entity = 'segments'") == SEGMENTS
    assert year.one("SELECT count(*) FROM segments_history") == SEGMENTS


def test_a_segment_that_appears_late_at_a_split_is_returned_by_the_next_query(
    year: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments_over_the_year(year)
    extent = timedelta(days=DAYS)
    split = utc("2025-02-01") + extent * (1 / MOST_SPLITS) ** 0.5
    behind = math.ceil((split - utc("2025-02-01")) / extent * SEGMENTS)
    late, place = f"s{behind - 1:03}", listing_pages._place
    shifted = utc("2025-02-01") + extent * (behind + 30) / SEGMENTS

    def placed(row: Any, field: str, entity: Any) -> Any:
        found = place(row, field, entity)
        return (found[0], shifted, found[2]) if row[0].id == late and field == "updated" else found

    monkeypatch.setattr(listing_pages, "_place", placed)
    year.run("segments", FIRST, LAST)
    assert year.stored("segments") == truth(year.shop, "segments")
    assert year.one("SELECT sum(rows_fetched) FROM sync_windows WHERE entity = 'segments'") == SEGMENTS


def test_a_year_of_the_flow_report_takes_seven_requests(year: Pipeline) -> None:
    year.run("flows_census")
    with year.requested() as requests:
        year.run("flow_report", FIRST, LAST)
    requested = Counter(request.endpoint for request in requests)
    assert requested["query_flow_series"] == 7
    assert sum(requested.values()) <= 7 + 3  # plus the account and the conversion metric
    assert year.one("SELECT sum(recipients) FROM flow_report") == FLOWS
    with year.requested() as requests:
        year.run("flow_metrics", FIRST, "2025-02-28")
    assert requests == []


def test_each_materialized_window_reports_its_own_values(year: Pipeline) -> None:
    put(year.shop, "flows", "f001", utc("2025-02-02T12:00:00"))
    put(year.shop, "flows", "f002", utc("2025-02-04T12:00:00"))
    result = year.run("flows", FIRST, "2025-02-03")
    reported = {
        event.partition: event.materialization.metadata["rows_fetched"].value
        for event in result.get_asset_materialization_events()
    }
    assert reported == {"2025-02-01": 1, "2025-02-02": 1, "2025-02-03": 0}
