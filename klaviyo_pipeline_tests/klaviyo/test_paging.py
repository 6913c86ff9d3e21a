"""Pages of a listing, from the first to the last."""

import json
from datetime import timedelta
from typing import Any

import pytest

from klaviyo_pipeline.klaviyo import errors, paging
from klaviyo_pipeline.klaviyo.listing_pages import Page
from klaviyo_pipeline.klaviyo.listing_revisions import FLAT_CAMPAIGNS
from klaviyo_pipeline.klaviyo.listings import FLOWS
from klaviyo_pipeline.klaviyo.reports import FLOW_SERIES

from .conftest import Bench
from .fakes import NOON
from .resources import campaign, flow, page, result, series
from .scripted_server import Scripted, failed, ok, refused

EXPIRED = refused(400, "Invalid cursor provided.")
QUERY = FLOWS.queries(None, None, NOON)[0]


def link(bench: Bench, cursor: str) -> str:
    return f"{bench.server.url}/api/flows?page%5Bcursor%5D={cursor}&sort=updated"


def read(bench: Bench) -> list[Page]:
    return list(bench.client.pages(FLOWS, QUERY))


def ids(pages: list[Page]) -> list[list[str]]:
    return [[record.id for record in page.records] for page in pages]


def test_a_listing_follows_its_links_to_the_end(bench: Bench) -> None:
    bench.server.will(
        ok(page(flow("F1"), flow("F2"), next=link(bench, "two%3D%3D"))),
        ok(page(next=link(bench, "three"))),
        ok(page(flow("F3"))),
    )
    pages = read(bench)
    assert ids(pages) == [["F1", "F2"], [], ["F3"]]
    assert [one.observed_at for one in pages] == [NOON + timedelta(seconds=at) for at in range(3)]
    first, second, _ = bench.server.requested
    assert first.query == {
        "sort": "id",
        "page[size]": "50",
        "include": "flow-actions",
    }
    assert second.target == "/api/flows?page%5Bcursor%5D=two%3D%3D&sort=updated"
    assert second.query["page[cursor]"] == "two=="


@pytest.mark.parametrize("link", ["/api/flows?page%5Bcursor%5D=b", "?page%5Bcursor%5D=b", " /api/flows?x=1\n"])
def test_a_relative_link_stays_on_the_host(bench: Bench, link: str) -> None:
    bench.server.will(ok(page(flow("F1"), next=link)), ok(page(flow("F2"))))
    assert ids(read(bench)) == [["F1"], ["F2"]]
    assert bench.server.requested[1].path == "/api/flows"


def test_an_empty_listing_is_one_page_without_records(bench: Bench) -> None:
    bench.server.will(ok(page()))
    assert ids(read(bench)) == [[]]


def test_a_page_is_requested_only_when_it_is_wanted(bench: Bench) -> None:
    bench.server.will(ok(page(flow("F1"), next=link(bench, "b"))), ok(page()))
    pages = bench.client.pages(FLOWS, QUERY)
    next(pages)
    assert len(bench.server.requested) == 1


def test_a_listing_without_links_ends(bench: Bench) -> None:
    bench.server.will(ok({"data": [flow("F1")]}))
    assert ids(read(bench)) == [["F1"]]


def test_a_retried_page_counts_its_requests_and_has_the_time_of_the_successful_one(bench: Bench) -> None:
    bench.server.will(refused(503), ok(page(flow("F1"))))
    (only,) = read(bench)
    assert (only.requests, only.observed_at) == (2, NOON + timedelta(seconds=1))


OTHER_WORDS = failed(400, {"code": "invalid", "detail": "Not valid.", "source": {"parameter": "page[cursor]"}})


@pytest.mark.parametrize("expired", [EXPIRED, refused(400, "This cursor has expired."), OTHER_WORDS])
def test_an_expired_cursor_starts_the_listing_again_without_loss(bench: Bench, expired: Scripted) -> None:
    bench.server.will(
        ok(page(flow("F1"), next=link(bench, "b"))),
        expired,
        ok(page(flow("F1"), next=link(bench, "b"))),
        ok(page(flow("F2"))),
    )
    pages = read(bench)
    assert ids(pages) == [["F1"], ["F1"], ["F2"]]
    assert [one.restarted for one in pages] == [False, True, True]
    assert bench.server.requested[2].target == bench.server.requested[0].target
    assert [one.requests for one in pages] == [1, 2, 1]


def test_a_cursor_that_expires_a_third_time_is_an_error(bench: Bench) -> None:
    first = ok(page(flow("F1"), next=link(bench, "b")))
    bench.server.will(*[first, EXPIRED] * 3)
    with pytest.raises(errors.CursorExpired):
        read(bench)
    assert len(bench.server.requested) == 6


def test_a_cursor_error_on_the_first_page_is_an_error(bench: Bench) -> None:
    bench.server.will(EXPIRED)
    with pytest.raises(errors.CursorExpired):
        read(bench)


@pytest.mark.parametrize("links", [["b", "b"], ["b", "c", "b"]])
def test_a_listing_that_links_to_an_earlier_page_is_a_loop(bench: Bench, links: list[str]) -> None:
    bench.server.will(*[ok(page(flow("F1"), next=link(bench, cursor))) for cursor in links])
    with pytest.raises(errors.PaginationLoop, match="get_flows"):
        read(bench)


def test_a_listing_whose_cursors_never_end_stops_at_the_page_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MOST_PAGES", 4)
    bench.server.will(*[ok(page(next=link(bench, str(at)))) for at in range(9)])
    with pytest.raises(errors.PaginationLoop):
        read(bench)
    assert len(bench.server.requested) == 4


@pytest.mark.parametrize("output", [(), ("F1", "F2")])
def test_a_listing_with_new_cursors_and_nothing_new_is_a_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, output: tuple[str, ...]
) -> None:
    monkeypatch.setattr(paging, "STALE_PAGES", 3)
    pages = [ok(page(*map(flow, output), next=link(bench, str(at)))) for at in range(9)]
    bench.server.will(*pages)
    with pytest.raises(errors.PaginationLoop, match="nothing new"):
        read(bench)
    assert len(bench.server.requested) <= 5


@pytest.mark.parametrize("results", [[], [result(1)]])
def test_a_report_with_new_cursors_and_nothing_new_is_a_loop(bench: Bench, results: list[Any]) -> None:
    bench.server.will(*[ok(series(results, ["2026-07-01"], next=link(bench, str(at)))) for at in range(9)])
    with pytest.raises(errors.PaginationLoop, match="nothing new"):
        list(bench.client.report_pages(FLOW_SERIES, {"data": {}}))
    assert len(bench.server.requested) <= paging.STALE_REPORT_PAGES + 2


def test_some_empty_pages_do_not_end_a_listing(bench: Bench) -> None:
    empty = [ok(page(next=link(bench, str(at)))) for at in range(3)]
    bench.server.will(ok(page(flow("F1"), next=link(bench, "a"))), *empty, ok(page(flow("F2"))))
    assert ids(read(bench)) == [["F1"], [], [], [], ["F2"]]


def test_the_error_of_a_record_without_an_id_names_the_request_and_a_remedy(bench: Bench) -> None:
    bench.server.will(ok(page({"type": "flow", "attributes": {}}), x_klaviyo_req_id="r9"))
    with pytest.raises(errors.MalformedAnswer, match="no valid id") as raised:
        read(bench)
    assert (raised.value.endpoint, raised.value.request_id) == ("get_flows", "r9")
    assert "has no valid id: None. Run again later; if the error persists, report this line. (" in str(raised.value)


def test_campaigns_have_the_channel_of_their_listing(bench: Bench) -> None:
    queries = FLAT_CAMPAIGNS.queries(None, None, NOON)
    bench.server.will(*[ok(page(campaign("C1"))) for _ in queries])
    channels = [
        record.values["channel"]
        for query in queries
        for one in bench.client.pages(FLAT_CAMPAIGNS, query)
        for record in one.records
    ]
    assert channels == ["email", "email", "sms", "sms", "mobile_push", "mobile_push"]


def test_nul_lone_surrogates_and_lookalikes_are_escaped_in_records(bench: Bench) -> None:
    text = json.dumps(page(flow("F1", name="a\0b\ud800c␛u0000\U0001f600"), flow("F2", name="clean")))
    bench.server.will(Scripted(200, text.encode()))
    (only,) = read(bench)
    assert [record.values["name"] for record in only.records] == [
        "a␛u0000b␛uD800c␛␛u0000\U0001f600",
        "clean",
    ]
    assert [record.escapes for record in only.records] == [2, 0]
