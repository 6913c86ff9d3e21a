"""Reads the pages of a listing or a report, from the first to the last, by following `links.next`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from klaviyo_pipeline.klaviyo.calls import Answer, Call, with_request_info
from klaviyo_pipeline.klaviyo.errors import CursorExpired, PaginationLoop
from klaviyo_pipeline.klaviyo.sender import Sender

# At the published rates, so many pages take hours. No account is that large, so a loop is more likely.
MOST_PAGES = 100_000

# How many consecutive pages may contain nothing new. A report may have fewer of them, because each page of a report
# takes half a minute and counts toward the daily quota.
STALE_PAGES = 100
STALE_REPORT_PAGES = 3


@dataclass(frozen=True)
class Turn:
    """One page as received. `restarted` is True if the listing has started again after an expired cursor.

    `number` is the number of the page, counted from 1. It continues after a restart, so a later page always has a
    higher number. `requests` counts the attempts for this page, including those that failed because a cursor had
    expired.
    """

    answer: Answer
    number: int
    restarted: bool
    requests: int


def iter_pages(sender: Sender, first: Call, *, restarts: int = 0) -> Iterator[Turn]:
    """The pages of a listing or a report, in order. `first` is the request for the first page.

    A cursor is valid for about three days. If it expires midway, the listing starts again at its first page, at most
    `restarts` times. Pages may then be returned twice, but no page is lost. Raises `PaginationLoop` for a link that was
    followed before, for too many pages without anything new, and for more than `MOST_PAGES` pages.
    """
    call, followed, restarted = first, set[str](), 0
    novelty = _Novelty(STALE_PAGES if first.data_kind is list else STALE_REPORT_PAGES)
    number = refused = 0
    while True:
        try:
            answer = sender.ask(call)
        except CursorExpired as expired:
            if call is first or restarted == restarts:
                raise
            refused += expired.attempts
            call, followed, restarted = first, set(), restarted + 1
            novelty = _Novelty(novelty.most)
            continue
        number += 1
        novelty.check(answer.body, first.endpoint.name)
        yield Turn(answer, number, restarted > 0, refused + answer.attempts)
        refused = 0
        link = next_link(answer.body)
        if link is None:
            return
        with with_request_info(answer, first.endpoint):
            url = sender.origin.follow(link, call.url)
        if url in followed or number >= MOST_PAGES:
            raise PaginationLoop(
                f"The listing does not end: page {number} links to "
                f"{'an earlier page' if url in followed else 'yet another page'}. Run again later.",
                endpoint=first.endpoint.name,
            )
        followed.add(url)
        call = first.at(url)


@dataclass
class _Novelty:
    """Counts consecutive pages that contain nothing new. At most `most` of them are allowed."""

    most: int
    stale: int = 0
    seen: set[str] = field(default_factory=set)

    def check(self, document: Mapping[str, object], endpoint: str) -> None:
        """Raises `PaginationLoop` if more than `most` consecutive pages contain nothing new."""
        here = set(_names(document.get("data")))
        self.stale = 0 if here - self.seen else self.stale + 1
        self.seen |= here
        if self.stale > self.most:
            raise PaginationLoop(
                f"The listing does not end: {self.stale} consecutive pages contain nothing new. Run again later.",
                endpoint=endpoint,
            )


def _names(data: object) -> Iterator[str]:
    """Texts that identify the resources of a listing or the results of a report."""
    attributes = data.get("attributes") if isinstance(data, Mapping) else None
    results = attributes.get("results") if isinstance(attributes, Mapping) else None
    for one in data if isinstance(data, list) else results if isinstance(results, list) else []:
        yield repr((one.get("id"), one.get("groupings")) if isinstance(one, Mapping) else one)


def next_link(document: Mapping[str, object]) -> object:
    """The link to the next page; None on the last page."""
    links = document.get("links")
    return links.get("next") if isinstance(links, Mapping) else None


def data_list(answer: Answer) -> list[object]:
    """The resources of a listing's page."""
    data = answer.body["data"]
    assert isinstance(data, list)
    return data
