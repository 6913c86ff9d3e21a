"""Reads several listings side by side.

A listing's pages hang on one another's cursors, so a single one is as slow as its answers; independent ones are
read by a thread each. Pages arrive through a queue of bounded length, so that fetching runs ahead of writing only so
far, and memory stays the same however long the listings are.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Task = TypeVar("Task")
Page = TypeVar("Page")

LISTINGS_SIDE_BY_SIDE = 8

QUEUED_PAGES = 8

STOP_SECONDS = 3.0
"""How long readers that are in the middle of a request are waited for; what they still bring is dropped."""


@dataclass(frozen=True)
class Item(Generic[Task, Page]):
    """A page of a task, or (`page` None) word that the task has ended."""

    task: Task
    page: Page | None


class _Tasks(Generic[Task]):
    """What is to be read, and which readers have nothing to do."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.count = len(tasks)
        self._waiting = deque(tasks)
        self._unread = len(tasks)
        self._idle = 0
        self._abandoned = False
        self._changed = threading.Condition()

    def take(self) -> Task | None:
        """A task to read, waited for as long as one that is being read may yet be parted; None if none will come."""
        with self._changed:
            self._idle += 1
            while not self._waiting and self._unread and not self._abandoned:
                self._changed.wait()
            self._idle -= 1
            return self._waiting.popleft() if self._waiting and not self._abandoned else None

    @property
    def are_wanted(self) -> bool:
        """Whether a reader waits for which there is no task."""
        return self._idle > len(self._waiting)

    def add(self, task: Task) -> None:
        """A part of a task that has not ended yet."""
        with self._changed:
            self.count += 1
            self._unread += 1
            self._waiting.append(task)
            self._changed.notify()

    def ended(self) -> None:
        with self._changed:
            self._unread -= 1
            self._changed.notify_all()

    def abandon(self) -> None:
        """No reader takes another task."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()


def read_side_by_side(
    tasks: Sequence[Task],
    read: Callable[[Task], Iterator[Page]],
    *,
    workers: int,
    stop: threading.Event,
    part: Callable[[Task], Task | None] | None = None,
) -> Iterator[Item[Task, Page]]:
    """Every page of every task, in order within a task; the first error of any of them ends all.

    `stop` is set when the reading ends early, so that a thread that waits for its turn gives up. `part` is asked after
    a page, while a reader has nothing to do, for what another may read of this task; it is called by the thread that
    reads it, and a part is a task like any other.
    """
    all_tasks = _Tasks(tasks)
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
            parted = part(task) if part is not None and all_tasks.are_wanted else None
            if parted is not None:
                all_tasks.add(parted)
            deliver(Item(task, page))
            if abandoned.is_set():
                return
        deliver(Item(task, None))

    def work() -> None:
        while not abandoned.is_set() and (task := all_tasks.take()) is not None:
            try:
                read_one(task)
            except BaseException as error:
                deliver(error)
                return
            all_tasks.ended()

    threads = [
        threading.Thread(target=work, name=f"klaviyo-listing-{number}", daemon=True)
        for number in range(workers if part is not None else min(workers, len(tasks)))
    ]
    for thread in threads:
        thread.start()
    ended = 0
    try:
        # A part is counted before the task that it was taken from can end.
        while ended < all_tasks.count:
            item = arrived.get()
            if isinstance(item, BaseException):
                raise item
            ended += item.page is None
            yield item
    finally:
        if ended < all_tasks.count:
            stop.set()
        abandoned.set()
        all_tasks.abandon()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
