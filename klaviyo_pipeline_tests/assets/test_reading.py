"""Listings read side by side: nothing is lost when a reader hands a part of its listing to another."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from klaviyo_pipeline.assets.reading import read_side_by_side

PAGES = 40


class Stretch:
    """Pages numbered from one number up to another; its end may be drawn in while it is read."""

    def __init__(self, first: int, end: int) -> None:
        self.next, self.end = first, end

    def read(self) -> Iterator[int]:
        while self.next < self.end:
            self.next += 1
            yield self.next - 1

    def half(self) -> Stretch | None:
        if self.end - self.next < 2:
            return None
        middle = (self.next + self.end) // 2
        rest, self.end = Stretch(middle, self.end), middle
        return rest


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("tasks", [1, 3])
def test_parts_bring_what_the_whole_would_once_and_each_tells_its_end(workers: int, tasks: int) -> None:
    for _ in range(50):
        parts: list[Stretch] = []

        def half(task: Stretch, parts: list[Stretch] = parts) -> Stretch | None:
            rest = task.half()
            if rest is not None:
                parts.append(rest)
            return rest

        whole = [Stretch(number * PAGES, (number + 1) * PAGES) for number in range(tasks)]
        items = list(read_side_by_side(whole, Stretch.read, workers=workers, stop=threading.Event(), part=half))
        assert sorted(item.page for item in items if item.page is not None) == list(range(tasks * PAGES))
        assert {item.task for item in items if item.page is None} == {*whole, *parts}
        assert sum(item.page is None for item in items) == tasks + len(parts)


def test_a_reader_without_a_task_is_given_a_part() -> None:
    parted = threading.Event()

    def read(task: str) -> Iterator[int]:
        # Until somebody comes for a part, this one does not end.
        while not parted.is_set():
            yield 1

    def part(task: str) -> str | None:
        if parted.is_set():
            return None
        parted.set()
        return "the rest"

    items = list(read_side_by_side(["all of it"], read, workers=2, stop=threading.Event(), part=part))
    assert sorted(item.task for item in items if item.page is None) == ["all of it", "the rest"]


def test_an_error_ends_readers_that_wait_for_a_part() -> None:
    def read(task: Stretch) -> Iterator[int]:
        yield 1
        raise RuntimeError("torn")

    stop = threading.Event()
    with pytest.raises(RuntimeError, match="torn"):
        list(read_side_by_side([Stretch(0, 9)], read, workers=4, stop=stop, part=lambda task: None))
    assert stop.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("klaviyo-listing")]


def test_readers_that_wait_for_a_part_end_when_nobody_reads_on() -> None:
    items = read_side_by_side([Stretch(0, 9)], Stretch.read, workers=4, stop=threading.Event(), part=lambda task: None)
    next(items)
    assert isinstance(items, Iterator)
    items.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("klaviyo-listing")]
