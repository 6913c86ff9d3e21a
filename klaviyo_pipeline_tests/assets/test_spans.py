"""Chains that are cut while they are read: every object of the windows comes, once, wherever the rows lie."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from klaviyo_pipeline.assets.reading import read_side_by_side
from klaviyo_pipeline.assets.spans import ChainReading, Cutting, spans_of
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS, FORMS, MOST_CUTS, OVERLAP, SEGMENTS, Listing
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.partitions import Window

FIRST = datetime(2025, 2, 1, tzinfo=UTC)
DAYS = 365
NOW = FIRST + timedelta(days=DAYS, hours=5)
WINDOWS = [
    Window(FIRST + timedelta(days=day), FIRST + timedelta(days=day + 1), f"{FIRST + timedelta(days=day):%Y-%m-%d}")
    for day in range(DAYS)
]
PAGE = 10

Rows = Sequence[tuple[str, datetime]]
"""Id and time, in the order in which the listing shows them."""

IN_ORDER, SOME_LATE, SOME_AHEAD = timedelta(), timedelta(hours=23), -timedelta(days=200)


def evenly(dice: random.Random) -> float:
    return dice.random()


def late_in_the_year(dice: random.Random) -> float:
    return max(dice.random() for _ in range(6))


def in_two_weeks(dice: random.Random) -> float:
    return 0.7 + dice.random() * 14 / DAYS


def rows_of(dice: random.Random, place: Callable[[random.Random], float], late: timedelta) -> Rows:
    """Rows over the year and a bit beyond both of its ends; some come up to `late` later than their place, or ahead."""
    rows = []
    for number in range(600):
        moment = FIRST - timedelta(days=3) + timedelta(days=DAYS + 3) * place(dice)
        shown_at = moment + late * dice.random() if dice.random() < 0.01 else moment
        rows.append((shown_at, f"o{number}", moment))
    return [(id, moment) for _, id, moment in sorted(rows)]


def read(listing: Listing, rows: Rows, readers: int) -> tuple[Counter[str], int]:
    """How often each object of the windows came, and how many chains were read."""
    spans = list(spans_of(listing, WINDOWS, NOW))
    tasks = [reading for span in spans for reading in span.readings]

    def pages(reading: ChainReading) -> Iterator[Rows]:
        chain = reading.chain
        assert chain.since is not None
        least = chain.since - OVERLAP
        most = chain.end + OVERLAP if chain.end and listing.time_operators[1] else NOW
        shown = [row for row in rows if least <= row[1] < most]
        for first in range(0, max(1, len(shown)), PAGE):
            page = shown[first : first + PAGE]
            reading.order.look([moment for _, moment in page], is_last=first + PAGE >= len(shown))
            yield page
            if reading.order.is_passed:
                break
        reading.is_over = True

    came: Counter[str] = Counter()
    for item in read_side_by_side(
        tasks, pages, workers=readers, stop=threading.Event(), part=Cutting(listing, tasks, NOW).part
    ):
        for id, moment in item.page or ():
            if item.task.brings(Record(id=id, values={"updated_at": moment})):
                came[id] += item.task.span.index_of(moment) is not None
    return +came, sum(len(span.readings) for span in spans)


@pytest.mark.parametrize("listing", [SEGMENTS, FORMS], ids=lambda listing: listing.entity)
@pytest.mark.parametrize("place", [evenly, late_in_the_year, in_two_weeks])
@pytest.mark.parametrize("late", [IN_ORDER, SOME_LATE, SOME_AHEAD], ids=["in order", "some late", "some ahead"])
def test_every_object_of_the_windows_comes_once(
    listing: Listing, place: Callable[[random.Random], float], late: timedelta
) -> None:
    for seed in range(15):
        rows = rows_of(random.Random(seed), place, late)
        begun = sum(len(span.readings) for span in spans_of(listing, WINDOWS, NOW))
        wanted = {id: 1 for id, moment in rows if FIRST <= moment < WINDOWS[-1].end}
        for readers in (1, 3, 8):
            came, chains = read(listing, rows, readers)
            assert came == wanted, f"seed {seed}, {readers} readers"
            assert chains <= begun + MOST_CUTS


def test_what_lies_ahead_within_days_is_not_cut_and_keeps_no_other_from_it() -> None:
    [short] = next(spans_of(SEGMENTS, WINDOWS[:9], NOW)).readings
    short.order.look([WINDOWS[0].start, WINDOWS[0].start + timedelta(minutes=5)])
    long = next(spans_of(SEGMENTS, WINDOWS, NOW)).readings[0]
    long.order.look([WINDOWS[0].start, WINDOWS[1].start])
    cutting = Cutting(SEGMENTS, [short, long], NOW)
    assert cutting.part(short) is None
    assert cutting.part(long) is not None


def test_a_listing_that_is_known_to_come_out_of_order_is_not_cut() -> None:
    cut = {}
    for reading in list(next(spans_of(CAMPAIGNS, WINDOWS, NOW)).readings):
        reading.order.look([WINDOWS[0].start, WINDOWS[1].start])
        cut[reading.chain.variant] = Cutting(CAMPAIGNS, [reading], NOW).part(reading) is not None
    assert {variant for variant, was in cut.items() if not was} == {name for name in cut if "archived" in name}
    assert any(cut.values())
