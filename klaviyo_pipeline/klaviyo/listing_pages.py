"""Reads a listing completely, even if its cursors are imprecise or its links are missing.

Listings can lose objects in two ways. First, a cursor may contain a time in whole seconds but no id (seen in recorded
responses of forms). The next page then skips or repeats objects that share the second of the page's last object.
Second, a response may have no `links` although the listing has more pages.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from klaviyo_pipeline.klaviyo.calls import Answer, Call, with_request_info
from klaviyo_pipeline.klaviyo.children import Inclusion, inclusion_of
from klaviyo_pipeline.klaviyo.errors import IndistinctObjects
from klaviyo_pipeline.klaviyo.listing_query import ListingQuery
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.paging import Turn, data_list, iter_pages, next_link
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.klaviyo.sender import Sender
from klaviyo_pipeline.klaviyo.sorting import SortMonitor

# How often a listing starts again after an expired cursor. If a cursor expires a third time, the listing is unlikely to
# finish in this run.
RESTARTS = 2

BY_ID = "id"
BACKWARDS = "-id"


@dataclass(frozen=True)
class Page:
    """One page of a listing, observed at `observed_at` (UTC).

    `requests` counts the attempts for this page. `restarted` is True if the listing has started again after an expired
    cursor: the page may then repeat records. `next` is the link to the next page; None on the last page. `has_links` is
    False if the answer has no `links`.
    """

    records: list[Record]
    observed_at: datetime
    requests: int
    restarted: bool = False
    next: str | None = None
    has_links: bool = True

    @property
    def is_border_exact(self) -> bool:
        """Whether the next page is known to begin directly after the last object of this page.

        True if the cursor contains the id of that object, if no page follows, or if this page is empty.
        """
        return self.next is None or not self.records or self.records[-1].id in _cursor_parts(self.next)


def _cursor_parts(link: str) -> set[str]:
    """The parts of a link's cursor: base64 of, for example, `next::updated::2026-01-01 10:00:00::id::AbCdEf`."""
    cursor = parse_qs(urlsplit(link).query).get("page[cursor]", [""])[0]
    try:
        written = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        written = cursor
    return set(re.split(r"::|[^\w.~-]+", written))


@dataclass
class _Seen:
    """The objects that were read so far. `ids` are their ids.

    `recent` are the records of the last page (and of the requests for its last second), which the next page may repeat.
    `seconds` are the queries that were already sent for the objects of a single second.
    """

    ids: set[str] = field(default_factory=set)
    seconds: set[ListingQuery] = field(default_factory=set)
    recent: dict[str, Record] = field(default_factory=dict)

    def new(self, page: Page) -> Page:
        """The page with only the records whose ids were not read before. They count as read from now on."""
        records = [record for record in page.records if record.id not in self.ids]
        self.ids.update(record.id for record in records)
        self.recent |= {record.id: record for record in page.records}
        return replace(page, records=records)

    def not_repeated(self, page: Page) -> Page:
        """The page without records that are equal to those in `recent`. A page after a restart keeps all records."""
        records = [one for one in page.records if page.restarted or self.recent.get(one.id) != one]
        self.recent = {record.id: record for record in page.records}
        self.ids.update(self.recent)
        return replace(page, records=records)


Completion = Callable[[Sequence[object], Answer], Inclusion]
"""Takes the objects of an answer, and the answer. Requests the resources that the objects need and the answer lacks.

Returns them together with the resources that the answer includes.
"""


def as_included(data: Sequence[object], answer: Answer) -> Inclusion:
    """The resources that an answer includes, without further requests."""
    return inclusion_of(answer)


@dataclass(frozen=True)
class ListingReader:
    """Reads queries of one listing, whose address is `url`. `complete` requests related resources that an answer lacks.

    `_ahead` are the queries that are read ahead, with their pages.
    """

    sender: Sender
    url: str
    listing: Listing
    complete: Completion = as_included
    _ahead: dict[ListingQuery, Future[list[Turn]]] = field(default_factory=dict)

    def read_ahead(self, query: ListingQuery, pool: Executor) -> None:
        """Starts to request all pages of this query in `pool`. They are kept in memory until `read` returns them."""
        self._ahead[query] = pool.submit(lambda: list(self._turns(query)))

    def read(self, query: ListingQuery) -> Iterator[Page]:
        """The pages of the query, up to its last page or its end (`until`).

        If the listing is sorted by time and a cursor does not contain the id of its page's last object, the objects
        with the same time as that object (in whole seconds) are requested separately.

        If the last page is full, its link may be missing. The listing is then queried again for the objects after that
        page: in reverse order if it is sorted by id, and from the time of the last object on if it is sorted by time.
        Raises `IndistinctObjects` if objects may still be missing.
        """
        return self._read(query, _Seen())

    def _read(self, query: ListingQuery, seen: _Seen, *, beyond: bool = False) -> Iterator[Page]:
        """See `read`. With `beyond`, the pages contain only new records."""
        monitor, page, known = SortMonitor(query.until), None, 0
        for page in self._linked(query):
            known = len(seen.ids)
            yield seen.new(page) if beyond else seen.not_repeated(page)
            monitor.add([record.updated_at for record in page.records])
            if monitor.is_passed:
                return
            if query.sort not in (BY_ID, None) and not page.is_border_exact:
                yield from self._same_second(query, page, seen, frozenset({str(query.sort)}))
        if page is None or len(page.records) < query.page_size:
            return
        if query.sort == BY_ID:
            yield from self._backwards(query, seen)
        elif query.sort is None:
            # If the listing has no order, only a link can lead to the objects after a full page.
            if not page.has_links:
                raise self._indistinct()
        elif len(seen.ids) > known:
            further = self.listing.from_second_of(query, page.records[-1], page.observed_at)
            yield from () if further is None else self._read(further, seen, beyond=True)
        elif not page.has_links:
            raise self._indistinct()

    def _same_second(self, query: ListingQuery, page: Page, seen: _Seen, pinned: frozenset[str]) -> Iterator[Page]:
        """The objects with the time of the page's last object, in whole seconds, in every time field in `pinned`.

        `pinned` are the time fields that `query` is sorted by or already limits to one second.
        """
        last = page.records[-1]
        if self.listing.time_operators[1] is None:
            yield from self._from_second_of(query, last, page.observed_at, seen)
            return
        tied = self.listing.same_second_as(query, last, page.observed_at)
        if tied is None or tied in seen.seconds:
            return
        seen.seconds.add(tied)
        own, were_promised = set[str](), False
        for each in self._linked(tied):
            yield seen.new(each)
            ids = {record.id for record in each.records}
            if tied.sort is not None and tied.sort not in pinned:
                if not each.is_border_exact:
                    yield from self._same_second(tied, each, seen, pinned | {tied.sort})
            elif were_promised and ids <= own and not each.restarted:
                raise self._indistinct()
            own, were_promised = own | ids, each.next is not None

    def _from_second_of(self, query: ListingQuery, last: Record, now: datetime, seen: _Seen) -> Iterator[Page]:
        """One page of objects from the time of `last` on (in whole seconds), for an endpoint without an upper bound.

        Further pages are not read, because they would repeat the rest of the listing.
        """
        further = self.listing.from_second_of(query, last, now)
        if further is not None:
            page = next(self._linked(further))
            yield seen.new(page)
            if page.next is not None and page.records and self.listing.is_same_second(query, page.records[-1], last):
                raise self._indistinct()

    def _backwards(self, query: ListingQuery, seen: _Seen) -> Iterator[Page]:
        """The objects after the last page of a listing by id, read in reverse order up to an object already read."""
        page = None
        for page in self._linked(replace(query, sort=BACKWARDS)):
            new = seen.new(page)
            yield new
            if len(new.records) < len(page.records):
                return
        if page is None or len(page.records) < query.page_size:
            return
        # The listing in reverse order may also have ended too early. A listing sorted by time can go on without links,
        # from the time of a page's last object.
        if self.listing.created_field is None:
            raise self._indistinct()
        yield from self._read(replace(query, sort=self.listing.created_field), _Seen())

    def _linked(self, query: ListingQuery) -> Iterator[Page]:
        """The pages of a query, by following the links."""
        ahead = self._ahead.pop(query, None)
        for turn in self._turns(query) if ahead is None else ahead.result():
            answer = turn.answer
            inclusion = self.complete(data_list(answer), answer)
            with with_request_info(answer, self.listing.list_endpoint):
                records = [
                    self.listing.record(one, query.stamp, inclusion.included, clean=inclusion.clean)
                    for one in data_list(answer)
                ]
            link, has_links = next_link(answer.body), isinstance(answer.body.get("links"), Mapping)
            following = None if link is None else str(link)
            requests = turn.requests + inclusion.requests
            yield Page(records, inclusion.observed_at, requests, turn.restarted, following, has_links)

    def _turns(self, query: ListingQuery) -> Iterator[Turn]:
        return iter_pages(self.sender, Call(self.listing.list_endpoint, self.url, query.params), restarts=RESTARTS)

    def _indistinct(self) -> IndistinctObjects:
        return IndistinctObjects(
            f"The listing of {self.listing.entity} may be incomplete: more objects share one second than fit on a "
            "page, or a response has no links. Run again later.",
            endpoint=self.listing.list_endpoint.name,
        )
