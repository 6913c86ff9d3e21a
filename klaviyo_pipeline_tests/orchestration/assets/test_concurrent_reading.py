"""Listings read concurrently: every page of each arrives in order, and an early end leaves no reader running."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from klaviyo_pipeline.orchestration.assets.concurrent_reading import read_concurrently

PAGES = 40


def numbers(first: int) -> Iterator[int]:
    yield from range(first, first + PAGES)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("klaviyo-listing")]


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("tasks", [0, 1, 3, 12])
def test_every_page_arrives_once_and_in_order_before_its_listings_end(workers: int, tasks: int) -> None:
    listings = [number * PAGES for number in range(tasks)]
    items = list(read_concurrently(listings, numbers, workers=workers, stop=threading.Event()))
    for task in listings:
        assert [item.page for item in items if item.task == task] == [*range(task, task + PAGES), None]
    assert len(items) == tasks * (PAGES + 1)


def test_an_error_ends_all_readers() -> None:
    def read(task: int) -> Iterator[int]:
        yield from numbers(task)
        if task:
            raise RuntimeError("torn")

    stop = threading.Event()
    with pytest.raises(RuntimeError, match="torn"):
        list(read_concurrently([0, 1, 2, 3], read, workers=4, stop=stop))
    assert stop.is_set()
    assert not readers()


def test_readers_end_when_the_pages_are_no_longer_consumed() -> None:
    items = read_concurrently([0, 1], numbers, workers=4, stop=threading.Event())
    next(items)
    assert isinstance(items, Iterator)
    items.close()  # type: ignore[attr-defined]
    assert not readers()
