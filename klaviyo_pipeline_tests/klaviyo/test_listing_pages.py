"""Listings read completely from a simulated account, whatever its cursors and links are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from klaviyo_pipeline.klaviyo import errors
from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.listings import FLAT_CAMPAIGNS, FLOWS, FORMS, SEGMENTS, Listing
from klaviyo_pipeline.klaviyo.tags import TAGS
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.support import empty_shop, key_of, put

from .fakes import NOON, StillPacer

START = NOON - timedelta(days=40)
WINDOW = (START - timedelta(days=1), NOON - timedelta(days=1))
OTHERS = (FLOWS, FLAT_CAMPAIGNS, SEGMENTS)
EVERY = [FORMS, *OTHERS]

Read = Callable[[Listing, tuple[datetime | None, datetime | None]], Counter[str]]


@pytest.fixture
def shop() -> SandboxAccount:
    return empty_shop(clock=lambda: NOON)


@pytest.fixture
def server(shop: SandboxAccount) -> Iterator[SandboxServer]:
    with SandboxServer(shop, rate_scale=0) as server:
        yield server


@pytest.fixture
def client(shop: SandboxAccount, server: SandboxServer) -> Iterator[KlaviyoClient]:
    with KlaviyoClient(api_key=key_of(shop), base_url=server.url, pacer=StillPacer()) as client:
        yield client


@pytest.fixture
def read(client: KlaviyoClient) -> Read:
    """How often each object came, of a window or of everything."""

    def came(listing: Listing, bounds: tuple[datetime | None, datetime | None]) -> Counter[str]:
        queries = listing.queries(*bounds, NOON)
        return Counter(one.id for query in queries for page in client.pages(listing, query) for one in page.records)

    return came


def fill(shop: SandboxAccount, listing: Listing, count: int, *, every: int = 1) -> Counter[str]:
    """Objects, `every` so many to a second of both of their times; campaigns have one channel and are not archived."""
    for number in range(count):
        moment = START + timedelta(seconds=number // every)
        put(shop, listing.entity, f"o{number:03}", moment, **{str(listing.created_field): moment - timedelta(days=1)})
    return Counter(f"o{number:03}" for number in range(count))


@pytest.mark.parametrize("repeats", [False, True], ids=["left out", "repeated"])
@pytest.mark.parametrize("bounds", [WINDOW, (None, None)], ids=["window", "census"])
@pytest.mark.parametrize("listing", EVERY, ids=lambda one: one.entity)
def test_a_cursor_without_an_id_loses_no_object_of_its_second_and_repeats_none(
    listing: Listing,
    bounds: tuple[datetime | None, datetime | None],
    repeats: bool,
    shop: SandboxAccount,
    read: Read,
) -> None:
    shop.cursors_without_id, shop.repeats_ties = frozenset({listing.entity}), repeats
    size = listing.page_size
    # Three to a second: those of the first page's last second are on both sides of its border.
    expected = fill(shop, listing, 2 * size + size // 2, every=3)
    assert read(listing, bounds) == expected


@pytest.mark.parametrize("repeats", [False, True], ids=["left out", "repeated"])
def test_more_forms_of_a_second_than_a_page_has_are_distinguished_by_their_other_time(
    repeats: bool, shop: SandboxAccount, read: Read
) -> None:
    shop.repeats_ties = repeats
    forms = {f"o{number:03}": START + timedelta(seconds=number // 2) for number in range(250)}
    for id, moment in forms.items():
        put(shop, "forms", id, moment, created_at=START - timedelta(days=1))
    assert set(read(FORMS, WINDOW)) == set(forms)


def test_more_forms_than_a_page_has_with_the_same_times_are_an_error(shop: SandboxAccount, read: Read) -> None:
    for number in range(150):
        put(shop, "forms", f"o{number:03}", START, created_at=START)
    with pytest.raises(errors.IndistinctObjects, match="forms"):
        read(FORMS, WINDOW)


def test_more_forms_than_a_page_has_with_the_same_times_are_read_where_cursors_report_them_apart(
    shop: SandboxAccount, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.cursors_without_id = frozenset()
    # Cursors that hold nothing that could be read.
    monkeypatch.setattr("klaviyo_pipeline.sandbox.listing_endpoints._cursor_text", lambda *_: None)
    for number in range(250):
        put(shop, "forms", f"o{number:03}", START, created_at=START)
    assert set(read(FORMS, WINDOW)) == {f"o{number:03}" for number in range(250)}


def test_a_border_costs_a_request_only_where_the_cursor_does_not_name_the_last_object(
    shop: SandboxAccount, server: SandboxServer, read: Read
) -> None:
    expected = fill(shop, FORMS, 250)
    assert read(FORMS, WINDOW) == expected
    assert len(server.requests) == 3 + 2
    shop.cursors_without_id = frozenset()
    assert read(FORMS, WINDOW) == expected
    assert len(server.requests) == 5 + 3


@pytest.mark.parametrize("bounds", [WINDOW, (None, None)], ids=["window", "census"])
@pytest.mark.parametrize("listing", EVERY, ids=lambda one: one.entity)
def test_a_full_page_without_links_ends_no_listing(
    listing: Listing,
    bounds: tuple[datetime | None, datetime | None],
    shop: SandboxAccount,
    server: SandboxServer,
    read: Read,
) -> None:
    shop.full_pages_lack_links = True
    for pages in (1, 2, 3, 5):
        expected = fill(shop, listing, pages * listing.page_size)
        assert set(read(listing, bounds)) == set(expected)


def test_only_a_full_last_page_is_followed_by_another_request(
    shop: SandboxAccount, server: SandboxServer, read: Read
) -> None:
    for listing in (FORMS, SEGMENTS):
        size = listing.page_size
        for count, requests in ((0, 1), (size - 1, 1), (size, 2)):
            expected, before = fill(shop, listing, count), len(server.requests)
            assert read(listing, WINDOW) == expected
            assert len(server.requests) - before == requests


def test_tags_beyond_a_full_page_without_links_are_read_backwards_or_missed_aloud(
    shop: SandboxAccount, read: Read
) -> None:
    shop.full_pages_lack_links = True
    shop.tags = {f"T{number:03}": "tag" for number in range(90)}
    assert set(read(TAGS, (None, None))) == set(shop.tags)
    shop.tags = {f"T{number:03}": "tag" for number in range(150)}
    with pytest.raises(errors.IndistinctObjects, match="tags"):
        read(TAGS, (None, None))


def test_an_object_that_is_changed_while_its_listing_is_read_is_not_lost(
    shop: SandboxAccount, client: KlaviyoClient
) -> None:
    for listing in EVERY:
        fill(shop, listing, listing.page_size + 5)
        [query, *_] = listing.queries(WINDOW[0], None, NOON)
        pages = client.pages(listing, query)
        came = {record.id for record in next(pages).records}
        for number in range(0, listing.page_size + 5, 2):
            put(shop, listing.entity, f"o{number:03}", NOON - timedelta(minutes=5))
        came |= {record.id for page in pages for record in page.records}
        assert len(came) == listing.page_size + 5


def test_a_query_with_an_end_stops_behind_it(
    shop: SandboxAccount, server: SandboxServer, client: KlaviyoClient
) -> None:
    fill(shop, SEGMENTS, 100)
    [query] = SEGMENTS.queries(*WINDOW, NOON)
    until = START + timedelta(seconds=25)
    short = replace(query, sort="updated", since=WINDOW[0], until=until)
    assert sum(len(page.records) for page in client.pages(SEGMENTS, short)) == 30
    assert len(server.requests) == 3
