"""Chunks and their queries: every object of the windows is counted once, whatever the distribution of the rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from klaviyo_pipeline.klaviyo.listing_pages import Page
from klaviyo_pipeline.klaviyo.listing_query import ListingQuery
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS, FLOWS, FORMS, OVERLAP, SEGMENTS, Listing
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.klaviyo.sorting import SortMonitor
from klaviyo_pipeline.planning.chunks import chunks_of
from klaviyo_pipeline.windows import Window

FIRST = datetime(2025, 2, 1, tzinfo=UTC)
DAYS = 365
NOW = FIRST + timedelta(days=DAYS, hours=5)
WINDOWS = [
    Window(FIRST + timedelta(days=day), FIRST + timedelta(days=day + 1), f"{FIRST + timedelta(days=day):%Y-%m-%d}")
    for day in range(DAYS)
]
PAGE = 10

Rows = Sequence[tuple[str, datetime]]
"""Id and time, in the order of the listing."""

IN_ORDER, SOME_LATE, SOME_AHEAD = timedelta(), timedelta(hours=23), -timedelta(days=200)


def evenly(dice: random.Random) -> float:
    return dice.random()


def late_in_the_year(dice: random.Random) -> float:
    return max(dice.random() for _ in range(6))


def in_two_weeks(dice: random.Random) -> float:
    return 0.7 + dice.random() * 14 / DAYS


def rows_of(dice: random.Random, place: Callable[[random.Random], float], late: timedelta) -> Rows:
    """Rows over the year and a little beyond both ends; some are listed up to `late` after their time, or before."""
    rows = []
    for number in range(600):
        moment = FIRST - timedelta(days=3) + timedelta(days=DAYS + 3) * place(dice)
        seen_at = moment + late * dice.random() if dice.random() < 0.01 else moment
        rows.append((seen_at, f"o{number}", moment))
    return [(id, moment) for _, id, moment in sorted(rows)]


def pages(listing: Listing, query: ListingQuery, windows: Sequence[Window], rows: Rows) -> Iterator[Rows]:
    """The pages of a query that are read, with rows in the order of the listing."""
    least = (query.since or windows[0].start) - OVERLAP
    most = windows[-1].end + OVERLAP if listing.time_operators[1] else NOW
    returned = [row for row in rows if least <= row[1] < most]
    monitor = SortMonitor(query.until)
    for first in range(0, max(1, len(returned)), PAGE):
        page = returned[first : first + PAGE]
        yield page
        monitor.add([moment for _, moment in page])
        if monitor.is_passed:
            break


@pytest.mark.parametrize("listing", [SEGMENTS, FORMS], ids=lambda listing: listing.entity)
@pytest.mark.parametrize("place", [evenly, late_in_the_year, in_two_weeks])
@pytest.mark.parametrize("late", [IN_ORDER, SOME_LATE, SOME_AHEAD], ids=["in order", "some late", "some ahead"])
def test_every_object_of_the_windows_counts_once(
    listing: Listing, place: Callable[[random.Random], float], late: timedelta
) -> None:
    for seed in range(15):
        rows = rows_of(random.Random(seed), place, late)
        counted: Counter[str] = Counter()
        for chunk in chunks_of(listing, WINDOWS, NOW):
            for query in chunk.queries:
                for page in pages(listing, query, chunk.windows, rows):
                    for id, moment in page:
                        index = chunk.index_of(query, Record(id=id, values={"updated_at": moment}))
                        assert index is None or WINDOWS[index].start <= moment < WINDOWS[index].end
                        counted[id] += index is not None
        assert +counted == {id: 1 for id, moment in rows if FIRST <= moment < WINDOWS[-1].end}, f"seed {seed}"


@pytest.mark.parametrize(
    ("listing", "days", "lengths", "queries"),
    [
        (FORMS, 1, [1], 1),
        (FORMS, 239, [239], 1),
        (FORMS, 240, [170, 70], 1),
        (CAMPAIGNS, 365, [211, 87, 67], 1),
        (SEGMENTS, 365, [365], 8),
    ],
    ids=lambda value: value.entity if isinstance(value, Listing) else str(value),
)
def test_a_range_is_a_few_chunks_and_later_ones_are_shorter(
    listing: Listing, days: int, lengths: list[int], queries: int
) -> None:
    found = list(chunks_of(listing, WINDOWS[:days], NOW))
    assert [len(chunk.queries) for chunk in found] == [queries] * len(lengths)
    assert [window for chunk in found for window in chunk.windows] == WINDOWS[:days]
    assert [len(chunk.windows) for chunk in found] == lengths


def test_a_window_counts_an_object_once_however_often_it_is_listed() -> None:
    [chunk] = chunks_of(FLOWS, WINDOWS[:2], NOW)
    current, archived = chunk.queries
    chunk.note(Page([], NOW, 1))
    for query in (current, current, archived):
        assert chunk.index_of(query, Record(id="o1", values={"updated_at": FIRST})) == 0
    chunk.index_of(current, Record(id="o2", values={"updated_at": None}))
    assert [one.objects for one in chunk.complete()] == [1, 1]


def test_many_years_have_no_more_chunks_than_one_year() -> None:
    years = [
        Window(FIRST + timedelta(days=day), FIRST + timedelta(days=day + 1), str(day)) for day in range(-3000, DAYS)
    ]
    assert len(list(chunks_of(FORMS, years, NOW))) == 3


def test_a_listing_that_may_not_be_split_is_a_single_query_in_a_stable_order() -> None:
    [chunk] = chunks_of(SEGMENTS, WINDOWS, NOW, split=False)
    [query] = chunk.queries
    assert (query.sort, query.since, query.until) == ("id", None, None)
