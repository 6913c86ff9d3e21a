"""Reads several listings concurrently.

Each page of a listing contains the cursor of the next page, so one thread reads the pages of a listing in order.
Several threads read different listings. The pages go through a queue of limited length, so that memory does not grow
with the length of the listings.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Task = TypeVar("Task")
Page = TypeVar("Page")

CONCURRENT_LISTINGS = 8

QUEUED_PAGES = 8

STOP_SECONDS = 3.0
"""If the reading ends early, open requests have this long to finish. Their pages are dropped."""


@dataclass(frozen=True)
class Item(Generic[Task, Page]):
    """A page of a task. If `page` is None, the task has ended."""

    task: Task
    page: Page | None


def read_concurrently(
    tasks: Sequence[Task], read: Callable[[Task], Iterator[Page]], *, workers: int, stop: threading.Event
) -> Iterator[Item[Task, Page]]:
    """Every page of every task. The pages of one task are in order; those of different tasks are mixed.

    The first error of a task is raised and ends all tasks. If the reading ends early, `stop` is set, so that threads
    that wait for the rate limit give up.
    """
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    arrived: queue.Queue[Item[Task, Page] | BaseException] = queue.Queue(QUEUED_PAGES)
    abandoned = threading.Event()

    def deliver(what: Item[Task, Page] | BaseException) -> None:
        while not abandoned.is_set():
            try:
                arrived.put(what, timeout=0.2)
            except queue.Full:
                continue
            return

    def read_one(task: Task) -> None:
        for page in read(task):
            deliver(Item(task, page))
            if abandoned.is_set():
                return
        deliver(Item(task, None))

    def work() -> None:
        while not abandoned.is_set():
            try:
                task = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                read_one(task)
            except BaseException as error:
                deliver(error)
                return

    threads = [
        threading.Thread(target=work, name=f"klaviyo-listing-{number}", daemon=True)
        for number in range(min(workers, len(tasks)))
    ]
    for thread in threads:
        thread.start()
    ended = 0
    try:
        while ended < len(tasks):
            item = arrived.get()
            if isinstance(item, BaseException):
                raise item
            ended += item.page is None
            yield item
    finally:
        if ended < len(tasks):
            stop.set()
        abandoned.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
